"""Every family of the table in docs/families.md, as a tiny random model made here: which way it goes, and that the way
is right.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from backend.geometry import directions
from backend.geometry.fisher import fisher_cot
from backend.geometry.sweep import sweep_cot
from backend.models import families, trial
from backend.models.edits import addition, editor_of, encode
from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.loaded import LoadedModel
from backend.models.loading import ModelLoadingError
from backend.models.sampling import SampleRequest, SamplingParameters, sample, uses_shared_prefixes
from backend.models.streaming import Arm, stream

TABLE = Path(__file__).parents[3] / "docs" / "families.md"
VOCABULARY, LAYERS, WIDTH = 96, 2, 32
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "first_k_dense_replace": 1,
    **EXPERTS,
}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA_2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_chunk_size": 16}
SLIDING = {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


@dataclass(frozen=True, eq=False)
class Row:
    """A line of the table: a family in one form."""

    family: str
    what: str  # sets it apart from Llama
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.family}: {self.what}"


ROWS = [
    Row("gpt2", "learned positions, Conv1D products"),
    Row("gpt_neox", "parallel blocks", {"use_parallel_residual": True}),
    Row("llama", "tied unembedding", {"tie_word_embeddings": True}),
    Row("qwen2", "biases in attention"),
    Row("qwen3", "normed queries and keys", {"head_dim": 16}),
    Row("arcee", "squared rectifier"),
    Row("bloom", "positions by distance (ALiBi)"),
    Row("cohere", "scaled logits, parallel blocks, norm without bias", {"logit_scale": 0.25}),
    Row("cohere2", "scaled logits, sliding windows", {"logit_scale": 0.25, **SLIDING}),
    Row("falcon", "parallel blocks, one key head", {"new_decoder_architecture": False}),
    Row("gemma", "norms that hold their weight less one", {"head_dim": 8}),
    Row("gemma2", "capped logits and attention, sliding windows", {**SLIDING, "query_pre_attn_scalar": 8}),
    Row("gemma3_text", "sliding windows", {**SLIDING, "query_pre_attn_scalar": 8}),
    Row("gpt_bigcode", "one key head for all", {"multi_query": True}),
    Row("gptj", "parallel blocks, bias in the unembedding", {"rotary_dim": 8}),
    Row(
        "granite",
        "scaled logits, embeddings and residuals",
        {"logits_scaling": 4.0, "residual_multiplier": 0.3, "embedding_multiplier": 3.0, "attention_multiplier": 0.2},
    ),
    Row("mistral", "one head of keys for several of queries", {"sliding_window": None}),
    Row("mistral", "sliding window shorter than the text", {"sliding_window": 8}),
    Row("olmo", "norms without weight"),
    Row("olmo2", "norms after the parts of a block"),
    Row("opt", "norm before the parts of a block", {"ffn_dim": 48, "word_embed_proj_dim": WIDTH}),
    Row(
        "opt",
        "norm after them, none at the end, narrower embedding (350m)",
        {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    Row("phi", "parallel blocks, bias in the unembedding"),
    Row("phi3", "joined projections"),
    Row("starcoder2", "biases throughout"),
    Row("deepseek_v2", "latent attention, mixture of experts", LATENT),
    Row("deepseek_v3", "latent attention, mixture of experts", LATENT),
    Row("gpt_oss", "mixture of experts, attention with sinks", {**EXPERTS, **SLIDING}),
    Row("mixtral", "mixture of experts", EXPERTS),
    Row("olmoe", "mixture of experts", EXPERTS),
    Row("qwen2_moe", "mixture of experts with a shared one", {**EXPERTS, "shared_expert_intermediate_size": 24}),
    Row("qwen3_moe", "mixture of experts", {**EXPERTS, "head_dim": 8}),
    Row("bamba", "state space (Mamba 2) and attention", {**MAMBA_2, "attn_layer_indices": [1]}),
    Row(
        "falcon_h1",
        "state space beside attention, scaled logits",
        {**MAMBA_2, "mamba_d_ssm": 64, "head_dim": 8, "lm_head_multiplier": 0.3},
    ),
    Row("falcon_mamba", "state space (Mamba)", {"state_size": 8}),
    Row(
        "granitemoehybrid",
        "state space, attention, experts, scaled logits",
        {
            **MAMBA_2,
            **EXPERTS,
            "shared_intermediate_size": 24,
            "layer_types": ["mamba", "attention"],
            "logits_scaling": 3.0,
        },
    ),
    Row(
        "jamba",
        "state space, attention, experts",
        {**EXPERTS, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    Row(
        "lfm2", "short convolutions and attention", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}
    ),
    Row("mamba", "state space", {"state_size": 8}),
    Row("mamba2", "state space", {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 16}),
    Row(
        "minimax",
        "linear attention (lightning), attention, experts; no common cache",
        {**EXPERTS, "head_dim": 8, "block_size": 8},
    ),
    Row("qwen3_5_text", "linear attention (gated delta rule) and attention", DELTA),
    Row(
        "qwen3_next",
        "linear attention, attention, experts",
        {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 24},
    ),
    Row("rwkv", "recurrence; no common cache", {"attention_hidden_size": WIDTH}),
]
TOKENS = torch.randint(2, VOCABULARY, (24,), generator=torch.Generator().manual_seed(0)).tolist()
SPAN = (16, 21)


@cache
def loaded(row: Row) -> LoadedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(row.family, **{**SHAPE, **row.config})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = SimpleNamespace(eos_token_id=1)
    return LoadedModel(model, tokenizer, row.name, "made here", "float32", row.family, LAYERS, WIDTH, VOCABULARY)


@torch.inference_mode()
def own_logits(model, tokens, hook=None):
    blocks = layers_of(model).blocks
    handle = blocks[0].register_forward_hook(hook) if hook else None
    try:
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    finally:
        if handle:
            handle.remove()


def line(row: Row) -> str:
    """The table's line of a family, as the tests below prove it."""
    model = loaded(row)
    encoded = encode(model, TOKENS, layers=[0])
    sampling = "quick" if uses_shared_prefixes(model) else "plain"
    if editor_of(model).cache_name is None:
        sampling = "plain, no cache"
    edits = "quick" if encoded.is_shared_prefix else "plain"
    sums = "" if encoded.parts.plain_unembedding else ", by logits"
    return f"| {row.family} | {row.what} | {sampling} | {edits} | {edits}{sums} | {edits}{sums} | {sampling} |"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_family_is_measured_as_its_own_forward_pass_says(row):
    model = loaded(row)
    trial.check(row.name, model.model)
    assert families.is_known(row.family)
    own = own_logits(model.model, TOKENS)
    encoded = encode(model, TOKENS)
    assert encoded.is_shared_prefix == uses_shared_prefixes(model)

    # Edits: nothing changed is the model's own, bit for bit; a change is what a hook does.
    v = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1)) * encoded.residual(0).std()
    everywhere = range(len(TOKENS))
    unmoved, moved = encoded.logits([addition(0, [12], 0 * v), addition(0, [12], v)], everywhere)
    assert torch.equal(unmoved, own)

    def steer(_block, _inputs, output):
        h = residual_of(output).clone()
        h[0, 12] += v
        return with_residual(output, h)

    hooked = own_logits(private_copy(model.model), TOKENS, steer)
    scale = (hooked - own).abs().max()
    assert scale > 0 and (moved - hooked).abs().max() < 1e-3 * scale
    assert torch.equal(moved[:12], own[:12])

    # Sampling: without heat every token is the likeliest of a plain pass, whatever shares its batch.
    requests = [SampleRequest("a", "s", 20, 1), SampleRequest("b", "s", 20, 2), SampleRequest("c", "s", 9, 3)]
    drawn = {one.request_id: one for one in sample(model, {"s": TOKENS}, requests, SamplingParameters(0.0, 1.0, 4))}
    assert drawn["a"].token_ids == drawn["b"].token_ids
    for name, length in (("a", 20), ("c", 9)):
        tokens = [*drawn[name].token_ids, *([SHAPE["eos_token_id"]] if drawn[name].finish == "eos" else [])]
        plain = own_logits(model.model, [*TOKENS[:length], *tokens])[length - 1 : -1]
        chosen = plain.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        assert (plain.max(1).values - chosen <= 1e-3 * plain.abs().max()).all()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_sweeps_parabola_is_the_exact_steepness(row):
    model = loaded(row)
    encoded = encode(model, TOKENS, layers=[0])
    one = directions.random(1, WIDTH, model_id=model.model_id, layer=0, seed=0).made
    (exact,) = fisher_cot(model, TOKENS, {"c": SPAN}, one, layers=[0])
    beta = min(0.02 / np.sqrt(exact["fisher_steepness"]), 0.005)  # small enough that no token chooses another expert
    (curve,) = sweep_cot(
        model, TOKENS, {"c": SPAN}, one, layers=[0], positions=["anchor"], betas=[-beta, 0.0, beta]
    ).kl_curves
    below, at, above = curve["kl"]
    assert at == 0.0 and len(encoded.normed) == len(TOKENS)
    assert (below + above) / 2 / beta**2 == pytest.approx(exact["fisher_steepness"], rel=0.02)


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_derivatives_are_of_experts_that_are_computed_one_by_one_and_those_are_the_models_own(family):
    (row,) = [row for row in ROWS if row.family == family]
    one_by_one = private_copy(loaded(row).model)
    one_by_one.set_experts_implementation("eager")
    own = own_logits(loaded(row).model, TOKENS)
    assert (own_logits(one_by_one, TOKENS) - own).abs().max() < 1e-5 * own.abs().max()
    assert loaded(row).model.config._experts_implementation != "eager"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_two_continuations_are_alike_until_one_is_steered(row):
    model = loaded(row)
    v = torch.full((WIDTH,), 0.5)
    arms = [Arm(tuple(TOKENS)), Arm(tuple(TOKENS), (addition(0, [20], v),))]
    alike, steered = (next(stream(model, arms[0], other, SamplingParameters(1.0, 1.0, 3), seed=1)) for other in arms)
    for pair, moved in ((alike, False), (steered, True)):
        for side in (pair.base, pair.changed):
            assert side is None or (side.kl > 0) == moved


