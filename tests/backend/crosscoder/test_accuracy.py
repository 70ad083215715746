"""Solved problems are counted and compared in pairs; silence solves nothing, and what is unknown takes no part."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.accuracy import compare_arms, control_band, summarise_arms
from backend.models.interventions import InterventionError


def judged(arm, verdicts, **other):
    """One row for each (problem, sample, verdict); no answer where the verdict is "none"."""
    return [
        {
            "arm": arm,
            "problem_id": problem,
            "sample": k,
            "is_correct": None if verdict in (None, "none") else verdict,
            "answer": None if verdict == "none" else "1",
            "text": f"{problem} {k} {verdict}",
            "finish": "eos",
            "degenerate": False,
            "n_tokens": 10,
            **other,
        }
        for problem, own in verdicts.items()
        for k, verdict in enumerate(own)
    ]


def test_silence_solves_nothing_and_what_was_not_judged_takes_no_part():
    silent = judged("changed", {"p": ["none", "none", True, True]}, n_tokens=4)
    samples = pd.DataFrame(judged("base", {"p": [True, True, False, None]}) + silent)
    base, changed = summarise_arms(samples)
    assert (base["n"], base["n_judged"], base["n_without_answer"], base["solved_n"]) == (4, 3, 0, 3)
    assert base["solved"] == base["accuracy"] == pytest.approx(2 / 3)
    assert (changed["accuracy"], changed["accuracy_n"], changed["solved"], changed["solved_n"]) == (1, 2, 0.5, 4)
    assert (base["same"], base["same_n"]) == (4, 4) and (changed["same"], changed["same_n"]) == (0, 4)
    assert changed["solved_low"] < 0.5 < changed["solved_high"] and changed["length"] == 4
    found = {row["quantity"]: row for row in compare_arms(samples)}
    assert (found["solved"]["n"], found["solved"]["n_left_out"]) == (3, 1)
    assert found["solved"]["difference"] == pytest.approx(-1 / 3)
    assert compare_arms(samples, only=()) == [] and len(compare_arms(samples, only=("changed",))) == len(found)
    assert found["length by problem"]["difference"] == -6 and found["length by problem"]["n"] == 1


def test_thinking_tokens_are_counted_apart_where_they_were_counted():
    samples = pd.DataFrame(judged("base", {"p": [True, True]}, n_thinking=7, n_answer=2))
    (row,) = summarise_arms(samples)
    assert (row["length"], row["thinking"], row["answering"]) == (10, 7, 2)
    (before,) = summarise_arms(samples.drop(columns=["n_thinking", "n_answer"]))
    assert before["length"] == 10 and np.isnan([before["thinking"], before["answering_low"]]).all()


def test_with_one_sample_a_problem_both_tests_agree():
    base = {f"p{k}": [k % 3 == 0] for k in range(30)}
    changed = {f"p{k}": [k % 2 == 0] for k in range(30)}
    found = {
        row["quantity"]: row for row in compare_arms(pd.DataFrame(judged("base", base) + judged("changed", changed)))
    }
    assert found["solved"]["p"] == pytest.approx(found["solved by problem"]["p"])
    assert found["solved"]["difference"] == pytest.approx(found["solved by problem"]["difference"])
    with pytest.raises(InterventionError, match="no samples of arm reconstruct"):
        compare_arms(pd.DataFrame(judged("base", base)), against="reconstruct")


def arm_of_sets(arm, rng, sets, n=24, right=0.5):
    """Samples of an arm whose problems take `sets` of features in turn; each solves with its own chance."""
    chances = np.broadcast_to(right, sets)
    rows = judged(arm, {f"p{k}": [bool(rng.random() < chances[k % sets])] for k in range(n)})
    return [row | {"features": [k % sets, 9]} for k, row in enumerate(rows)]


def test_a_control_that_is_the_change_leaves_no_excess():
    rng = np.random.default_rng(0)
    base, own = arm_of_sets("base", rng, 1), arm_of_sets("changed", rng, 4)
    samples = pd.DataFrame([*base, *own, *({**row, "arm": "twin"} for row in own)])
    found = control_band(samples, "changed", ["twin"])
    solved = samples.groupby("arm")["is_correct"].mean()
    assert found.effect == pytest.approx(solved["changed"] - solved["base"]) and found.n == 24
    assert found.n_sets == {"twin": 4} and found.is_beyond is False
    assert found.band.low < found.effect < found.band.high
    assert (found.band.low + found.band.high) / 2 == pytest.approx(found.effect)


def test_an_effect_that_no_control_has_lies_beyond_and_one_as_large_as_a_control_does_not():
    rng = np.random.default_rng(1)
    base, ruined = arm_of_sets("base", rng, 1, 96, right=1.0), arm_of_sets("changed", rng, 1, 96, right=0.0)
    random, twin = arm_of_sets("random", rng, 8, 96, right=0.95), arm_of_sets("twin", rng, 8, 96, right=0.9)
    found = control_band(pd.DataFrame([*base, *ruined, *random, *twin]), "changed", ["random", "twin"])
    assert found.effect == -1 and found.is_beyond is True
    assert found.band.low == min(one.low for one in found.controls.values()) > -1
    also = control_band(
        pd.DataFrame([*base, *ruined, *arm_of_sets("twin", rng, 8, 96, right=[0.0, 0.5] * 4)]), "changed", ["twin"]
    )
    assert also.is_beyond is False


def test_of_sets_that_are_alike_one_more_is_beyond_as_rarely_as_said():
    """Nothing does anything, and each of 5 sets takes its share: one effect in twenty may be beyond by chance."""
    rng, n_beyond = np.random.default_rng(2), 0
    for _ in range(200):
        arms = [arm_of_sets(arm, rng, sets, 60) for arm, sets in (("base", 1), ("changed", 1), ("twin", 5))]
        n_beyond += control_band(pd.DataFrame([row for rows in arms for row in rows]), "changed", ["twin"]).is_beyond
    assert n_beyond <= 0.06 * 200


def test_of_one_set_or_of_none_no_band_is_known():
    rng = np.random.default_rng(0)
    arms = [arm_of_sets(arm, rng, 1) for arm in ("base", "changed", "random")]
    found = control_band(pd.DataFrame([row for rows in arms for row in rows]), "changed", ["random"])
    assert found.is_beyond is None and np.isnan(found.band).all() and not np.isnan(found.effect)
