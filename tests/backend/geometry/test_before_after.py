"""Steering before and after a chunk equals plain steered passes over the same later tokens; planted steps are told from
slopes.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backend.geometry import directions as make
from backend.geometry.before_after import BeforeAfterError, along_the_cot, answer_span, before_after_cot, tokens_read
from backend.geometry.sweep import SweepError, noise_floor
from backend.ids import chunk_id, chunk_index
from backend.models.kl import kl_reference
from backend.models.layers import layers_of, residual_of, with_residual
from backend.schema.tables import TABLES

LAYER = 1
BETAS = (-2.0, 0.0, 0.5, 3.0)
TOKENS = torch.randint(3, 384, (40,), generator=torch.Generator().manual_seed(0)).tolist()
SPANS = {chunk_id("c", i): span for i, span in enumerate([(8, 15), (15, 21), (21, 30)])}  # the CoT; 10 tokens follow it
ANSWER = (33, 36)


def randoms(loaded, n=2):
    return make.random(n, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made


def measured(loaded, directions=None, spans=SPANS, answer=ANSWER, betas=BETAS, **options):
    directions = randoms(loaded) if directions is None else directions
    return before_after_cot(loaded, TOKENS, spans, directions, n_prompt=8, answer_spans=answer, betas=betas, **options)


@torch.inference_mode()
def plain_kl(loaded, place, vector, beta):
    """A hooked forward pass of the whole text and the KL of its logits in float64, at every position."""

    def steer(_block, _inputs, output):
        h = residual_of(output).clone()
        h[0, place] += beta * h[0, place].square().mean().sqrt() * torch.from_numpy(vector)
        return with_residual(output, h)

    base = loaded.model(torch.tensor([TOKENS])).logits[0]
    handle = layers_of(loaded.model).blocks[LAYER].register_forward_hook(steer)
    try:
        return kl_reference(loaded.model(torch.tensor([TOKENS])).logits[0], base).numpy()
    finally:
        handle.remove()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_both_sides_equal_plain_steered_passes_over_the_same_later_tokens(tiny, family):
    loaded = tiny(family)
    vectors = {direction.direction_id: direction.vector for direction in randoms(loaded)}
    rows = measured(loaded)
    assert len(rows) == 3 * 2 * 2 * len(BETAS)  # chunks × directions × sides × betas
    for row in rows:
        assert row.keys() == TABLES["before_after"].columns.keys()
        start, end = SPANS[row["chunk_id"]]
        kl = plain_kl(
            loaded, {"before": start - 1, "after": end - 1}[row["side"]], vectors[row["direction_id"]], row["beta"]
        )
        assert row["n_rest"] == 30 - end and row["n_answer"] == 3
        assert row["kl_answer"] == pytest.approx(kl[32:35].mean(), rel=1e-3, abs=1e-8)
        if row["chunk_id"] == "c_0002":
            assert row["kl_rest"] is None
        else:
            assert row["kl_rest"] == pytest.approx(kl[end - 1 : 29].mean(), rel=1e-3, abs=1e-8)
            assert row["beta"] == 0 or row["kl_rest"] > 1e-6


def test_beta_zero_is_exactly_zero(tiny):
    unsteered = [row for row in measured(tiny("llama")) if row["beta"] == 0]
    assert len(unsteered) == 12
    assert {row["kl_answer"] for row in unsteered} == {0.0} and {row["kl_rest"] for row in unsteered} == {0.0, None}


def test_steering_after_a_chunk_cannot_move_the_chunk_and_steering_before_it_can(tiny):
    loaded = tiny("llama")
    (direction,) = randoms(loaded, 1)
    start, end = SPANS["c_0001"]
    assert plain_kl(loaded, end - 1, direction.vector, 3.0)[: end - 1].max() == 0
    assert plain_kl(loaded, start - 1, direction.vector, 3.0)[start - 1 : end - 1].min() > 0
    within = measured(loaded, answer=(start, end))  # were the chunk the answer
    known = {(row["chunk_id"], row["side"]): row["kl_answer"] is not None for row in within}
    assert known == {
        ("c_0000", "before"): True,
        ("c_0000", "after"): True,
        ("c_0001", "before"): True,
        ("c_0001", "after"): False,
        ("c_0002", "before"): False,
        ("c_0002", "after"): False,
    }
    assert {row["n_answer"] for row in within if row["kl_answer"] is None} == {0}


def test_steering_after_a_chunk_and_before_the_next_is_the_same_for_the_answer(tiny):
    rows = {
        (row["chunk_id"], row["side"], row["direction_id"], row["beta"]): row["kl_answer"]
        for row in measured(tiny("llama"))
    }
    for (chunk, side, direction, beta), kl in rows.items():
        if side == "after" and chunk != "c_0002":
            assert kl == pytest.approx(
                rows[chunk_id("c", chunk_index(chunk) + 1), "before", direction, beta], rel=1e-4, abs=1e-9
            )


def test_no_answer_is_none_and_the_rest_is_as_it_was(tiny):
    without, with_it = measured(tiny("llama"), answer=None), measured(tiny("llama"))
    assert {(row["kl_answer"], row["n_answer"]) for row in without} == {(None, 0)}
    for one, other in zip(without, with_it, strict=True):
        assert one["kl_rest"] == pytest.approx(other["kl_rest"], abs=1e-6)


def test_batches_and_blocks_change_nothing_but_rounding(tiny, monkeypatch):
    loaded = tiny("qwen2")
    together = measured(loaded, betas=[0.0, 2.0])
    for name in ("_TOKENS", "_HELD", "_BLOCK"):
        monkeypatch.setattr(f"backend.geometry.before_after.{name}", 3)
    for one, other in zip(measured(loaded, betas=[0.0, 2.0]), together, strict=True):
        assert one["kl_answer"] == pytest.approx(other["kl_answer"], abs=1e-6)
        assert one["kl_rest"] == pytest.approx(other["kl_rest"], abs=1e-6)


def test_the_noise_floor_is_that_of_the_tokens_after_the_chunk(tiny):
    loaded = tiny("llama")
    floors = noise_floor(loaded, TOKENS, SPANS)
    found = {row["chunk_id"]: row["noise_floor"] for row in measured(loaded)}
    assert found["c_0002"] is None
    assert found["c_0001"] == pytest.approx(floors["c_0002"], rel=0.5)
    assert found["c_0000"] == pytest.approx((6 * floors["c_0001"] + 9 * floors["c_0002"]) / 15, rel=0.5)


def test_a_direction_made_from_a_chunk_is_used_at_that_chunk_alone(tiny):
    loaded = tiny("llama")
    own = make.per_chunk({"c_0001": np.arange(64.0)}, model_id=loaded.model_id, layer=2).made
    rows = measured(loaded, directions=own, unit="norm", betas=[0.1])
    assert [(row["chunk_id"], row["side"], row["layer"], row["unit"], row["beta"]) for row in rows] == [
        ("c_0001", "before", 2, "norm", 0.1),
        ("c_0001", "after", 2, "norm", 0.1),
    ]
    assert measured(loaded, directions=[]) == [] == measured(loaded, spans={})


def test_what_cannot_be_steered_is_refused(tiny):
    loaded = tiny("llama")
    elsewhere = make.random(1, 64, model_id="m_other", layer=LAYER, seed=0).made
    for options, said in (
        ({"spans": {"c_0000": (7, 15)}}, "8 tokens of the prompt"),
        ({"spans": {"c_0000": (30, 41)}}, "40 tokens"),
        ({"answer": (38, 41)}, "The answer"),
        ({"answer": (36, 36)}, "The answer"),
        ({"betas": [math.nan]}, "Every beta"),
        ({"directions": elsewhere}, "of model m_other"),
    ):
        with pytest.raises(BeforeAfterError, match=said):
            measured(loaded, **options)
    half = SimpleNamespace(model=torch.nn.Linear(2, 2).to(torch.bfloat16))
    with pytest.raises(SweepError, match="float32"):
        measured(half, directions=[])


def cot_row(loaded, text, after=None, answer="42", prompt="What is the sum?\n"):
    token_ids = loaded.tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
    return {
        "cot_id": "c",
        "prompt": prompt,
        "text": text,
        "after_text": after,
        "think_close": "</think>",
        "token_ids": token_ids,
        "answer": answer,
    }


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (r" So \boxed{41}? Wait: the answer is \boxed{42}. That is all.", None),
        (" We need the total, 42 or 41.", "\n\nTherefore the answer is \\boxed{ 42 }."),
        (" First 30 + 12.\n\n", " The answer is 42."),
        (" First 30 + 12.\n#### 42\nDone with 42.", None),
        (r" It is \boxed{42} é.", "\n\nThat was all, é."),
    ],
)
def test_the_answer_is_found_where_the_model_wrote_it(tiny, text, after):
    loaded = tiny("llama")
    cot = cot_row(loaded, text, after)
    tokens, (start, end) = tokens_read(loaded.tokenizer, cot), answer_span(loaded.tokenizer, cot)
    assert tokens[: len(cot["token_ids"])] == cot["token_ids"]
    assert loaded.tokenizer.decode(tokens) == cot["prompt"] + text + ("" if after is None else "</think>" + after)
    assert loaded.tokenizer.decode(tokens[start:end]).strip(" {}.\n") == "42"
    what_follows = loaded.tokenizer.decode(tokens[end:])
    assert "42" not in what_follows or what_follows.endswith("Done with 42.")


def test_an_answer_in_two_boxes_reaches_from_the_first_to_the_last(tiny):
    loaded = tiny("llama")
    cot = cot_row(loaded, r" So \boxed{41}? No.", r" It is \boxed{42} and \boxed{43}.", answer="42, 43")
    start, end = answer_span(loaded.tokenizer, cot)
    assert (
        loaded.tokenizer.decode(tokens_read(loaded.tokenizer, cot)[start:end]).strip(" {}.\n") == r"42} and \boxed{43"
    )


def test_no_answer_in_the_text_is_none(tiny):
    loaded = tiny("llama")
    assert answer_span(loaded.tokenizer, cot_row(loaded, " We add 30 and 12.", answer="42")) is None  # a forced one
    assert answer_span(loaded.tokenizer, cot_row(loaded, " The answer is 42.", answer=None)) is None
    assert (
        answer_span(loaded.tokenizer, cot_row(loaded, " The answer is 41.", answer="42")) is None
    )  # published, and not what is read
    changed = cot_row(loaded, " The answer is 42.") | {"token_ids": [1, 2, 3]}
    with pytest.raises(BeforeAfterError, match="3 stored ones"):
        answer_span(loaded.tokenizer, changed)


def planted(log_kl, noise=0.3, n_directions=6, seed=0, floor=1e-12):
    """Rows of one CoT whose log KL on the answer, by place, is `log_kl` and noise; two betas,
    one four times as strong."""
    rng = np.random.default_rng(seed)
    values = np.asarray(log_kl, float)[:, None] + noise * rng.standard_normal((len(log_kl), n_directions))
    return [
        {
            "chunk_id": chunk_id("c", chunk),
            "direction_id": f"d{j}",
            "side": side,
            "beta": beta,
            "noise_floor": floor,
            "kl_answer": 0.0 if beta == 0 else float(beta**2 * np.exp(values[chunk + (side == "after"), j])),
        }
        for chunk in range(len(log_kl) - 1)
        for j in range(n_directions)
        for side in ("before", "after")
        for beta in (0.0, 1.0, 2.0)
    ]


def test_a_planted_step_is_sharp_and_is_at_the_chunk_that_was_planted():
    found = along_the_cot(planted([0] * 6 + [-3] * 4))  # steering before chunk 5 moves the answer, after it no longer
    assert (
        found.verdict == "sharp" and found.p_order < 0.05 and found.aic_step < min(found.aic_line, found.aic_constant)
    )
    assert (found.step.x_before, found.step.x_after) == (5, 6) and found.step.low <= 5 and found.step.high >= 6
    assert found.step.size == pytest.approx(-3, abs=0.3) and found.step.p < 0.01
    assert (found.n_places, found.n_unknown) == (10, 0)


def test_a_planted_slope_is_gradual_and_a_flat_line_is_no_change():
    slope = along_the_cot(planted(-0.5 * np.arange(10)))
    assert slope.verdict == "gradual" and slope.slope == pytest.approx(-0.5, abs=0.1) and slope.step.p < 0.01
    assert along_the_cot(planted([1.0] * 10)).verdict == "no change"


def test_verdicts_are_right_in_most_of_many_plants_and_places_in_no_order_are_uneven():
    rng = np.random.default_rng(0)
    step = [along_the_cot(planted([0] * 5 + [-2] * 5, noise=0.6, seed=i)).verdict for i in range(20)]
    slope = [along_the_cot(planted(-0.4 * np.arange(10), noise=0.6, seed=i)).verdict for i in range(20)]
    flat = [along_the_cot(planted([0] * 10, noise=0.6, seed=i)).verdict for i in range(20)]
    assert step.count("sharp") >= 18 and slope.count("gradual") >= 18 and flat.count("no change") >= 18
    uneven = [
        along_the_cot(planted(rng.standard_normal(10), seed=i)).verdict for i in range(40)
    ]  # places differ, in no order
    assert uneven.count("uneven") >= 34


def test_few_places_and_unknown_values_are_said_to_be_so():
    few = along_the_cot(planted([0, 0, -3]))
    assert (few.verdict, few.step, few.n_places) == (None, None, 3) and math.isnan(few.aic_line)
    assert along_the_cot([]).verdict is None
    short = along_the_cot(
        planted([0, 0, 0, -3, -3, -3])
    )  # six places: in 1 of 10 orders chance makes as perfect a step
    assert (short.verdict, short.best) == ("uneven", "sharp") and 0.05 < short.p_order < 0.2 and short.step.p < 0.01
    rows = planted([0] * 4 + [-3] * 6)
    for row in rows:
        if chunk_index(row["chunk_id"]) + (row["side"] == "after") >= 8:  # behind the answer
            row["kl_answer"], row["noise_floor"] = None, math.nan  # as a data frame has it
    assert (found := along_the_cot(rows)).verdict == "sharp" and (found.n_places, found.n_unknown) == (8, 12)
    quiet = along_the_cot(planted([0] * 10, floor=1e3))  # everything lies below the noise floor
    assert quiet.verdict == "no change" and quiet.step is None


def test_the_order_of_rows_does_not_matter():
    rows = planted([0] * 6 + [-3] * 4)
    assert along_the_cot(rows) == along_the_cot(rows[::-1])
