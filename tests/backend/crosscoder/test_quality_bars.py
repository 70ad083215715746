"""Bars of quality: met at the bar, missed beyond it, and unknown where nothing was measured."""

import math

from backend.crosscoder.quality_bars import DEAD_MOST, EXPLAINED_LEAST, RECOVERED_LEAST, bars


def test_a_bar_is_met_at_its_value_and_missed_beyond():
    at = bars(DEAD_MOST, {"base": EXPLAINED_LEAST}, {"base": RECOVERED_LEAST})
    assert [one.is_met for one in at] == [True] * 3
    beyond = bars(DEAD_MOST + 1e-9, {"base": EXPLAINED_LEAST - 1e-9}, {"base": RECOVERED_LEAST - 1e-9})
    assert [one.is_met for one in beyond] == [False] * 3


def test_what_was_not_measured_is_neither_met_nor_missed():
    found = bars(math.nan, {"base": 0.9, "distilled": math.nan}, {"base": math.nan})
    assert [one.is_met for one in found] == [None, True, None, None]
    assert [one.what for one in found][1:3] == ["variance explained, base", "variance explained, distilled"]
