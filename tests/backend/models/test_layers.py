"""Blocks, final norm, unembedding and residual stream are found in every family, against the model's own forward."""

import pytest
import torch
from torch import nn

from backend.models.layers import UnknownArchitecture, layers_of, private_copy, residual_of, with_residual
from backend.models.linear import linear
from tests.conftest import FAMILIES
from tests.hooks import hooks_on

TOKENS = torch.tensor([[5, 17, 99, 3, 250, 31, 8]])


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_norm_and_unembedding_of_the_last_block_are_the_models_logits(tiny, family):
    model = tiny(family).model
    parts = layers_of(model)
    last = []
    handle = parts.blocks[-1].register_forward_hook(lambda _block, _inputs, output: last.append(residual_of(output)))
    try:
        logits = model(TOKENS).logits
    finally:
        handle.remove()
    assert len(parts.blocks) == tiny(family).n_layers
    assert torch.equal(parts.unembed(parts.final_norm(last[0])), logits)


def test_logits_that_a_soft_cap_bends_are_no_plain_product_and_others_are(tiny):
    assert (
        layers_of(tiny("gemma2").model).logit_scale is None
        and layers_of(tiny("gemma2").model).plain_unembedding is None
    )
    assert [layers_of(tiny(family).model).logit_scale for family in FAMILIES if family != "gemma2"] == [1.0] * 6


def test_residual_of_a_tensor_is_the_whole_batch_and_of_a_tuple_its_first():
    batch = torch.randn(3, 5, 8)
    assert residual_of(batch) is batch
    assert residual_of((batch, "cache")) is batch
    assert with_residual((batch, "cache"), batch + 1)[1] == "cache"
    with pytest.raises(UnknownArchitecture, match="shape"):
        residual_of(batch[0])


def test_a_model_without_unembedding_or_blocks_is_refused(tiny):
    with pytest.raises(UnknownArchitecture, match="unembedding"):
        layers_of(tiny("llama").model.model)
    headless = nn.Linear(2, 2)
    headless.config = tiny("llama").model.config
    with pytest.raises(UnknownArchitecture, match="4 blocks"):
        layers_of(headless)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_private_copy_shares_every_weight_and_no_hook(tiny, family):
    model = tiny(family).model
    hooks = hooks_on(model)
    copied = private_copy(model)
    assert all(ours is theirs for ours, theirs in zip(copied.parameters(), model.parameters(), strict=True))
    layers_of(copied).blocks[0].register_forward_hook(lambda *_: None)
    assert hooks_on(model) == hooks


@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_float32_exact(bias):
    generator = torch.Generator().manual_seed(0)
    x, weight, offset = (torch.randn(shape, generator=generator) for shape in ((3, 40, 96), (64, 96), (64,)))
    exact = nn.functional.linear(x.double(), weight.double(), offset.double() if bias else None)
    # bfloat16 or TF32 products would be wrong by about 1e-2.
    assert (linear(x, weight, offset if bias else None).double() - exact).abs().max() < 2e-5
    transposed = weight.t().contiguous().t()
    assert (linear(x, transposed, offset if bias else None).double() - exact).abs().max() < 2e-5
    assert torch.equal(linear(x.double(), weight.double()), nn.functional.linear(x.double(), weight.double()))
