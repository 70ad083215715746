"""Counterfactual directions, and steering along them, equal plain loops over plain passes."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.geometry.counterfactuals import (
    Alternative,
    Anchor,
    CounterfactualError,
    Text,
    Wanted,
    alternatives,
    counterfactuals_cot,
    first_chunk_written,
)
from backend.ids import chunk_id
from backend.models.kl import kl_reference
from backend.models.layers import layers_of, residual_of, with_residual
from backend.schema.tables import TABLES

LAYER = 1
TOKENS = tuple(torch.randint(3, 384, (40,), generator=torch.Generator().manual_seed(0)).tolist())
SPANS = {chunk_id("c", i): span for i, span in enumerate([(8, 15), (15, 21), (21, 30)])}  # 10 tokens follow the CoT
TEXT = Text(TOKENS, SPANS, 8, (33, 36))
WANTED = Wanted((LAYER,), (-1.0, -0.5, 0.0), 2, 2, seed=3)
# What stands in the place of c_0001: one begins as the chunk does, one rollout in six wrote it.
READ = (
    Alternative((*TOKENS[:15], 9, 250, 31), (15, 18), 4),
    Alternative((*TOKENS[:17], 77, 41, 5, 6), (15, 21), 1),
    Alternative((*TOKENS[:15], 301), (15, 16), 1),
)
ANCHOR = Anchor("c_0001", (15, 21), READ, everywhere=True)


@pytest.fixture(scope="module")
def rows(tiny):
    return counterfactuals_cot(tiny("llama"), TEXT, [ANCHOR], WANTED)


@torch.inference_mode()
def stream(loaded, tokens, edit=None):
    """Residual stream at LAYER and logits of a plain pass of the whole text; `edit` is (token, vector)."""
    kept = []

    def hook(_block, _inputs, output):
        h = residual_of(output).clone()
        if edit is not None:
            h[0, edit[0]] += torch.from_numpy(edit[1]).to(h)
        kept.append(h[0].double().numpy())
        return with_residual(output, h)

    handle = layers_of(loaded.model).blocks[LAYER].register_forward_hook(hook)
    try:
        return loaded.model(torch.tensor([list(tokens)])).logits[0], kept[0]
    finally:
        handle.remove()


def plain_direction(loaded):
    """a − a_counter, by a loop over the six rollouts."""
    own = stream(loaded, TOKENS)[1][15:21].mean(0)
    rollouts = [one for one in READ for _ in range(one.n)]
    return own, np.mean([stream(loaded, one.token_ids)[1][slice(*one.span)].mean(0) for one in rollouts], axis=0)


def test_the_direction_is_the_chunk_less_the_mean_of_its_dissimilar_rollouts_first_chunks(tiny, rows):
    own, counter = plain_direction(tiny("llama"))
    (row,) = rows.counterfactuals
    vectors = {one["direction_id"]: one for one in rows.directions}
    made = vectors[row["direction_id"]]
    np.testing.assert_allclose(made["norm"] * made["vector"], own - counter, rtol=1e-3, atol=1e-4)
    assert made["kind"] == "counterfactual" and json.loads(made["parameters"])["n_rollouts"] == 6
    cosine = own @ counter / np.linalg.norm(own) / np.linalg.norm(counter)
    assert (row["n_rollouts"], row["n_texts"], row["why_not"]) == (6, 3, None)
    assert row["cosine"] == pytest.approx(cosine, rel=1e-4) and row["norm"] == made["norm"]


def test_every_kl_equals_a_plain_pass_steered_by_so_many_lengths_of_v(tiny, rows):
    loaded = tiny("llama")
    base, _ = stream(loaded, TOKENS)
    vectors = {one["direction_id"]: one["vector"].astype(float) for one in rows.directions}
    at = {0: 7, 1: 14, 2: 20, 3: 29}  # the last token before each place
    for row in rows.anchor_steering:
        assert row.keys() == TABLES["anchor_steering"].columns.keys()
        step = row["beta"] * row["norm"] * vectors[row["direction_id"]]
        kl = kl_reference(stream(loaded, TOKENS, (at[row["place"]], step))[0], base).numpy()
        rest = kl[max(20, at[row["place"]]) : 29]
        assert row["n_rest"] == len(rest) and (row["kl_rest"] is None) == (row["place"] == 3)
        assert row["kl_answer"] == pytest.approx(kl[32:35].mean(), rel=2e-3, abs=1e-8)
        if row["kl_rest"] is not None:
            assert row["kl_rest"] == pytest.approx(rest.mean(), rel=2e-3, abs=1e-8)


def test_v_is_steered_before_and_after_and_alternatives_at_every_place(rows):
    of = {}
    for row in rows.anchor_steering:
        of.setdefault((row["arm"], row["place"]), set()).add((row["number"], row["beta"]))
    full = {(0, -1.0), (0, -0.5), (0, 0.0)}
    assert of["counterfactual", 1] == of["counterfactual", 2] == full
    assert of["random", 1] == full | {(1, beta) for _, beta in full} and ("random", 0) not in of
    for arm in ("alternative", "random_alternative"):
        assert all(of[arm, place] == {(0, -1.0), (1, -1.0)} for place in range(4))
    norms = {(row["arm"], row["number"]): row["norm"] for row in rows.anchor_steering}
    assert norms["counterfactual", 0] == norms["random", 1]
    assert norms["alternative", 1] == norms["random_alternative", 1] != norms["alternative", 0]


def test_beta_zero_is_exactly_zero(rows):
    unsteered = [row for row in rows.anchor_steering if row["beta"] == 0]
    assert len(unsteered) == 6 and {row["kl_answer"] for row in unsteered} == {row["kl_rest"] for row in unsteered} == {
        0
    }


def test_beta_minus_one_puts_the_counterfactual_activation_where_the_anchor_was(tiny):
    """An anchor of one token: just after it, the steered residual stream is the counterfactual one."""
    loaded, spans = tiny("llama"), {"c_0000": (8, 9), "c_0001": (9, 30)}
    anchor = Anchor("c_0000", (8, 9), (Alternative((*TOKENS[:8], 9, 250, 31), (8, 11), 1),), everywhere=False)
    found = counterfactuals_cot(loaded, replace(TEXT, spans=spans), [anchor], WANTED)
    counter = stream(loaded, anchor.alternatives[0].token_ids)[1][8:11].mean(0)
    (row,) = [
        one for one in found.anchor_steering if (one["arm"], one["place"], one["beta"]) == ("counterfactual", 1, -1)
    ]
    v = next(one["vector"] for one in found.directions if one["direction_id"] == row["direction_id"]).astype(float)
    logits, steered = stream(loaded, TOKENS, (8, -row["norm"] * v))
    np.testing.assert_allclose(steered[8], counter, rtol=1e-3, atol=1e-4)
    assert row["kl_rest"] == pytest.approx(
        kl_reference(logits, stream(loaded, TOKENS)[0])[8:29].mean().item(), rel=2e-3
    )


def test_attention_rows_are_those_of_plain_passes_and_the_unsteered_one_comes_first(tiny, rows):
    first, *others = rows.anchor_attention
    assert (first["side"], first["arm"], first["n_keys"], first["n_queries"]) == ("none", "unsteered", 6, 9)
    assert [(row["side"], row["arm"], row["number"]) for row in others] == [
        (side, arm, number)
        for side in ("before", "after")
        for arm, number in (("counterfactual", 0), ("random", 0), ("random", 1))
    ]
    model = tiny("llama").model
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.inference_mode():
        weights = eager(torch.tensor([list(TOKENS)]), output_attentions=True).attentions
    by_layer = [layer[0, :, 21:30, 15:21].sum(-1).mean().item() for layer in weights[LAYER + 1 :]]
    assert first["by_layer"] == pytest.approx(by_layer, rel=1e-4) and first["attention"] == pytest.approx(
        np.mean(by_layer), rel=1e-4
    )
    for row in rows.anchor_attention:
        assert row.keys() == TABLES["anchor_attention"].columns.keys()


def test_a_chunk_whose_alternatives_say_the_same_points_nowhere_and_is_not_steered(tiny):
    same = Anchor("c_0001", (15, 21), (Alternative(TOKENS[:21], (15, 21), 3),), everywhere=True)
    found = counterfactuals_cot(tiny("llama"), TEXT, [same], WANTED)
    (row,) = found.counterfactuals
    small = row["norm"] is None or row["norm"] < 1e-4  # read in two ways, it differs by rounding at most
    assert small and row["cosine"] == pytest.approx(1, abs=1e-5)


def test_a_chunk_that_is_not_the_chains_and_one_without_alternatives_are_refused(tiny):
    for anchor in (replace(ANCHOR, span=(14, 21)), replace(ANCHOR, alternatives=())):
        with pytest.raises(CounterfactualError, match="c_0001"):
            counterfactuals_cot(tiny("llama"), TEXT, [anchor], WANTED)
    stranger = replace(ANCHOR, alternatives=(Alternative((5, *TOKENS[1:16]), (15, 16), 1),))
    with pytest.raises(CounterfactualError, match="begins with another token"):
        counterfactuals_cot(tiny("llama"), TEXT, [stranger], WANTED)
    assert counterfactuals_cot(tiny("llama"), TEXT, [], WANTED).counterfactuals == []


def test_what_rollouts_wrote_is_read_in_its_context_by_one_tokenisation(tiny):
    tokenizer, context = tiny("llama").tokenizer, "What is 30 + 12?\nFirst we add."
    found = alternatives(tokenizer, context, {" Wait, no.": 2, " So it is 42.": 3})
    assert [one.n for one in found] == [3, 2]
    for one, text in zip(found, (" So it is 42.", " Wait, no."), strict=True):
        assert list(one.token_ids) == tokenizer(context + text)["input_ids"]
        assert tokenizer.decode(one.token_ids[slice(*one.span)]) == text


def test_a_first_chunk_keeps_its_white_space_and_a_published_sentence_gets_the_chunks():
    assert first_chunk_written({"text": " Wait, is that so? Yes, it is.", "resampled_chunk": "x"}, "") == (
        " Wait, is that so?"
    )
    assert first_chunk_written({"text": None, "resampled_chunk": "Wait."}, "\n\nFirst. ") == "\n\nWait."
