"""What has a model makes its tensors on the model's device and brings its results back: the CPU's numbers come out.

One family whose edits share a prefix (llama), one that takes the plain way (gemma2).
"""

import numpy as np
import pytest
import torch

from backend.crosscoder.ablations import CodedText, target_changes
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.feature_interventions import FeatureIntervention
from backend.crosscoder.readout import promoted
from backend.crosscoder.splicing import spliced_losses
from backend.crosscoder.train import Settings, Trainer
from backend.geometry.before_after import before_after_cot
from backend.geometry.directions import per_chunk
from backend.geometry.fisher import LocalMetric, fisher_cot
from backend.geometry.sweep import Predictions, sweep_cot
from backend.lens.forced_answers import Chain, answer_readings
from backend.lens.lens import LogitLens
from backend.models.edits import encode
from backend.models.interventions import OPERATIONS, Gate, Intervention
from backend.models.loading import load_model
from backend.models.residuals import chunk_activations, record_residuals
from backend.models.sampling import SampleRequest, SamplingParameters, sample
from backend.models.streaming import Arm, stream
from tests.checking_device import DEVICE, checking

IDS, SPANS = tuple(range(3, 23)), {"a": (4, 10), "b": (10, 20)}
DICED, SURE = (SamplingParameters(temperature, 0.95, 3) for temperature in (1.0, 0.01))


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def along(loaded):
    return per_chunk({"a": unit(0), "b": unit(1)}, model_id=loaded.model_id, layer=2).made


def push(operation="add", place="onward"):
    return Intervention((2,), place, operation, unit(2), 2.0, gate=Gate(unit(3), 0.0, "it leans")).edits(
        SPANS["b"], n_prompt=4
    )


def dictionary_of_one() -> Dictionary:
    rows = torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(5))
    zeros = {"encoder_bias": torch.zeros(8), "decoder_bias": torch.zeros(1, 64), "scale": torch.ones(1)}
    kept = {"threshold": None, "k": None, "weighted": False, "subtract": False}
    return Dictionary(kind="relu", encoder=rows.transpose(1, 2), decoder=rows, **zeros, **kept)


def residuals(loaded):
    return chunk_activations(record_residuals(loaded, IDS, [1])[1], list(SPANS.values())).mean.cpu()


def operations(loaded):
    return encode(loaded, IDS).logits([push(operation, "chunk") for operation in OPERATIONS], [3, 12]).cpu()


def swept(loaded):
    return [row["kl"] for row in sweep_cot(loaded, IDS, SPANS, along(loaded), layers=[2], betas=(-2, 0, 1)).kl_curves]


def fisher(loaded):
    return [row["fisher_steepness"] for row in fisher_cot(loaded, IDS, SPANS, along(loaded), layers=[2])]


def products_of_g(loaded):
    return LocalMetric(encode(loaded, IDS), SPANS["a"], 2).products([unit(4)], "anchor")


def before_and_after(loaded):
    rows = before_after_cot(loaded, IDS, SPANS, along(loaded), n_prompt=4, answer_spans=(18, 20), betas=(-1.0, 1.0))
    return [row["kl_answer"] or 0.0 for row in rows]


def sampled(loaded):
    wanted = [SampleRequest(f"{name}{seed}", name, len(IDS), seed) for name in ("plain", "pushed") for seed in (1, 2)]
    found = sample(loaded, {"plain": IDS, "pushed": IDS}, wanted, DICED, edits={"pushed": push()})
    return [token for one in sorted(found, key=lambda one: one.request_id) for token in one.token_ids]


def streamed(loaded):
    return [pair.base.kl for pair in stream(loaded, Arm(IDS), Arm(IDS, tuple(push())), DICED, seed=3) if pair.base]


