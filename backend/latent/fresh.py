"""A small latent model of our own before it has learned anything: two layers, words as tokens, CODI's projection."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from backend.latent.kinds import SIBLINGS
from backend.latent.loop import LatentModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NUMBERS = tuple(map(str, range(100)))
END, BOT, ANS, PAD, UNK = "<end>", "<bot>", "<ans>", "<pad>", "<unk>"
LAYOUT = "anchorscope"  # of its files


@dataclass(frozen=True)
class Shape:
    """How large it is."""

    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 4
    d_mlp: int = 192
    d_projection: int = 64  # between the two maps of the projection
    n_latents: int = 6  # at most; 0 where the sibling has none
    init_std: float = 0.1
    n_positions: int = 128


def tokenizer(words: tuple[str, ...]) -> "PreTrainedTokenizerFast":
    """Every number 0–99 one token, then the end, so that an answer's tokens are the first; then the signs of the loop,
    and `words`. What is none of these is <unk>.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = (*NUMBERS, END, BOT, ANS, PAD, UNK, *words)
    made = Tokenizer(models.WordLevel({entry: n for n, entry in enumerate(entries)}, unk_token=UNK))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=PAD, unk_token=UNK)


def projection(d_model: int, width: int) -> nn.Sequential:
    """CODI's map from a hidden state to the embedding of the next latent (its dropout, which is off, left out)."""
    return nn.Sequential(nn.Linear(d_model, width), nn.GELU(), nn.Linear(width, d_model), nn.LayerNorm(d_model))


def _projection_at_the_scale_of_embeddings(shape: Shape) -> nn.Sequential:
    """At its usual scale of 1 the last norm would make a latent ten times as long as the embedding of a word."""
    made = projection(shape.d_model, shape.d_projection).requires_grad_(False)
    nn.init.constant_(made.get_parameter("3.weight"), shape.init_std)
    return made


def fresh(words: tuple[str, ...], *, sibling: str = "latent", seed: int = 0, shape: Shape | None = None) -> LatentModel:
    """A model with random weights; the language model's are the same for all siblings of a seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = shape or Shape()
    kind, spoken = SIBLINGS[sibling].name, tokenizer(words)
    config = LlamaConfig(
        vocab_size=len(spoken),
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        max_position_embeddings=shape.n_positions,
        initializer_range=shape.init_std,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=spoken.convert_tokens_to_ids(END),
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
        mapped = _projection_at_the_scale_of_embeddings(shape) if kind == "latent" else None
        thoughts = torch.randn(shape.n_latents, shape.d_model) * shape.init_std if kind == "pause" else None
    return LatentModel(
        model=model,
        tokenizer=spoken,
        projection=mapped,
        thoughts=thoughts,
        before=(spoken.convert_tokens_to_ids(BOT),),
        after=(spoken.convert_tokens_to_ids(ANS),),
        end=spoken.convert_tokens_to_ids(END),
        n_latents=0 if kind == "none" else shape.n_latents,
        n_answer_tokens=len(NUMBERS) + 1,
        name=f"fresh-{kind}-{seed}",
        revision=f"seed {seed}",
        layout=LAYOUT,
        sibling=kind,
    )
