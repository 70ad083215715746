"""How good a lens is, against plain references and limits."""

import numpy as np
import pytest
import torch

from backend.lens.lens import LogitLens, TunedLens
from backend.lens.quality import Place, Read, frequencies, quality, read
from backend.models.kl import kl_reference
from backend.models.residuals import record_residuals

TEXT = list(range(3, 23))
POSITIONS = (4, 7, 19)


def uniform(loaded) -> np.ndarray:
    return np.full(loaded.vocab_size, -np.log(loaded.vocab_size))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_model_itself_is_no_nat_away_from_itself(tiny, family):
    loaded = tiny(family)
    found = read(loaded, LogitLens(), TEXT, POSITIONS, layers=[0, 3], baseline=uniform(loaded))
    assert (found.kl[1] == 0).all() and found.agrees[1].all() and (found.kl[0] > 0).all()


def test_kl_and_baseline_are_those_of_the_whole_distributions(tiny):
    """The reference is the model's own forward pass, and transformers' hidden states: those of block 1 stand at 2."""
    loaded = tiny("llama")
    baseline = frequencies([5, 5, 6, 9], loaded.vocab_size)
    found = read(loaded, LogitLens(), TEXT, POSITIONS, layers=[1], baseline=baseline)
    with torch.inference_mode():
        whole = loaded.model(torch.tensor([TEXT]), output_hidden_states=True)
        early = loaded.model.lm_head(loaded.model.model.norm(whole.hidden_states[2]))
    own, early = whole.logits[0, list(POSITIONS)], early[0, list(POSITIONS)]
    assert np.allclose(found.kl[0], kl_reference(own, early), rtol=1e-5)
    assert np.allclose(found.baseline, kl_reference(own, torch.from_numpy(baseline).expand(3, -1)), rtol=1e-6)
    assert found.agrees[0].tolist() == (own.argmax(-1) == early.argmax(-1)).tolist()


def test_a_lens_is_read_at_the_layer_that_it_is_of(tiny):
    """A map that moves layer 2 to the last block's output at one position makes it exact there."""
    loaded = tiny("llama")
    streams = record_residuals(loaded, TEXT, [2, 3])
    moved = (streams[3] - streams[2])[7]
    lens = TunedLens(4, {2: (torch.zeros(64, 64), moved)})
    found = read(loaded, lens, TEXT, POSITIONS, layers=[2, 3], baseline=uniform(loaded))
    assert found.kl[0, 1] < 1e-6 < found.kl[0, 0] and not found.kl[1].any()


def test_what_was_never_seen_has_the_mass_of_what_was_seen_once():
    log_q = frequencies([1, 1, 1, 2], 10)
    q = np.exp(log_q)
    assert q.sum() == pytest.approx(1) and q[0] == pytest.approx(0.25 / 10) and q[1] == pytest.approx(0.75**2 + 0.025)
    assert np.allclose(np.exp(frequencies([], 4)), 0.25)
    assert np.isfinite(frequencies([1, 1], 4)).all()


def reads() -> tuple[list[Read], list[Place]]:
    """Two problems, three kinds of position; the lens is 1 nat from the model at layer 0, and 0 at layer 1."""
    one = Read(np.array([[1.0, 1.0], [0, 0]]), np.array([[True, False], [True, True]]), np.array([3.0, 3.0]))
    other = Read(np.array([[1.0], [0]]), np.array([[False], [True]]), np.array([0.5]))
    return [one, other], [Place("p", "cot"), Place("p", "prompt"), Place("q", "cot")]


def test_quality_is_told_by_layer_and_kind_of_position_each_position_once():
    rows = quality(*reads(), layers=[0, 5], seed=0)
    assert [(row["layer"], row["positions"]) for row in rows] == [
        (layer, kind) for kind in ("all", "prompt", "cot") for layer in (0, 5)
    ]
    every = rows[0]
    assert (every["kl"], every["ci_low"], every["ci_high"]) == (1, 1, 1)
    assert every["baseline"] == pytest.approx(6.5 / 3) and every["gain"] == pytest.approx(3.5 / 3)
    assert (every["n_tokens"], every["n_problems"], every["agrees"]) == (3, 2, pytest.approx(1 / 3))
    assert every["gain_low"] == -0.5 and every["gain_high"] == 2, "problem q is no better than the baseline"
    assert rows[1]["kl"] == 0 and rows[1]["agrees"] == 1


def test_of_one_problem_no_interval_is_known():
    of_prompt = quality(*reads(), layers=[0, 5], seed=0)[2]
    assert of_prompt["kl"] == 1 and of_prompt["ci_low"] is of_prompt["gain_low"] is None