def features(loaded):
    dictionary = dictionary_of_one()
    edit = FeatureIntervention(dictionary, 0, 2, "scale", (1, 2), factor=2.0).everywhere(len(IDS))
    text = CodedText("t", IDS, (8, 12), np.array([3, 5]), np.array([1, 2]), np.ones(2, np.float32))
    changes = target_changes(loaded, dictionary, 0, 2, text, [(1, 2)])
    losses = spliced_losses(loaded, IDS, 4, 2, torch.ones(len(IDS) - 1, 64), torch.zeros(64))
    tokens = promoted(dictionary.decoder[0], loaded, 3)
    return np.concatenate(
        [
            encode(loaded, IDS).logits([edit], [12]).cpu().flatten(),
            changes.change.flatten(),
            [losses.spliced, losses.zeroed, losses.averaged],
            tokens.top_effects.flatten(),
        ]
    )


def answers(loaded):
    chain = Chain("What is 12 + 30? ", "It is 42. So 42.", None, ((0, 10), (10, 16)))
    found = answer_readings(loaded, chain, ("42", "7"), {"logit": (LogitLens(), (1, 3))})
    return [one.logprob for one in found]


WAYS = (residuals, operations, swept, fisher, products_of_g, before_and_after, sampled, streamed, features, answers)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_gives_the_cpus_numbers(family, way, tiny, tiny_folder, there):
    with checking():
        found = way(there(family))
    assert np.allclose(np.asarray(found), np.asarray(way(tiny(family))), rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="module")
def there(tiny_folder):
    made = {}

    def loaded(family):
        if family not in made:
            made[family] = load_model(str(tiny_folder(family)), device=DEVICE)
        return made[family]

    return loaded


@pytest.mark.parametrize("kind", ["batchtopk", "l1"])
def test_a_crosscoder_is_trained_there_and_comes_back(kind):
    def trained(device):
        trainer = Trainer(Settings(2, 8, 16, kind=kind, k=2, steps=3, batch=16, warmup=1, dead_after=8), device=device)
        draw = torch.Generator().manual_seed(0)
        for _ in range(3):
            trainer.step(torch.randn(16, 2, 8, generator=draw).to(device))
        return trainer.dictionary(torch.ones(2), {}).decoder

    with checking():
        found = trained(DEVICE)
    assert torch.allclose(found, trained("cpu"), atol=1e-5)


def test_a_token_and_a_batch_of_kls_wait_for_the_device_a_stated_number_of_times(there):
    """Drawing: are the logits finite, must the whole vocabulary be sorted, which tokens. A batch of KLs: is it finite
    and how large, which rows are too faint.
    """
    one = [SampleRequest("r", "s", len(IDS), 1)]
    with checking() as waits:
        loaded = there("llama")
        in_steps: list[int] = []
        list(sample(loaded, {"s": IDS}, one, SURE, should_stop=lambda: in_steps.append(waits.total())))
        base = Predictions(encode(loaded, IDS), [8, 9])
        steered = base._encoded.normed[[8, 9]].repeat(5, 1, 1) * 1.1
        waits.clear()
        base.kl_of(steered)
    assert max(np.diff(in_steps)) <= 3 and waits.total() <= 2


def test_a_sweep_waits_as_often_for_many_magnitudes_as_for_few(there):
    """A batch of rows is asked once what moves, whether it is finite, and what it comes to."""

    def waits_for(n: int) -> int:
        with checking() as waits:
            loaded = there("llama")
            directions = along(loaded)
            sweep_cot(loaded, IDS, SPANS, directions, layers=[2], betas=(0.0,))  # what is asked once a model
            waits.clear()
            sweep_cot(loaded, IDS, SPANS, directions, layers=[2], betas=np.linspace(-1, 1, n))
            return waits.total()

    assert waits_for(3) == waits_for(9)


def test_a_step_of_training_waits_a_stated_number_of_times():
    """Which codes are kept, above which threshold, which features are silent, which of these act, and what is told."""
    with checking() as waits:
        trainer = Trainer(Settings(2, 8, 64, k=2, steps=9, batch=64, warmup=1, dead_after=8), device=DEVICE)
        draw = torch.Generator().manual_seed(0)
        for _ in range(9):
            batch = torch.randn(64, 2, 8, generator=draw).to(DEVICE)
            waits.clear()
            measured = trainer.step(batch)
            assert waits.total() <= 5
    assert measured.dead > 0  # so that the auxiliary loss took part
