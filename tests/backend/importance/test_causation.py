"""Planted worlds: a stand-in for the model writes answers, so that the effect of steering is known."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.importance.causation import (
    ANSWER,
    AT_ANCHORS,
    AT_MATCHES,
    BEYOND,
    BY_CHANCE,
    compared,
    differences,
    in_words,
)
from backend.importance.steered_effects import ANSWERS_CHANGED, effects_of_chunk

N, PAIRS = 16, 24


def written(rng, flips: dict[str, float]) -> pd.DataFrame:
    """What a stand-in writes at one chunk: every arm the same answer, which an arm's steering flips that often."""
    rows = []
    for start in ("before", "after"):
        for number in range(N):
            answer = str(rng.integers(2))
            for arm in ("base", "steered", "random"):
                said = "other" if rng.random() < flips.get(arm, 0.0) else answer
                rows.append(
                    {
                        "start": start,
                        "arm": arm,
                        "sample": number,
                        "answer": said,
                        "cluster": said,
                        "is_correct": said == "1",
                        "similarity": float(rng.random()) if start == "before" else None,
                        "resampled_chunk": f"s{number}" if start == "before" else None,
                    }
                )
    return pd.DataFrame(rows)


def effects(anchor: dict[str, float], match: dict[str, float], *, seed: int = 0, pairs: int = PAIRS) -> pd.DataFrame:
    """The share of changed answers of every pair, two pairs a problem."""
    rng, rows = np.random.default_rng(seed), []
    for pair in range(pairs):
        problem = f"p{pair // 2:02d}"
        for role, flips in (("anchor", anchor), ("match", match)):
            found = effects_of_chunk(written(rng, flips), n_bootstrap=0, seed=pair)
            rows += [
                {"pair_id": f"x{pair:02d}", "role": role, "anchor_problem": problem, "match_problem": problem, **row}
                for row in found
                if row["quantity"] == ANSWERS_CHANGED
            ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def planted():
    """Steering at anchors flips the answer in 4 of 10, and nothing else does anything."""
    return compared(effects({"steered": 0.4}, {}), ANSWERS_CHANGED)


def test_a_planted_effect_has_the_right_size_an_interval_that_holds_it_and_a_small_p(planted):
    found = planted[ANSWER].found
    assert found.mean == pytest.approx(0.4, abs=0.06) and found.low < 0.4 < found.high
    assert found.p < 0.001 and (found.n, found.n_clusters) == (24, 12)
    assert in_words(planted, ANSWERS_CHANGED).startswith(
        "Yes: answers changed (share of pairs of continuations) is larger at anchors"
    )


def test_it_is_there_beyond_random_directions_at_anchors_and_not_at_matches(planted):
    assert planted[BEYOND].found.mean == pytest.approx(0.4, abs=0.06) and planted[BEYOND].shown
    assert planted[AT_ANCHORS].shown and not planted[AT_MATCHES].shown
    assert planted[AT_MATCHES].found.mean == 0 == planted[BY_CHANCE].found.mean


def test_no_effect_is_a_none_that_says_what_it_would_have_found():
    found = compared(effects({"steered": 0.3, "random": 0.3}, {"steered": 0.3, "random": 0.3}, seed=3), ANSWERS_CHANGED)
    answer = found[ANSWER]
    assert not answer.shown and answer.found.p > 0.05
    assert answer.power == tuple(sorted(answer.power)) and answer.power[-1] > 0.9 > answer.power[0]
    said = in_words(found, ANSWERS_CHANGED)
    assert said.startswith("No difference is shown") and f"{answer.power[-1]:.0%} of those of 0.2" in said


def test_where_random_directions_do_the_same_it_is_said_to_be_the_place():
    found = compared(effects({"steered": 0.5, "random": 0.5}, {}, seed=1), ANSWERS_CHANGED)
    assert found[ANSWER].shown and found[BY_CHANCE].shown and not found[BEYOND].shown
    assert "it is the place, not the direction" in in_words(found, ANSWERS_CHANGED)


def test_a_difference_the_other_way_is_said_so():
    found = compared(effects({}, {"steered": 0.4}, seed=2), ANSWERS_CHANGED)
    assert in_words(found, ANSWERS_CHANGED).startswith("No, the other way")


def test_a_pair_with_an_unknown_side_is_left_out_and_counted():
    rows = effects({"steered": 0.4}, {}, pairs=6)
    rows.loc[(rows["pair_id"] == "x00") & (rows["role"] == "match"), "value"] = None
    found = compared(rows, ANSWERS_CHANGED)
    assert (found[ANSWER].found.n, found[ANSWER].n_left_out, found[AT_ANCHORS].found.n) == (5, 1, 6)
    assert "1 unknown" in in_words(found, ANSWERS_CHANGED)


def test_nothing_known_is_said_to_be_unknown():
    found = compared(effects({}, {}, pairs=2).assign(value=math.nan), ANSWERS_CHANGED)
    assert in_words(found, ANSWERS_CHANGED).startswith("Unknown")


def test_pairs_across_problems_tie_these_into_one_cluster():
    rows = pd.DataFrame(
        {
            "pair_id": [pair for pair in "abcd" for _ in range(4)],
            "role": ["anchor", "anchor", "match", "match"] * 4,
            "arm": ["steered", "random"] * 8,
            "value": 0.0,
            "anchor_problem": [problem for problem in ("p", "q", "r", "s") for _ in range(4)],
            "match_problem": [problem for problem in ("p", "r", "q", "p") for _ in range(4)],
        }
    )
    assert differences(rows, ANSWER)["cluster"].tolist() == ["p", "q", "q", "p"]


def test_every_contrast_is_its_weighted_sum():
    rows = effects({"steered": 0.6, "random": 0.2}, {"steered": 0.3, "random": 0.1}, pairs=4)
    value = rows.set_index(["pair_id", "role", "arm"])["value"]
    by_pair = {name: value.xs(name, level="pair_id") for name in sorted(set(rows["pair_id"]))}
    expected = {
        ANSWER: lambda v: v["anchor", "steered"] - v["match", "steered"],
        AT_ANCHORS: lambda v: v["anchor", "steered"] - v["anchor", "random"],
        AT_MATCHES: lambda v: v["match", "steered"] - v["match", "random"],
        BEYOND: lambda v: v["anchor", "steered"] - v["anchor", "random"] - v["match", "steered"] + v["match", "random"],
        BY_CHANCE: lambda v: v["anchor", "random"] - v["match", "random"],
    }
    for name, sum_of in expected.items():
        assert differences(rows, name)["difference"].tolist() == pytest.approx([sum_of(v) for v in by_pair.values()])


def test_with_too_few_problems_it_says_that_nothing_could_be_shown():
    found = compared(effects({"steered": 0.9}, {}, pairs=8), ANSWERS_CHANGED)
    assert found[ANSWER].found.p == 0.125 and "of 4 problems p cannot fall below 0.12" in in_words(
        found, ANSWERS_CHANGED
    )


def test_of_what_may_be_below_0_larger_is_no_yes():
    rows = effects({"steered": 0.9}, {}).assign(quantity="outcome_shift_accuracy")
    assert in_words(compared(rows, "outcome_shift_accuracy"), "outcome_shift_accuracy").startswith(
        "A difference is shown"
    )
