"""A map's numbers against transformers' own streams, norm and head, token by token in float64."""

import pytest
import torch

from backend.lens import cells as module
from backend.lens import lens
from backend.lens.cells import OwnPredictions, cells, own_cells
from backend.lens.lens import LogitLens, Readout
from backend.models.kl import kl_reference
from backend.models.residuals import record_residuals
from tests.backend.lens.test_lens import FAMILIES, TEXT

CHOSEN = (5, 200, 383)


def plain_logits(loaded):
    """By layer (n_places, vocab_size): transformers' hidden_states through the model's own norm and head, once."""
    with torch.inference_mode():
        out = loaded.model(torch.tensor([TEXT]), output_hidden_states=True)
        trunk = loaded.model.transformer if loaded.family == "gpt2" else loaded.model.model
        norm = trunk.ln_f if loaded.family == "gpt2" else trunk.norm
        cap = getattr(loaded.model.config, "final_logit_softcapping", None)
        found = []
        for stream in out.hidden_states[1:-1]:  # the last one is normed already
            logits = loaded.model.lm_head(norm(stream))[0]
            found.append(logits if cap is None else cap * torch.tanh(logits / cap))
    return [*found, out.logits[0]]


def measured(loaded, *, places=None, is_packed=False):
    layers = list(range(loaded.n_layers))
    residuals = record_residuals(loaded, TEXT, layers)
    readout = Readout(loaded)
    if is_packed:
        readout.pack()
    places = range(len(TEXT)) if places is None else places
    own = OwnPredictions.of(readout, readout.logits(residuals[layers[-1]])[places])
    streams = [residuals[layer][places] for layer in layers[:-1]]
    return cells(readout, LogitLens(), streams, layers[:-1], own, CHOSEN), own_cells(own, CHOSEN)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(lens, "_BLOCK", 64)
        monkeypatch.setattr(lens, "SUMMED", 100)
        monkeypatch.setattr(module, "SUMMED", 100)
        monkeypatch.setattr(module, "_OWN_ROWS", 5)
        monkeypatch.setattr(module, "_CACHED", 300)
        monkeypatch.setattr(module, "_HEAD_ROWS", 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_a_map_is_that_of_the_plain_way(tiny, family, blocks):
    loaded = tiny(family)
    below, _ = measured(loaded)
    plain = plain_logits(loaded)
    for layer, logits in enumerate(plain[:-1]):
        log_p = logits.double().log_softmax(-1)
        assert torch.equal(below.token[layer], logits.argmax(-1))
        assert torch.allclose(below.probability[layer], log_p.amax(-1).exp(), rtol=1e-4)
        assert torch.allclose(below.entropy[layer], -(log_p.exp() * log_p).sum(-1), rtol=1e-4, atol=1e-5)
        assert torch.allclose(below.kl[layer], kl_reference(plain[-1], logits), rtol=1e-4, atol=1e-7)
        for number, token in enumerate(CHOSEN):
            assert torch.allclose(below.log_prob[number, layer], log_p[:, token], atol=1e-4)
            assert torch.equal(below.rank[number, layer], 1 + (logits > logits[:, [token]]).sum(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_row_of_a_map_is_the_model_bit_for_bit(tiny, family):
    loaded = tiny(family)
    _, last = measured(loaded)
    with torch.inference_mode():
        own = loaded.model(torch.tensor([TEXT])).logits[0].log_softmax(-1)
    assert torch.equal(last.token[0], own.argmax(-1)) and torch.equal(last.probability[0], own.amax(-1).exp())
    assert torch.equal(last.log_prob[:, 0], own[:, CHOSEN].T) and not last.kl.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_is_laid_out_for_many_products_says_the_same(tiny, family, blocks):
    plain, _ = measured(tiny(family))
    packed, _ = measured(tiny(family), is_packed=True)
    for name in ("token", "kl", "entropy", "probability", "rank", "log_prob"):
        found, said = (getattr(one, name).double() for one in (packed, plain))
        assert torch.allclose(found, said, rtol=1e-4, atol=1e-6), name


def test_some_places_have_what_they_have_in_the_whole_map(tiny):
    whole, _ = measured(tiny("llama"))
    some, _ = measured(tiny("llama"), places=[2, 9])
    for name in ("token", "kl", "entropy", "probability", "rank", "log_prob"):
        assert torch.allclose(getattr(some, name).double(), getattr(whole, name)[..., [2, 9]].double(), rtol=1e-5)


def test_the_probabilities_of_a_chosen_token_that_is_the_top_one_are_the_top_ones(tiny):
    loaded = tiny("llama")
    readout, stream = Readout(loaded), record_residuals(loaded, TEXT, [0, 3])
    own = OwnPredictions.of(readout, readout.logits(stream[3]))
    top = int(readout.logits(stream[0]).argmax(-1)[4])
    found = cells(readout, LogitLens(), [stream[0]], [0], own, [top])
    assert found.rank[0, 0, 4] == 1 and found.log_prob[0, 0, 4].exp() == pytest.approx(float(found.probability[0, 4]))


def test_a_layer_that_says_almost_what_the_model_says_has_a_small_kl_that_is_exact_and_not_negative(tiny):
    loaded = tiny("llama")
    readout, last = Readout(loaded), record_residuals(loaded, TEXT, [3])[3]
    own = OwnPredictions.of(readout, readout.logits(last))
    near = last + 1e-5 * torch.randn(last.shape, generator=torch.Generator().manual_seed(0))
    found = cells(readout, LogitLens(), [near], [2], own, []).kl[0]
    assert (found >= 0).all() and torch.allclose(found, kl_reference(own.logits, readout.logits(near)), rtol=1e-6)
    assert 0 < found.max() < 1e-6


def test_kl_turns_over_with_the_two_distributions(tiny):
    """KL(model ‖ lens), not the other way round."""
    below, _ = measured(tiny("llama"))
    plain = plain_logits(tiny("llama"))
    assert not torch.allclose(below.kl[0], kl_reference(plain[0], plain[-1]), rtol=0.01)
