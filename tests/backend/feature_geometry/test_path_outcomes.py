"""Correct against wrong at equal length: what length alone makes is not claimed, and what is planted is found."""

import numpy as np
import pandas as pd
import pytest

from backend.feature_geometry.path_outcomes import COMPARISONS, MEASURES, compared, outcomes, weights


def chains(n: int = 120, seed: int = 0, planted: float = 0.0) -> pd.DataFrame:
    """Chains whose measures follow from their length, which wrong ones have more of; and `planted` of their verdict."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.5
    n_chunks = rng.integers(3, 7, n) + 2 * ~correct
    frame = pd.DataFrame(
        {"problem_id": rng.integers(0, 30, n).astype(str), "n_chunks": n_chunks, "is_correct": correct}
    )
    for measure in MEASURES:
        frame[f"shuffled_{measure}"] = 1 / n_chunks
        frame[measure] = 1 / n_chunks + 0.02 * rng.standard_normal(n) + planted * correct
    return frame


def by_name(frame: pd.DataFrame, n_draws: int = 299) -> dict[tuple[str, str], dict]:
    return {(row["comparison"], row["measure"]): row for row in outcomes(frame, n_draws=n_draws, seed=0)}


def test_what_length_makes_is_there_without_matching_and_gone_with_it():
    found = by_name(chains())
    assert found["unmatched", "progress"]["p"] <= 0.01 and found["unmatched", "progress"]["low"] > 0
    for comparison in ("matched", "matched_to_order"):
        row = found[comparison, "progress"]
        assert row["p"] > 0.05 and row["low"] < 0 < row["high"]
        assert row["planted"] == [0.25, 0.5, 1.0] and row["power"] == sorted(row["power"]) and row["power"][-1] > 0.8


def test_what_is_planted_is_found_at_equal_length():
    row = by_name(chains(planted=0.03))["matched", "curvature"]
    assert row["p"] <= 0.01 and row["low"] < 0.03 < row["high"] and row["low"] > 0


def test_the_difference_is_that_of_the_strata_by_their_overlap():
    frame = pd.DataFrame(
        {
            "y": [1.0, 3, 10, 20, 30],
            "correct": [True, False, True, True, False],
            "stratum": [0, 0, 1, 1, 1],
            "problem_id": list("abcde"),
        }
    )
    overlap = np.array([1 * 1 / 2, 2 * 1 / 3])
    expected = (overlap @ [1 - 3, 15 - 30]) / overlap.sum()
    own = weights(frame["correct"].to_numpy()[None], frame["stratum"].to_numpy())[0]
    assert own @ frame["y"] == pytest.approx(expected)
    assert compared(frame, n_draws=99, seed=0)["difference"] == pytest.approx(expected)


def _matched(frame: pd.DataFrame) -> pd.DataFrame:
    """Those of lengths that both kinds have."""
    frame = frame[frame["n_chunks"].isin([5, 6])]
    return frame.assign(y=frame["progress"], correct=frame["is_correct"], stratum=frame["n_chunks"])


def test_chance_is_found_as_often_as_it_says():
    p = [compared(_matched(chains(100, seed)), n_draws=99, seed=0)["p"] for seed in range(40)]
    assert np.mean(np.array(p) <= 0.05) <= 0.15 and np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.25)


def test_without_both_kinds_nothing_is_known_and_without_a_verdict_a_chain_takes_no_part():
    one_sided = by_name(chains().assign(is_correct=True))
    assert all(row["n_strata"] == 0 and "difference" not in row for row in one_sided.values())
    assert len(one_sided) == len(COMPARISONS) * len(MEASURES)
    frame = chains().astype({"is_correct": object})
    frame.loc[:9, "is_correct"] = None
    row = by_name(frame)["unmatched", "progress"]
    assert row["n_correct"] + row["n_wrong"] == 110