def test_the_table_says_what_was_proved():
    written = {text for text in TABLE.read_text(encoding="utf-8").splitlines() if text.startswith("| ")}
    assert [text for text in map(line, ROWS) if text not in written] == []
    assert {row.family for row in ROWS} == families.QUICK | families.PLAIN
    refused = {
        match[1]: match[2] for text in written if (match := re.fullmatch(r"\| (\w+) \| refused \| (.*) \|", text))
    }
    assert refused == dict(families.REFUSED)


def test_what_cannot_be_measured_is_said_with_its_name_and_the_reason():
    with pytest.raises(
        ModelLoadingError, match="some/model is of the family recurrent_gemma, which cannot be measured: it keeps"
    ):
        families.check_config("some/model", {"model_type": "recurrent_gemma"})
    with pytest.raises(
        ModelLoadingError, match=r"T5ForConditionalGeneration, 't5'\) is no decoder-only language model"
    ):
        families.check_config("some/model", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]})
    with pytest.raises(ModelLoadingError, match="Its language model alone may be"):
        families.check_config("some/model", {"model_type": "llava", "text_config": {}})
    with pytest.raises(ModelLoadingError, match=r"needs custom code from its own folder \(modeling_x\.X\)"):
        families.check_config("some/model", {"model_type": "x", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}})
    with pytest.raises(ModelLoadingError, match=r"kind \('x'\) that transformers .* does not know"):
        families.check_config("some/model", {"model_type": "x"})


def test_a_model_whose_tokens_see_later_ones_is_refused_by_what_it_predicts():
    torch.manual_seed(0)
    config = AutoConfig.for_model("bert", **SHAPE)
    with pytest.raises(ModelLoadingError, match=r"encoder \(family bert\) cannot be measured: .*later tokens"):
        trial.check("encoder", AutoModelForCausalLM.from_config(config).eval())
