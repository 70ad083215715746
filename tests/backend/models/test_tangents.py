"""Derivatives of the upper layers equal the explicit Jacobian of the model's own forward pass, both ways, in every
family.
"""

import copy
from types import SimpleNamespace

import pytest
import torch

from backend.models import duals
from backend.models.edits import EditError, encode
from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.tangents import UpperLayers
from tests.conftest import FAMILIES
from tests.hooks import hooks_on

LAYER, FIRST, END = 1, 16, 18
TOKENS = torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(0)).tolist()


def explicit_jacobian(model, h, first=FIRST, end=END):
    """∂ normed last residuals / ∂ residual stream at LAYER, tokens first … end − 1, by torch.autograd through a hooked
    plain pass.
    """
    parts = layers_of(private_copy(model))

    def normed(h):
        def replace(_block, _inputs, output):
            old = residual_of(output)
            return with_residual(output, torch.cat([old[:, :first], h[None], old[:, end:]], 1))

        handle = parts.blocks[LAYER].register_forward_hook(replace)
        try:
            return parts.trunk(input_ids=torch.tensor([TOKENS]), use_cache=False).last_hidden_state[0, first:end]
        finally:
            handle.remove()

    return torch.autograd.functional.jacobian(normed, h.clone()).reshape(h.numel(), h.numel())


@pytest.mark.parametrize("family", FAMILIES)
def test_push_is_the_jacobian_and_pull_its_transpose(tiny, family):
    model = copy.deepcopy(tiny(family).model).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = hooks_on(model)
    encoded = encode(SimpleNamespace(model=model), TOKENS, layers=[LAYER])
    upper = UpperLayers(encoded, LAYER, first=FIRST, end=END)
    jacobian = explicit_jacobian(model, encoded.residual(LAYER)[FIRST:END])
    tangents = torch.randn(5, END - FIRST, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # 1e-6, not 1e-15: the models' norms compute in float32 whatever the model's own precision.
    pushed = upper.push(tangents)
    assert upper._has_rules == encoded.is_shared_prefix  # dual numbers knew every operation
    for moved, matrix in ((pushed, jacobian), (upper.pull(tangents), jacobian.T)):
        expected = (tangents.flatten(1) @ matrix.T).view_as(tangents)
        assert (moved - expected).norm() < 1e-6 * expected.norm()
    assert hooks_on(model) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_tangents_do_not_depend_on_what_shares_their_pass(tiny, monkeypatch):
    encoded = encode(tiny("llama"), TOKENS, layers=[LAYER])
    tangents = torch.randn(5, END - FIRST, 64, generator=torch.Generator().manual_seed(0))
    together = UpperLayers(encoded, LAYER, first=FIRST, end=END).push(tangents)
    monkeypatch.setattr("backend.models.tangents._ROWS", 1)
    apart = UpperLayers(encoded, LAYER, first=FIRST, end=END)
    assert (apart.push(tangents) - together).norm() < 1e-5 * together.norm()
    assert (apart.push(-3 * tangents) + 3 * together).norm() < 1e-5 * together.norm()
    with torch.inference_mode():
        assert torch.equal(apart.push(tangents), apart.push(tangents))


@pytest.mark.parametrize("family", ["qwen3", "gpt_neox"])
def test_a_block_that_dual_numbers_cannot_follow_goes_by_torchs_forward_mode(tiny, monkeypatch, family):
    encoded = encode(tiny(family), TOKENS, layers=[LAYER])
    tangents = torch.randn(2, END - FIRST, 64, generator=torch.Generator().manual_seed(0))
    by_duals = UpperLayers(encoded, LAYER, first=FIRST, end=END).push(tangents)
    monkeypatch.delitem(duals._RULES, "add")
    upper = UpperLayers(encoded, LAYER, first=FIRST, end=END)
    assert (upper.push(tangents) - by_duals).norm() < 1e-5 * by_duals.norm() and not upper._has_rules


def test_from_the_first_token_and_the_last_layer_on(tiny):
    encoded = encode(tiny("qwen2"), TOKENS, layers=[LAYER, 3])
    jacobian = explicit_jacobian(tiny("qwen2").model, encoded.residual(LAYER)[:4], 0, 4)
    tangents = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0))
    expected = (tangents.flatten(1) @ jacobian.T).view_as(tangents)
    assert (UpperLayers(encoded, LAYER, first=0, end=4).push(tangents) - expected).norm() < 1e-5 * expected.norm()
    above = UpperLayers(encoded, 3, first=0, end=4).push(tangents)  # only the final norm is left: tokens do not mix
    alone = UpperLayers(encoded, 3, first=1, end=2).push(tangents[:, 1:2])
    assert (above[:, 1:2] - alone).norm() < 1e-5 * alone.norm()


def test_tokens_and_moves_that_do_not_exist_are_refused(tiny):
    encoded = encode(tiny("llama"), TOKENS, layers=[LAYER])
    with pytest.raises(EditError, match="24"):
        UpperLayers(encoded, LAYER, first=20, end=25)
    with pytest.raises(EditError, match="2, 64"):
        UpperLayers(encoded, LAYER, first=FIRST, end=END).push(torch.zeros(1, 3, 64))


@pytest.mark.parametrize(
    "mixes", [lambda h: h.reshape(-1, h.shape[-1]), lambda h: h.transpose(0, 1), lambda h: h.chunk(2, dim=0)]
)
def test_an_operation_that_would_mix_value_and_tangents_has_no_rule(mixes):
    dual = duals.Dual.of(torch.randn(1, 2, 4), torch.randn(3, 2, 4))
    with pytest.raises(duals.NoRule):
        mixes(dual)
