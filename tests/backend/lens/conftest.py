"""Small models of a given number of blocks, whose lenses are known."""

from dataclasses import replace

import pytest
import torch

D = 16


@pytest.fixture(scope="session")
def small(tiny):
    """`small(n_layers)`: a model of so many blocks whose gains are drawn."""
    import transformers

    made = {}

    def model(n_layers):
        if n_layers not in made:
            torch.manual_seed(n_layers)
            shape = {"vocab_size": 384, "hidden_size": D, "intermediate_size": 24, "num_attention_heads": 2}
            config = transformers.LlamaConfig(**shape, num_hidden_layers=n_layers, initializer_range=0.2)
            own = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
            own.model.norm.weight.data += 0.3 * torch.randn(D)
            sizes = {"n_layers": n_layers, "d_model": D, "vocab_size": 384}
            made[n_layers] = replace(tiny("llama"), model=own, name="owner/Some-Model", revision="a" * 40, **sizes)
        return made[n_layers]

    return model
