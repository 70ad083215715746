"""Attention to a chunk taken away, against a plain forward pass under a mask that is written here."""

import copy
import math

import pytest
import torch

from backend.influence.suppression import (
    Influences,
    SuppressionError,
    chunk_influences,
    influences,
    layer_ranges,
    part_of,
)
from backend.models import edits
from backend.models.attention import Part, Without, attention_without, masked_attention
from backend.models.edits import EditError, encode
from backend.models.kl import kl_reference
from backend.models.layers import layers_of
from tests.backend.models.test_families import ROWS, loaded
from tests.backend.models.test_families import TOKENS as ROW_TOKENS

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox")
N_TOKENS, N_HEADS = 60, 4
TOKENS = torch.randint(3, 380, (N_TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
SPANS = {"a": (5, 12), "b": (12, 20), "c": (20, 33), "empty": (33, 33), "d": (33, 50)}
ANSWER = (52, 55)
EVERYWHERE = Part(range(4))


def may_attend(window: int | None, taken: tuple[int, int] | None = None) -> torch.Tensor:
    """(n_tokens, n_tokens): whether a token (row) may attend to another."""
    row, column = torch.arange(N_TOKENS)[:, None], torch.arange(N_TOKENS)[None]
    allowed = (column <= row) & (row - column < (window or N_TOKENS))
    if taken is not None:
        start, end = taken
        allowed &= ~((row >= end) & (start <= column) & (column < end))
    return allowed


def plain_logits(loaded, family: str, span: tuple[int, int], heads_by_layer: dict[int, set[int]]) -> torch.Tensor:
    """Logits (n_tokens, vocab_size) of the model's own eager pass, each attention under its own additive mask."""
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    for layer, block in enumerate(layers_of(model).blocks):
        window = 16 if family.startswith("gemma") and layer % 2 == 0 else None
        allowed = torch.stack(
            [may_attend(window, span if head in heads_by_layer.get(layer, ()) else None) for head in range(N_HEADS)]
        )
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None]
        (attention,) = (part for name, part in block.named_children() if name in ("self_attn", "attn", "attention"))
        attention.register_forward_pre_hook(
            lambda _module, inputs, keywords, mask=mask: (inputs, {**keywords, "attention_mask": mask}),
            with_kwargs=True,
        )
    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits[0]


@pytest.mark.parametrize("suppressed", ["all", "layers 1-2", "head 2.3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_a_plain_forward_pass_under_a_mask_gives(tiny, family, suppressed):
    heads = {
        "all": {layer: {0, 1, 2, 3} for layer in range(4)},
        "layers 1-2": {layer: {0, 1, 2, 3} for layer in (1, 2)},
        "head 2.3": {2: {3}},
    }[suppressed]
    loaded = tiny(family)
    base = plain_logits(loaded, family, (0, 0), {})
    found = {one.source_chunk_id: one for one in influences(loaded, TOKENS, SPANS, ANSWER, suppressed)}
    assert list(found) == list(SPANS)
    for source in ("a", "b", "c", "d"):
        span, one = SPANS[source], found[source]
        kl = kl_reference(plain_logits(loaded, family, span, heads), base)
        for row in one.rows:
            start, end = SPANS[row["target_chunk_id"]]
            of = [t for t in range(start - 1, end - 1) if t >= span[1]]  # predictions of its tokens
            assert row["n_tokens"] == len(of)
            if of:
                assert row["kl"] == pytest.approx(kl[of].mean().item(), abs=1e-5)
                assert row["log_kl"] == pytest.approx((kl[of] + 1e-9).log().mean().item(), abs=1e-2)
        assert one.answer_kl == pytest.approx(kl[51:54].mean().item(), abs=1e-5) and one.n_answer == 3
    assert found["a"].rows[0]["kl"] > 1e-3  # there is something to see
    assert 0 <= found["a"].noise < 1e-9


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_nothing_suppressed_is_the_model_itself(tiny, family):
    encoded = encode(tiny(family), TOKENS)
    (nowhere,) = encoded.without([(5, 12)], Part(range(2, 2)), 40)
    assert torch.equal(nowhere, encoded.normed[12:40])
    (no_tokens,) = encoded.without([(12, 12)], EVERYWHERE, 40)
    assert torch.allclose(no_tokens, encoded.normed[12:40], atol=1e-4)


def test_the_callers_model_is_left_as_it_was(tiny):
    for family in ("llama", "gemma2"):
        model = tiny(family).model
        before, attention = model(torch.tensor([TOKENS])).logits, model.config._attn_implementation
        list(influences(tiny(family), TOKENS, SPANS))
        assert torch.equal(model(torch.tensor([TOKENS])).logits, before)
        assert model.config._attn_implementation == attention
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_tokens_up_to_the_chunks_end_do_not_change(tiny, family):
    """A later chunk does nothing to an earlier one, and a text cut after a chunk gives its influences again."""
    found = {one.source_chunk_id: one for one in influences(tiny(family), TOKENS, SPANS, ANSWER)}
    order = list(SPANS)
    for source, one in found.items():
        assert [row["target_chunk_id"] for row in one.rows] == order[order.index(source) + 1 :]
    cut = {name: SPANS[name] for name in ("a", "b", "c")}
    again = {one.source_chunk_id: one for one in influences(tiny(family), TOKENS[:33], cut)}
    for source in ("a", "b"):
        for row in again[source].rows:
            (whole,) = (r for r in found[source].rows if r["target_chunk_id"] == row["target_chunk_id"])
            assert row["kl"] == pytest.approx(whole["kl"], abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_side_by_side_is_one_by_one(tiny, family):
    encoded, spans = encode(tiny(family), TOKENS), [(5, 12), (12, 20), (20, 33)]
    for part in (EVERYWHERE, Part(range(1, 3)), Part(range(2, 3), (3,))):
        together = encoded.without(spans, part, 50)
        for span, found in zip(spans, together, strict=True):
            assert torch.allclose(encoded.without([span], part, 50)[0], found, atol=1e-5)


class _Attention:
    layer_idx = 0


def attended(query, key, value, kept_keys, kept_values, spans, part):
    n_tokens = kept_keys.shape[1]
    without = Without(spans, n_tokens, part, [(kept_keys, kept_values)])
    return attention_without(_Attention(), query, key, value, None, scaling=0.3, without=without)[0]


def test_no_weight_goes_to_the_chunk_and_the_rest_sums_to_one():
    """Weights are read off the values: of ones the mean is the sum of the weights, and what the chunk holds is nowhere
    in it, not even where it is not a number.
    """
    draw = torch.Generator().manual_seed(0)
    spans, n_tokens = [(2, 5), (4, 7)], 12
    n_new = sum(n_tokens - end for _, end in spans)
    query = torch.randn(1, 4, n_new, 8, generator=draw)
    key = torch.randn(1, 2, n_new, 8, generator=draw)
    kept = torch.randn(2, n_tokens, 8, generator=draw)
    values, own = torch.ones(2, n_tokens, 8), torch.ones(1, 2, n_new, 8)
    values[:, 2:5], poisoned = math.nan, kept.clone()
    poisoned[:, 2:5] = math.nan
    found = attended(query[:, :, :7], key[:, :, :7], own[:, :, :7], poisoned, values, [(2, 5)], Part(range(1)))
    assert torch.allclose(found, torch.ones_like(found))
    # a head of its own: the others still see the chunk, heads 2 and 3 share the second key head
    one = attended(query[:, :, :7], key[:, :, :7], own[:, :, :7], kept, values, [(2, 5)], Part(range(1), (3,)))
    assert one[0, :, :3].isnan().all() and torch.allclose(one[0, :, 3], torch.ones(7, 8))
    values = torch.ones(2, n_tokens, 8)
    both = attended(query, key, own, kept, values, spans, Part(range(1)))
    assert torch.allclose(both, torch.ones_like(both))


def test_a_chunk_without_weight_has_no_influence():
    """Where every query gives the chunk no weight at all, the others' weights are the same without it."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 7, 8, generator=draw).abs()
    key, own = torch.randn(1, 2, 7, 8, generator=draw), torch.randn(1, 2, 7, 8, generator=draw)
    kept, values = torch.randn(2, 12, 8, generator=draw), torch.randn(2, 12, 8, generator=draw)
    kept[:, 2:5] = -1e6
    with_it, without = (
        attended(query, key, own, kept, values, [(2, 5)], Part(layers)) for layers in (range(0), range(1))
    )
    assert torch.allclose(with_it, without, atol=1e-6)


def test_the_masked_way_gives_the_chunk_no_weight_either(tiny, monkeypatch):
    seen = []

    def noting(module, *inputs, **others):
        output = masked_attention(module, *inputs, **others)
        seen.append(output[1])
        return output

    monkeypatch.setitem(edits.attending.__globals__["WAYS"], "anchorscope_masked", noting)
    loaded = copy.copy(tiny("gemma2"))
    editor = edits._Editor(loaded.model)
    editor.encode(TOKENS, []).without([(5, 12)], EVERYWHERE, N_TOKENS)
    assert len(seen) == 4
    for weights in seen:
        assert (weights[0, :, 12:, 5:12] == 0).all() and (weights[0, :, 5:12, 5:12] > 0).any()
        assert torch.allclose(weights.sum(-1), torch.ones(()))


def test_what_cannot_be_known_is_unknown(tiny):
    spans = {"first": (5, 12), "empty": (12, 12), "one": (12, 13), "last": (13, 20)}
    found = {one.source_chunk_id: one for one in influences(tiny("llama"), TOKENS[:20], spans)}
    by_target = {row["target_chunk_id"]: row for row in found["first"].rows}
    assert by_target["empty"]["kl"] is None and by_target["empty"]["n_tokens"] == 0
    assert by_target["one"]["kl"] is None and by_target["one"]["log_kl"] is None  # predicted by the source itself
    assert by_target["last"]["n_tokens"] == 7
    assert [row["kl"] for row in found["empty"].rows] == [None, None] and found["empty"].noise is None
    assert found["last"].rows == [] and found["last"].noise is None and found["last"].answer_kl is None
    within = list(influences(tiny("llama"), TOKENS, {"a": (5, 12), "b": (12, 40)}, (38, 40)))
    assert within[0].answer_kl > 0 and within[1].answer_kl is None
    (at_once,) = influences(tiny("llama"), TOKENS, {"a": (5, 12)}, (12, 15))
    assert at_once.answer_kl > 0 and at_once.n_answer == 2  # the first of its tokens the source itself predicts


def test_what_is_asked_must_be_there(tiny):
    loaded = tiny("llama")
    for suppressed in ("layers 2-4", "layers 2-1", "head 4.0", "head 0.4", "heads", "all "):
        with pytest.raises(SuppressionError, match="expected all"):
            list(influences(loaded, TOKENS, SPANS, None, suppressed))
    with pytest.raises(SuppressionError, match="reading order"):
        list(influences(loaded, TOKENS, {"a": (12, 20), "b": (5, 12)}))
    with pytest.raises(SuppressionError, match="60 tokens"):
        list(influences(loaded, TOKENS, SPANS, (50, 61)))
    with pytest.raises(EditError, match=r"\[5, 12\)"):
        encode(loaded, TOKENS).without([(5, 12)], EVERYWHERE, 12)
    assert part_of("layers 0-3", n_layers=4, n_heads=4) == EVERYWHERE


def test_ranges_of_layers_tile_the_model():
    assert layer_ranges(30, 3) == ["layers 0-9", "layers 10-19", "layers 20-29"]
    assert layer_ranges(4, 0) == [] and layer_ranges(4, 1) == ["layers 0-3"]
    assert layer_ranges(3, 5) == ["layers 0-0", "layers 1-1", "layers 2-2"]
    for n_layers in range(1, 12):
        for n in range(1, 6):
            covered = []
            for name in layer_ranges(n_layers, n):
                covered += part_of(name, n_layers=n_layers, n_heads=1).layers
            assert covered == list(range(n_layers))


def made(source: str, **kl: float | None) -> Influences:
    rows = [{"source_chunk_id": source, "target_chunk_id": target, "kl": value} for target, value in kl.items()]
    return Influences(source, "m", "all", rows, 0.5, 2, 1e-9)


def test_a_chunk_is_summed_up_over_those_beside_it():
    rows = chunk_influences([made("a", b=4.0, c=1.0, d=2.0), made("b", c=3.0, d=None), made("c", d=1.5), made("d")])
    a, b, c, d = rows
    assert (a["out_influence"], a["n_later"], a["in_influence"], a["n_earlier"]) == (pytest.approx(7 / 3), 3, None, 0)
    assert (b["out_influence"], b["n_later"], b["in_influence"]) == (3.0, 1, 4.0)
    assert c["in_influence"] == 2.0 and d["in_influence"] == 1.75 and d["n_earlier"] == 2
    # the median of 4, 1, 2, 3 and 1.5 is 2
    assert [row["last_reader"] for row in rows] == [3, 1, 0, None]
    assert d["out_influence"] is None and a["answer_kl"] == 0.5 and a["suppressed"] == "all"
    assert chunk_influences([made("a")])[0]["last_reader"] is None


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3", "opt", "mixtral"])
def test_other_families_go_by_their_own_attention(family):
    """Sinks, latent attention and experts stay what they are: with nothing suppressed the model is itself."""
    row = next(row for row in ROWS if row.family == family)
    encoded = encode(loaded(row), ROW_TOKENS)
    taken, nothing = encoded.without([(5, 9), (9, 9)], Part(range(2)), len(ROW_TOKENS))
    assert torch.allclose(nothing, encoded.normed[9:], atol=1e-5)
    assert (taken - encoded.normed[9:]).abs().max() > 0.05


@pytest.mark.parametrize("family", ["bloom", "jamba", "falcon_mamba"])
def test_a_family_with_layers_that_cannot_be_masked_is_refused(family):
    row = next(row for row in ROWS if row.family == family)
    with pytest.raises(EditError, match=f"family {family}: layers .*0.* have none that can be masked"):
        encode(loaded(row), ROW_TOKENS).without([(5, 9)], Part(range(2)), len(ROW_TOKENS))
