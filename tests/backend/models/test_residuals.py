"""Recorded residual streams are the model's own, and chunk activations are their means."""

import copy

import pytest
import torch

from backend.models.layers import layers_of
from backend.models.residuals import ResidualError, chunk_activations, record_residuals, recording
from tests.conftest import FAMILIES

TOKENS = [5, 17, 99, 3, 250, 31, 8]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_layer_l_is_hidden_state_l_plus_one_and_the_last_is_not_normed(tiny, family):
    loaded = tiny(family)
    residuals = record_residuals(loaded, TOKENS, range(loaded.n_layers))
    theirs = copy.deepcopy(loaded.model)  # asked for hidden states, transformers leaves hooks of its own on a model
    hidden = theirs(torch.tensor([TOKENS]), output_hidden_states=True).hidden_states
    for layer in range(loaded.n_layers - 1):
        assert torch.equal(residuals[layer], hidden[layer + 1][0])
    last = residuals[loaded.n_layers - 1]
    assert not torch.allclose(last, hidden[-1][0])
    assert torch.equal(layers_of(loaded.model).final_norm(last), hidden[-1][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_low_layer_alone_is_the_same_and_the_model_stays_whole(tiny, family):
    loaded = tiny(family)
    whole = record_residuals(loaded, TOKENS, range(loaded.n_layers))
    for layer in range(loaded.n_layers):
        assert torch.equal(record_residuals(loaded, TOKENS, [layer])[layer], whole[layer])
    assert len(layers_of(loaded.model).blocks) == loaded.n_layers


def test_hooks_are_gone_even_after_an_error(tiny):
    blocks = layers_of(tiny("llama").model).blocks
    before = [list(block._forward_hooks) for block in blocks]  # transformers keeps some of its own
    with pytest.raises(RuntimeError, match="interrupted"), recording(blocks, [0, 2]):
        raise RuntimeError("interrupted")
    assert [list(block._forward_hooks) for block in blocks] == before


def test_a_recording_that_records_nothing_or_nothing_finite_is_an_error(tiny):
    model = tiny("llama").model
    with pytest.raises(ResidualError, match="reached layer 1"), recording(layers_of(model).blocks, [1]):
        pass
    with pytest.raises(ResidualError, match="layers 0 to 3"):
        record_residuals(tiny("llama"), TOKENS, [4])
    with pytest.raises(ResidualError, match="layers 0 to 3"):
        record_residuals(tiny("llama"), TOKENS, [-1])
    broken = torch.full((1, len(TOKENS), 64), torch.nan)
    with pytest.raises(ResidualError, match="NaN"), torch.inference_mode(), recording(layers_of(model).blocks, [1]):
        layers_of(model).trunk(inputs_embeds=broken)


@pytest.mark.parametrize(("tokens", "said"), [([], "no tokens"), ([5, 384], "0 to 383"), ([-1], "0 to 383")])
def test_tokens_the_model_does_not_know_are_refused(tiny, tokens, said):
    with pytest.raises(ResidualError, match=said):
        record_residuals(tiny("llama"), tokens, [0])


def test_a_chunk_activation_is_the_mean_over_its_tokens():
    residual = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    chunks = chunk_activations(residual, [(0, 4), (4, 5), (5, 10)])
    assert torch.allclose(chunks.mean[0], residual[:4].mean(0))
    assert torch.equal(chunks.mean[1], residual[4])
    weights = torch.tensor([4.0, 1.0, 5.0])
    assert torch.allclose(
        (chunks.mean * weights[:, None]).sum(0) / 10, residual.mean(0), atol=1e-6
    )  # slices add up to the whole
    assert torch.allclose(chunks.rms[1], residual[4].norm() / 6**0.5)
    assert torch.allclose(chunks.rms[2], (residual[5:].norm(dim=1) / 6**0.5).mean())


def test_a_chunk_without_tokens_is_unknown_and_one_outside_is_refused():
    residual = torch.ones(10, 6)
    chunks = chunk_activations(residual, [(3, 3), (3, 4)])
    assert chunks.mean[0].isnan().all() and chunks.rms[0].isnan() and chunks.rms[1] == 1
    for span in [(8, 11), (-1, 2), (5, 4)]:
        with pytest.raises(ResidualError, match="Chunk 0"):
            chunk_activations(residual, [span])
