"""Solved problems are counted and compared in pairs; silence solves nothing, and what is unknown takes no part."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.accuracy import compare_arms, summarise_arms
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
