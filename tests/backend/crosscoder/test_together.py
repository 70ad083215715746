"""Lift against counts by hand, and cosines against a plain product."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.together import others, pair_cosines, together, usual


def counted(fired: dict[str, dict[int, set[int]]]) -> pd.DataFrame:
    """Rows of `fired_together` of tokens on which each feature fires, by chain."""
    rows = [
        {"cot_id": cot, "feature": a, "other": b, "n_both": len(places[a] & places[b])}
        for cot, places in fired.items()
        for a, b in [(a, b) for a in places for b in places if a <= b]
        if places[a] & places[b]
    ]
    return pd.DataFrame(rows, columns=["cot_id", "feature", "other", "n_both"])


def chains(sizes: dict[str, int], problems: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"cot_id": list(sizes), "problem_id": problems, "n_tokens": list(sizes.values())})


def test_the_lift_is_the_count_over_what_independence_gives_over_all_and_within_chains():
    """Both fire in the first chain alone: together over all, and by chance within it."""
    even, third = set(range(0, 60, 2)), set(range(0, 60, 3))
    fired = {"c1": {4: even, 7: third}, "c2": {}}
    (pair,) = together(counted(fired), chains({"c1": 60, "c2": 60}, ["p1", "p2"]), [7, 4])
    assert (pair.first, pair.second, pair.n_first, pair.n_second, pair.n_both) == (7, 4, 20, 30, 10)
    assert (pair.n_tokens, pair.n_cots, pair.n_problems) == (120, 2, 2)
    assert pair.overall.expected == pytest.approx(20 * 30 / 120) and pair.overall.lift == pytest.approx(2)
    assert pair.within.expected == pytest.approx(20 * 30 / 60) and pair.within.lift == pytest.approx(1)
    assert (pair.within.low, pair.within.high) == pytest.approx((1, 1))  # no draw of problems changes it
    assert (pair.overall.low, pair.overall.high) == pytest.approx((1, 2))  # c1 twice gives 1, once 2, never nothing


def test_the_interval_covers_the_lift_of_independent_features_and_lies_beyond_it_for_a_copy():
    draw = np.random.default_rng(1)
    fired, sizes = {}, {}
    for k in range(40):
        a, b = (set(np.flatnonzero(draw.random(200) < 0.1)) for _ in range(2))
        fired[f"c{k}"], sizes[f"c{k}"] = {0: a, 1: b, 2: set(a)}, 200
    tokens = chains(sizes, [f"p{k // 2}" for k in range(40)])
    pairs = {(one.first, one.second): one for one in together(counted(fired), tokens, [0, 1, 2])}
    assert list(pairs) == [(0, 1), (0, 2), (1, 2)]
    for lift in (pairs[0, 1].overall, pairs[0, 1].within):
        assert lift.low < 1 < lift.high and lift.high - lift.low < 1
    copy = pairs[0, 2]
    assert copy.overall.lift == pytest.approx(copy.n_tokens / copy.n_first) and copy.overall.low > 5


def test_never_together_has_an_upper_end_and_a_feature_that_never_fires_no_lift():
    tokens = chains({"c1": 100, "c2": 100}, ["p1", "p2"])
    fired = {cot: {0: set(range(0, 100, 2)), 1: set(range(1, 100, 2))} for cot in ("c1", "c2")}
    apart, silent, _ = together(counted(fired), tokens, [0, 1, 2])
    assert (apart.n_both, apart.overall.lift, apart.overall.low) == (0, 0, 0)
    assert math.exp(-apart.overall.high * apart.overall.expected) == pytest.approx(0.025)
    assert silent.overall.expected == 0 and math.isnan(silent.overall.lift) and math.isnan(silent.overall.high)


def test_one_problem_gives_no_interval_and_no_chain_nothing():
    fired = {"c1": {0: {1, 2}, 1: {2}}}
    (pair,) = together(counted(fired), chains({"c1": 10}, ["p1"]), [0, 1])
    assert pair.overall.lift == pytest.approx(5) and math.isnan(pair.overall.low)
    (pair,) = together(counted({}), chains({}, []), [0, 1])
    assert pair.n_tokens == 0 and math.isnan(pair.overall.lift)


def test_cosines_are_those_of_the_rows_in_each_model_and_unknown_where_one_is_zero():
    rows = np.random.default_rng(2).normal(size=(2, 3, 5)).astype(np.float32)
    rows[1, 2] = 0
    found = pair_cosines(rows)
    for model in range(2):
        for nth, (a, b) in enumerate(combinations(range(3), 2)):
            one, other = rows[model, a].astype(float), rows[model, b].astype(float)
            size = math.sqrt(sum(one**2)) * math.sqrt(sum(other**2))
            assert found[model, nth] == pytest.approx(sum(one * other) / size if size else math.nan, nan_ok=True)
    assert np.isnan(found).sum() == 2


def test_what_is_usual_comes_of_others_that_fire():
    drawn = others(range(500), [3, 4])
    assert len(drawn) == 64 and drawn == sorted(drawn) == others(range(500), [4, 3]) and not {3, 4} & set(drawn)
    assert others([3, 9], [3]) == [9]
    (band,) = usual(np.random.default_rng(3).normal(size=(1, 64, 400)))
    assert band.low == pytest.approx(-1.96 / 20, abs=0.02) and band.high == pytest.approx(1.96 / 20, abs=0.02)
