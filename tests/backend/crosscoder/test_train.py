"""Training: gradients are autograd's, a stopped training goes on bit for bit, and planted features are found and told
apart.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.crosscoder import train
from backend.crosscoder.diff import LatentScaling, classify, nrn
from backend.crosscoder.train import CrosscoderTrainingError, Settings, Trainer

SETTINGS = Settings(
    n_models=2, width=6, n_features=20, k=3, batch=32, steps=50, warmup=5, dead_after=64, aux_k=4, penalty=0.3
)


def batch(seed=0, n=32, settings=SETTINGS):
    return torch.randn(n, settings.n_models, settings.width, generator=torch.Generator().manual_seed(seed))


def reference_loss(trainer, a, kept):
    """The loss as DEFINITIONS writes it, dense and traced. `kept` (n,
    n_features) marks the codes that batchtopk keeps."""
    own = trainer.settings
    flat = a.reshape(len(a), -1)
    f = torch.relu(flat @ trainer.encoder.t() + trainer.encoder_bias)
    f = f * kept
    error = f @ trainer.decoder + trainer.decoder_bias - flat
    loss = error.square().sum() / len(a)
    norms = trainer.decoder.view(own.n_features, own.n_models, own.width).norm(dim=2).sum(1)
    if own.kind == "l1":
        loss = loss + own.penalty * (f * norms).sum() / len(a)
    return loss, f, error


def kept_by_sorting(trainer, a):
    own = trainer.settings
    with torch.no_grad():
        f = torch.relu(a.reshape(len(a), -1) @ trainer.encoder.t() + trainer.encoder_bias)
        if own.kind == "l1":
            return torch.ones_like(f)
        gate = f * trainer.decoder.view(own.n_features, own.n_models, own.width).norm(dim=2).sum(1)
        bound = gate.flatten().sort(descending=True).values[len(a) * own.k - 1]
        return (gate >= bound).float()


@pytest.mark.parametrize("kind", ["batchtopk", "l1"])
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_are_those_of_autograd(kind, dense, monkeypatch):
    monkeypatch.setattr(train, "_DENSE", 0.0 if dense else 1.0)
    settings = replace(SETTINGS, kind=kind, penalty_warmup=0.0, aux=0.0)
    trainer, a = Trainer(settings), batch()
    for number in range(3):  # away from the tied beginning
        trainer.step(batch(number + 1))
    kept = kept_by_sorting(trainer, a)
    loss, f, _ = reference_loss(trainer, a, kept)
    expected = torch.autograd.grad(loss, trainer.parameters)
    with torch.no_grad():
        found, measured = trainer.gradients(a.reshape(len(a), -1))
    assert measured.loss == pytest.approx(loss.item(), rel=1e-5)
    assert measured.l0 == pytest.approx((f > 0).sum().item() / len(a))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_our_loss_is_crosscoder_learnings_times_the_number_of_models_and_its_penalty_ours_over_it():
    """Its loss is the mean over tokens *and models* of squared distances plus l1_penalty times the mean over tokens of
    weighted codes.
    """
    settings = replace(SETTINGS, kind="l1", penalty_warmup=0.0, aux=0.0)
    trainer, a = Trainer(settings), batch()
    with torch.no_grad():
        measured = trainer.gradients(a.reshape(len(a), -1))[1]
        dictionary = trainer.dictionary(torch.ones(2), {})
        codes = dictionary.encode(a)
        mse = (a - dictionary.decode(codes)).pow(2).sum(dim=-1).mean()
        weighted = (codes * dictionary.decoder.norm(dim=2).sum(0)).sum(dim=-1).mean()
    assert measured.loss == pytest.approx(2 * (mse + settings.penalty / 2 * weighted).item(), rel=1e-5)


def test_dead_features_learn_what_the_others_leave_over():
    settings = replace(SETTINGS, aux=0.5)
    trainer, a = Trainer(settings), batch()
    trainer.silent[:10] = 10_000
    kept = kept_by_sorting(trainer, a)
    kept[:, :10] = 0
    with torch.no_grad():
        trainer.encoder_bias[:10] = -0.3  # so that they are not among the kept ones
        trainer.encoder[:10] *= 0.2
    kept = kept_by_sorting(trainer, a)
    assert kept[:, :10].sum() == 0
    loss, _, error = reference_loss(trainer, a, kept)
    f = torch.relu(a.reshape(len(a), -1) @ trainer.encoder.t() + trainer.encoder_bias)[:, :10]
    top = torch.zeros_like(f).scatter(1, f.topk(4, dim=1).indices, 1.0)
    left = (f * top) @ trainer.decoder[:10] + error.detach()
    loss = loss + 0.5 * left.square().sum() / error.detach().square().sum()
    expected = torch.autograd.grad(loss, trainer.parameters)
    with torch.no_grad():
        found, measured = trainer.gradients(a.reshape(len(a), -1))
    assert measured.loss == pytest.approx(loss.item(), rel=1e-5) and measured.dead == 0.5
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_kept_codes_are_the_largest_of_the_batch_whatever_was_kept_before():
    trainer = Trainer(SETTINGS)
    for number in range(6):
        a = batch(number)
        trainer.threshold *= (0.0, 1.0, 100.0)[number % 3]  # no guess, a good one, one that is far too high
        kept = kept_by_sorting(trainer, a)
        _, measured = trainer.gradients(a.reshape(len(a), -1).detach())
        assert measured.l0 == kept.sum().item() / len(a) == SETTINGS.k
        trainer.step(a)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped():
    whole = Trainer(SETTINGS)
    for number in range(8):
        whole.step(batch(number))
    begun = Trainer(SETTINGS)
    for number in range(5):
        begun.step(batch(number))
    resumed = Trainer(replace(SETTINGS))
    resumed.restore(begun.tensors())
    for number in range(5, 8):
        resumed.step(batch(number))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name


def test_activations_of_another_shape_or_not_finite_are_refused():
    trainer = Trainer(SETTINGS)
    with pytest.raises(CrosscoderTrainingError, match=r"shape \(4, 1, 6\), expected \(n, 2, 6\)"):
        trainer.step(torch.zeros(4, 1, 6))
    with pytest.raises(CrosscoderTrainingError, match="not finite"):
        trainer.step(torch.full((32, 2, 6), float("nan")))


def planted(n, rng, width=48, shared=24, own=12):
    """Activations of sparse true features: shared ones (a direction in each model),
    base-only and distilled-only ones."""
    truth = rng.normal(size=(shared + 2 * own, 2, width))
    truth /= np.linalg.norm(truth, axis=2, keepdims=True)
    truth[shared : shared + own, 1] = 0
    truth[shared + own :, 0] = 0
    codes = (rng.random((n, len(truth))) < 0.05) * rng.uniform(0.5, 1.5, size=(n, len(truth)))
    return truth, np.einsum("nk,kmd->nmd", codes, truth) * np.sqrt(width)


def test_planted_features_are_recovered_and_told_apart():
    """k is a little below the true 2.4 codes a token: a dictionary that may use more codes than there are splits
    features.
    """
    shared, own, width, n_features = 24, 12, 48, 64
    truth, activations = planted(40_000, np.random.default_rng(0), width, shared, own)
    data = torch.tensor(activations, dtype=torch.float32)
    sizes = {"n_models": 2, "width": width, "n_features": n_features, "k": 2, "batch": 1024}
    trainer = Trainer(Settings(**sizes, steps=700, warmup=50, learning_rate=3e-3, dead_after=20_000, aux_k=16))
    for step in range(trainer.settings.steps):
        measured = trainer.step(data[torch.randint(len(data), (1024,), generator=torch.Generator().manual_seed(step))])
    assert min(measured.variance_explained) > 0.9
    dictionary = trainer.dictionary(torch.ones(2), {})
    joined, true = (
        rows.reshape(len(rows), -1) / np.linalg.norm(rows.reshape(len(rows), -1), axis=1, keepdims=True)
        for rows in (dictionary.decoder.permute(1, 0, 2).numpy(), truth)
    )
    cosines = true @ joined.T
    assert (cosines.max(1) > 0.9).mean() >= 0.95
    scaling = LatentScaling(dictionary)
    for part in data.split(4096):
        scaling.add(part, dictionary.encode(part))
    found = scaling.statistics()
    classes = classify(nrn(dictionary, order=2), found.nu_eps, found.nu_r)
    said = classes[cosines.argmax(1)]
    places = {
        "shared": slice(shared),
        "base only": slice(shared, shared + own),
        "distilled only": slice(shared + own, None),
    }
    for name, where in places.items():
        right = (said[where] == name).sum()
        assert 2 * right / ((said == name).sum() + len(said[where])) >= 0.95, name  # F1


def test_the_dictionary_keeps_the_codes_that_training_kept():
    trainer = Trainer(replace(SETTINGS, steps=300))
    for number in range(300):
        trainer.step(batch(number, n=512))
    a = batch(999, n=4096)
    codes = trainer.dictionary(torch.ones(2), {"layer": 1}).encode(a)
    assert (codes > 0).sum().item() / len(a) == pytest.approx(SETTINGS.k, rel=0.15)
