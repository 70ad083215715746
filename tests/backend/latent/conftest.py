import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from backend.latent.loop import LatentModel


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    projection = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16), nn.LayerNorm(16)).requires_grad_(False)
    return LatentModel(model, None, projection, None, (27,), (28,), 29, 6, 30, "tiny", "r", "test")
