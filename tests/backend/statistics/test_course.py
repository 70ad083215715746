"""Planted steps are sharp, planted slopes gradual, and the interval of each number covers that number's truth."""

import math

import numpy as np
import pytest

from backend.statistics.course import ORDERED_FROM, course


def planted(means, n=6, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return {place: (mean + noise * rng.standard_normal(n)).tolist() for place, mean in enumerate(means)}


def covers(interval, truth) -> bool:
    return interval.low <= truth <= interval.high


def test_a_planted_step_is_sharp_and_its_place_and_its_size_have_intervals_of_their_own():
    found = course(planted([0] * 6 + [-3] * 4, seed=1))
    assert found.verdict == found.best == "sharp"
    assert (found.step.x_before, found.step.x_after) == (5, 6) and found.step.low <= 5 and found.step.high >= 6
    assert covers(found.size, -3) and found.size.low < found.step.size < found.size.high < -2
    assert found.size != (found.step.low, found.step.high)


def test_a_planted_slope_is_gradual_and_its_interval_is_that_of_the_slope():
    found = course(planted(-0.5 * np.arange(10)))
    assert found.verdict == "gradual" and covers(found.slope_interval, -0.5)
    assert found.slope_interval.high - found.slope_interval.low < 0.3


@pytest.mark.parametrize("n", [3, 4, 8])
def test_intervals_of_size_and_slope_cover_the_truth_as_often_as_they_say(n):
    steps = [course(planted([0] * 5 + [-2] * 5, n=n, noise=0.6, seed=seed)) for seed in range(60)]
    slopes = [course(planted(-0.4 * np.arange(10), n=n, noise=0.6, seed=seed)) for seed in range(60)]
    assert sum(covers(one.size, -2) for one in steps) >= 52
    assert sum(covers(one.slope_interval, -0.4) for one in slopes) >= 52
    assert sum(one.verdict == "sharp" for one in steps) >= 52 and sum(one.verdict == "gradual" for one in slopes) >= 52


def test_the_order_of_few_places_cannot_be_told_from_chance():
    perfect = [0] * (ORDERED_FROM // 2) + [-3] * (ORDERED_FROM // 2)
    assert course(planted(perfect)).verdict == "sharp"
    short = course(planted(perfect[1:]))
    assert (short.verdict, short.best) == ("uneven", "sharp") and short.p_order > 0.05


def test_what_is_unknown_is_nan_or_none():
    few = course(planted([0, 0, -3]))
    assert (few.verdict, few.step, few.n_places, few.n_samples) == (None, None, 3, 18) and math.isnan(few.size.low)
    single = course(planted([0] * 5 + [-3] * 5, n=1))
    assert single.step is not None and math.isnan(single.size.low) and math.isnan(single.slope_interval.low)
    assert course({place: [1.0, 1.0] for place in range(9)}).verdict == "no change"
    assert course({0: [], 1: [1.0]}, n_unknown=3).n_unknown == 3
