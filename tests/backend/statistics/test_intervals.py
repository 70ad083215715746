import math

import numpy as np
import pytest

from backend.statistics.intervals import (
    UNKNOWN,
    Interval,
    beyond,
    bootstrap_mean,
    bootstrap_percentile,
    prediction,
    share_prediction,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(22, 50, 0.31, 0.58), (0, 43, 0.0, 0.08), (43, 43, 0.92, 1.0), (1, 1, 0.21, 1.0)],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 7), (22, 50), (99, 100)])
def test_the_ends_of_wilson_are_where_the_score_test_rejects(successes, n):
    z = 1.959963984540054
    for end in wilson(successes, n):
        if 0 < end < 1:
            assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-9)


def test_wilson_of_nothing_is_unknown():
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_wilson_mirrors_when_success_and_failure_swap():
    low, high = wilson(7, 20)
    assert wilson(13, 20) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("successes", "n", "level"), [(5, 4, 0.95), (-1, 4, 0.95), (1, 4, 95.0)])
def test_wilson_refuses_what_is_no_share(successes, n, level):
    with pytest.raises(ValueError, match="got"):
        wilson(successes, n, level)


def test_the_percentile_interval_holds_the_middle_of_the_replicates():
    assert bootstrap_percentile(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert bootstrap_percentile(np.arange(101.0), level=0.5) == pytest.approx((25.0, 75.0))


def test_undefined_replicates_take_no_part():
    replicates = np.concatenate([np.arange(1001.0), np.full(500, np.nan)])
    assert bootstrap_percentile(replicates) == pytest.approx((25.0, 975.0))
    assert all(math.isnan(end) for end in bootstrap_percentile(np.array([np.nan])))


def test_the_interval_of_a_mean_is_nearly_that_of_the_normal_law_and_moves_with_the_values():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert bootstrap_mean(values + 10) == pytest.approx((low + 10, high + 10))
    assert bootstrap_mean([*values, math.nan]) == (low, high)


def test_one_value_gives_no_interval_of_its_mean():
    assert all(math.isnan(end) for end in bootstrap_mean([3.0, math.nan]))
    assert bootstrap_mean([3.0, 3.0]) == (3.0, 3.0)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_one_more_value_lies_where_it_was_predicted_as_often_as_said(n):
    rng = np.random.default_rng(0)
    inside = [
        low <= value <= high for *some, value in rng.normal(3, 2, (2000, n + 1)) for low, high in [prediction(some)]
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_of_fewer_than_two_values_nothing_is_predicted_and_of_equal_ones_themselves():
    assert prediction([]) is prediction([1.0]) is prediction([1.0, math.nan]) is UNKNOWN
    assert prediction([0.3] * 8) == pytest.approx((0.3, 0.3)) and beyond(0.3, prediction([0.3] * 8)) is False


def test_beyond_is_outside_by_more_than_rounding_and_unknown_without_a_band():
    band = Interval(0.1 + 0.2, 1.0)
    assert [beyond(value, band) for value in (0.2, 0.3, 0.5, 1.0, 1.1)] == [True, False, False, False, True]
    assert beyond(math.nan, band) is beyond(0.5, UNKNOWN) is None


def test_a_share_like_another_lies_in_its_prediction_as_often_as_said():
    """Both shares of 10 %, of 400 and 300: about 1 % lie outside, where Wilson's of the first leaves 6 %."""
    rng = np.random.default_rng(3)
    before, after = rng.binomial(400, 0.1, 1500), rng.binomial(300, 0.1, 1500) / 300
    bands = {k: (share_prediction(int(k), 400, 300, 0.99), wilson(int(k), 400, 0.99)) for k in set(before)}
    outside = np.mean([[beyond(x, band) for band in bands[k]] for k, x in zip(before, after, strict=True)], axis=0)
    assert outside[0] < 0.018 < 0.04 < outside[1]


def test_a_share_is_predicted_more_widely_for_fewer_trials_and_not_at_all_without():
    few, many = share_prediction(20, 200, 10), share_prediction(20, 200, 100_000)
    assert few.low == 0 and few.high > many.high > 0.1 > many.low > 0
    assert np.isnan(share_prediction(0, 0, 10).low) and np.isnan(share_prediction(1, 10, 0).high)
