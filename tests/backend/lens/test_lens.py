"""The model itself is the last row of every lens."""

import pytest
import torch

from backend.lens.kinds import LENSES, LensError
from backend.lens.lens import JacobianLens, LogitLens, Readout, TunedLens
from backend.models.residuals import record_residuals

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2", "gemma2")
TEXT = list(range(3, 20))


def everywhere(loaded):
    layers = range(loaded.n_layers)
    eye = torch.eye(loaded.d_model)
    return (
        LogitLens(),
        TunedLens(loaded.n_layers, {layer: (0.1 * eye, torch.ones(loaded.d_model)) for layer in layers}),
        JacobianLens(loaded.n_layers, {layer: 2 * eye for layer in layers}),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_row_of_every_lens_is_the_model_itself_bit_for_bit(tiny, family):
    loaded = tiny(family)
    with torch.inference_mode():
        own = loaded.model(torch.tensor([TEXT])).logits[0].log_softmax(-1)
    last = loaded.n_layers - 1
    residual = record_residuals(loaded, TEXT, [last])[last]
    for lens in everywhere(loaded):
        assert torch.equal(Readout(loaded).log_probs(lens, residual, last), own), lens.kind


def test_lenses_carry_a_stream_by_their_formulas(tiny):
    loaded = tiny("llama")
    stream = torch.randn(4, loaded.d_model, generator=torch.Generator().manual_seed(0))
    logit, tuned, jacobian = everywhere(loaded)
    assert torch.equal(logit.carried(stream, 0), stream)
    assert torch.allclose(tuned.carried(stream, 0), 1.1 * stream + 1)
    assert torch.allclose(jacobian.carried(stream, 0), 2 * stream)


def test_a_layer_that_a_lens_does_not_read_is_refused():
    with pytest.raises(LensError, match="does not read layer 1; it reads 0 and the last one"):
        JacobianLens(3, {0: torch.eye(2)}).carried(torch.ones(2), 1)


def test_a_layer_where_the_fit_gained_nothing_is_read_as_it_stands():
    lens = TunedLens(2, {}, identity=frozenset({0}))
    assert torch.equal(lens.carried(torch.ones(2), 0), torch.ones(2))


def test_every_kind_of_lens_is_in_the_registry():
    assert [lens.kind for lens in (LogitLens(), TunedLens(1, {}), JacobianLens(1, {}))] == list(LENSES)
