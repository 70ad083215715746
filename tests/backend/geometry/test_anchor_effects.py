"""Effects of a study of planted anchors are what was planted, pair by pair and problem by problem."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.geometry import anchor_effects as effects
from backend.geometry.anchor_effects import ANCHORS, BEYOND, DIFFERENCE, MATCHED, RANDOM, TOWARDS
from backend.ids import chunk_id

N_COTS, N_CHUNKS = 16, 6
GAIN = 0.8  # log KL before − after that an anchor has beyond its match


def planted(gain=GAIN, floor=1e-9, seed=0):
    """Chunk 2 of each CoT is an anchor, chunk 3 its match; two CoTs a problem. Random directions do as much before as
    after, alternatives lose 2 nats of log KL across the anchor and nothing elsewhere."""
    rng = np.random.default_rng(seed)
    chunks, steering, attention = [], [], []
    for number in range(N_COTS):
        for index, is_anchor in ((2, True), (3, False)):
            chunk = chunk_id(f"c{number}", index)
            chunks.append(
                {
                    "chunk_id": chunk,
                    "matched_chunk_id": chunk_id(f"c{number}", 5 - index),
                    "is_anchor": is_anchor,
                    "cot_id": f"c{number}",
                    "chunk_index": index,
                    "problem_id": f"p{number // 2}",
                    "noise_floor": floor,
                }
            )
            level, drop = rng.normal(-5, 1), 0.5 + gain * is_anchor + rng.normal(0, 0.1)
            for side, log in ((0, level + drop), (1, level)):
                steering.append(row(chunk, TOWARDS, 0, index + side, log))
                steering.append(row(chunk, TOWARDS, 0, index + side, log - 9, beta=-0.5))
                steering += [row(chunk, RANDOM, k, index + side, level - 2 + (-1) ** k * 0.3) for k in range(2)]
            share = math.exp(rng.normal(-2, 0.3))
            attention.append(seen(chunk, "none", "unsteered", share))
            for side, change in (("before", -0.2), ("after", -0.7)):
                attention.append(seen(chunk, side, TOWARDS, share * math.exp(change)))
                attention.append(seen(chunk, side, RANDOM, share * math.exp(0.1)))
            if is_anchor:
                for place in range(N_CHUNKS):
                    for k in range(3):
                        base = rng.normal(-6, 1)
                        steering.append(row(chunk, "random_alternative", k, place, base))
                        log = base + 1 - 2 * (place > index) + rng.normal(0, 0.05)
                        steering.append(row(chunk, "alternative", k, place, log))
    return pd.DataFrame(chunks), pd.DataFrame(steering), pd.DataFrame(attention)


def row(chunk, arm, number, place, log, beta=-1.0):
    kl = math.exp(log)
    return {
        "chunk_id": chunk,
        "arm": arm,
        "number": number,
        "place": place,
        "beta": beta,
        "kl_rest": kl,
        "kl_answer": None,
    }


def seen(chunk, side, arm, share):
    return {"chunk_id": chunk, "side": side, "arm": arm, "number": 0, "attention": share}


@pytest.fixture(scope="module")
def study():
    return planted()


def test_before_less_after_is_that_of_the_logs_at_beta_minus_one(study):
    chunks, steering, _ = study
    found = effects.before_after_effects(chunks, steering, "rest").set_index("chunk_id")
    logs = steering[(steering["beta"] == -1) & (steering["arm"] == TOWARDS)].set_index(["chunk_id", "place"])["kl_rest"]
    for chunk, one in found.iterrows():
        index = one["chunk_index"]
        assert one[TOWARDS] == pytest.approx(math.log(logs[chunk, index] / logs[chunk, index + 1]))
        assert one[RANDOM] == pytest.approx(0, abs=1e-9) and one[BEYOND] == pytest.approx(one[TOWARDS])


def test_the_planted_difference_is_found_with_its_interval_over_problems_and_its_pairs(study):
    chunks, steering, _ = study
    found = effects.over_pairs(effects.before_after_effects(chunks, steering, "rest"))
    one = effects.of(found, DIFFERENCE, TOWARDS)
    assert (one.found.n, one.found.n_clusters, one.n_cots) == (16, 8, 16)
    assert one.found.low < GAIN < one.found.high and one.found.p < 0.05 and math.isnan(one.would_find)
    assert one.found.mean == pytest.approx(
        effects.of(found, ANCHORS, TOWARDS).found.mean - effects.of(found, MATCHED, TOWARDS).found.mean
    )


def test_where_nothing_was_planted_it_is_said_what_would_have_been_found():
    chunks, steering, _ = planted(gain=0.0, seed=4)
    one = effects.of(effects.over_pairs(effects.before_after_effects(chunks, steering, "rest")), DIFFERENCE, TOWARDS)
    assert one.found.p > 0.05 and 0.05 < one.would_find < 0.2


def test_a_pair_with_an_unknown_side_and_an_anchor_without_a_match_take_no_part(study):
    chunks, steering, _ = study
    lost = steering.assign(kl_rest=steering["kl_rest"].mask(steering["chunk_id"] == "c0_0003"))
    apart = chunks.assign(matched_chunk_id=chunks["matched_chunk_id"].mask(chunks["cot_id"] == "c1"))
    found = effects.over_pairs(effects.before_after_effects(apart[apart["chunk_id"] != "c1_0003"], lost, "rest"))
    assert {one.found.n for one in found} == {14}
    nothing = effects.over_pairs(effects.before_after_effects(chunks, steering, "answer"))
    assert {one.found.n for one in nothing} == {0} and all(math.isnan(one.found.mean) for one in nothing)


def test_a_kl_below_the_floor_counts_as_the_floor():
    chunks, steering, _ = planted(floor=1.0)
    found = effects.before_after_effects(chunks, steering, "rest")
    assert (found[TOWARDS].abs() < 1e-9).mean() > 0.9


def test_attention_is_compared_with_that_of_the_unsteered_model(study):
    chunks, _, attention = study
    for side, change in (("before", -0.2), ("after", -0.7)):
        found = effects.attention_effects(chunks, attention, side)
        assert found[TOWARDS].to_numpy() == pytest.approx(change) and found[BEYOND].to_numpy() == pytest.approx(
            change - 0.1
        )
    none = effects.attention_effects(chunks, attention[attention["side"] != "none"], "after")
    assert none[TOWARDS].isna().all()


def test_sharpness_is_the_drop_across_the_anchor_less_the_other_drops(study):
    chunks, steering, _ = study
    found = effects.sharpness(chunks, steering, "rest")
    assert len(found) == N_COTS and found["drop"].mean() == pytest.approx(2, abs=0.1)
    one = effects.mean_sharpness(found)
    assert one.found.low < 2 < one.found.high and one.found.p < 0.05
    assert effects.sharpness(chunks, steering[steering["place"].isin((2, 3))], "rest").empty


def test_one_anchors_course_has_a_sample_an_alternative_and_place(study):
    chunks, steering, _ = study
    chunk = chunks[chunks["is_anchor"]].iloc[0].to_dict()
    found = effects.along_the_chain(chunk, steering, "rest")
    assert (found.n_places, found.n_samples, found.best) == (6, 18, "sharp")
    assert (found.step.x_before, found.step.x_after) == (2, 3) and found.size.low < -2 < found.size.high
    assert effects.along_the_chain(chunk, steering, "answer").verdict is None
