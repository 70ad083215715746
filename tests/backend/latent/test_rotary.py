import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from backend.latent.kinds import LatentError
from backend.latent.rotary import Rotary, Unturned, require_exact, rotation_of


def llama(**rope):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_parameters={"rope_theta": 10_000.0, **(rope or {"rope_type": "default"})},
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


def keys_at(model, token, position, layer=0):
    """What the model itself stores for one token that stands alone at a position."""
    found = model.base_model(input_ids=torch.tensor([[token]]), position_ids=torch.tensor([[position]]), use_cache=True)
    return found.past_key_values.layers[layer].keys[0, :, 0]


@pytest.mark.parametrize("rope", [{}, LLAMA3, YARN], ids=["default", "llama3", "yarn"])
def test_a_key_turned_back_and_turned_for_another_position_is_the_key_computed_there(rope):
    model = llama(**rope)
    rotation = rotation_of(model)
    for token, here, there in ((3, 5, 11), (7, 0, 40), (9, 29, 2)):
        back = rotation.turned_back(keys_at(model, token, here), here)
        torch.testing.assert_close(rotation.turned(back, there), keys_at(model, token, there), atol=1e-5, rtol=1e-4)


def test_turning_back_undoes_turning_also_where_keys_are_lengthened():
    model = llama(**YARN)
    rotation = rotation_of(model)
    keys = torch.randn(6, 2, 8)
    turned = rotation.turned(keys, 17)
    assert turned.norm() > 1.05 * keys.norm()  # yarn's attention factor
    torch.testing.assert_close(rotation.turned_back(turned, 17), keys)
    torch.testing.assert_close(rotation.turned(keys, 0), keys * (turned.norm() / keys.norm()))


def test_turning_is_linear_so_that_nothing_added_stays_nothing():
    rotation = rotation_of(llama())
    a, b = torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    torch.testing.assert_close(rotation.turned(a + b, 9), rotation.turned(a, 9) + rotation.turned(b, 9))
    assert torch.equal(rotation.turned(torch.zeros(2, 2, 8), 9), torch.zeros(2, 2, 8))


def test_the_keys_of_one_token_at_two_positions_differ_until_they_are_turned_back():
    """Defect 8: averages of stored keys mix positions."""
    model = llama()
    rotation = rotation_of(model)
    here, there = keys_at(model, 4, 10), keys_at(model, 4, 14)
    assert (here - there).norm() > 0.1 * here.norm()
    torch.testing.assert_close(rotation.turned_back(here, 10), rotation.turned_back(there, 14), atol=1e-6, rtol=1e-4)


def test_a_model_with_learned_positions_does_not_turn_its_keys():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()
    assert isinstance(rotation_of(model), Unturned)
    keys = torch.randn(3, 2, 8)
    assert torch.equal(Unturned().turned(Unturned().turned_back(keys, 5), 9), keys)


def test_only_the_part_of_a_key_that_the_model_turns_is_turned():
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=30,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
    )
    model = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    rotation = rotation_of(model)
    keys = torch.randn(3, 2, 16)
    turned = rotation.turned(keys, 8)
    assert torch.equal(turned[..., 4:], keys[..., 4:]) and not torch.allclose(turned[..., :4], keys[..., :4])
    torch.testing.assert_close(rotation.turned_back(turned, 8), keys)


def test_a_turning_that_is_not_undone_exactly_is_refused():
    model = llama()
    require_exact(model, rotation_of(model))
    with pytest.raises(LatentError, match="A llama model turns its keys in a way that is not undone exactly"):
        require_exact(model, Rotary(model.base_model.rotary_emb, lambda q, k, cos, sin: (q, k)))


def test_a_model_whose_way_of_turning_is_hidden_in_its_layers_is_refused():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = type("Config", (), {"model_type": "odd"})()
            self.attention = torch.nn.ModuleDict({"rotary": torch.nn.Identity()})

        @property
        def base_model(self):
            return self

    with pytest.raises(LatentError, match="A odd model turns its keys in each layer"):
        rotation_of(Odd())
