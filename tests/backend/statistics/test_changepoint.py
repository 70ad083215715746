import math

import numpy as np
import pytest

from backend.statistics.changepoint import changepoint

BETAS = np.arange(-6.0, 8.0, 2.0)


def planted(rng, *, step_after, size, n=16):
    return [rng.normal(size * (beta > step_after), 1, size=n) for beta in BETAS]


def test_a_step_without_noise_is_where_it_was_put():
    found = changepoint([0, 1, 2, 3, 4], [[2.0, 2.0], [2.0], [2.0, 2.0], [5.0], [5.0, 5.0]])
    assert (found.x_before, found.x_after, found.location, found.size) == (2, 3, 2.5, 3)
    assert (found.mean_before, found.mean_after, found.n_x, found.n) == (2, 5, 5, 8)


def test_the_gap_is_the_one_that_least_squares_choose():
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=n) for n in (3, 9, 1, 6, 4, 12)]
    costs = []
    for k in range(1, 6):
        sides = np.concatenate(groups[:k]), np.concatenate(groups[k:])
        costs.append(sum(((side - side.mean()) ** 2).sum() for side in sides))
    assert changepoint(range(6), groups).x_before == int(np.argmin(costs))


def test_the_order_of_x_and_unknown_samples_change_nothing():
    y = planted(np.random.default_rng(1), step_after=0, size=2)
    found = changepoint(BETAS, y)
    assert changepoint(BETAS[::-1], y[::-1]) == found
    assert changepoint([*BETAS, 99], [*([*values, math.nan] for values in y), [math.nan]]) == found


def test_planted_steps_lie_within_their_intervals():
    rng = np.random.default_rng(2)
    found = [
        changepoint(BETAS, planted(rng, step_after=0, size=1.2), n_bootstrap=300, n_permutations=99, seed=k)
        for k in range(60)
    ]
    assert sum(step.low <= 0 and step.high >= 2 for step in found) >= 54
    assert sum(step.p <= 0.05 for step in found) >= 57
    assert np.mean([step.size for step in found]) == pytest.approx(1.2, abs=0.15)


def test_noise_alone_gives_a_small_p_about_once_in_twenty():
    rng = np.random.default_rng(3)
    found = [
        changepoint(BETAS, planted(rng, step_after=0, size=0, n=8), n_bootstrap=1, n_permutations=199, seed=k)
        for k in range(400)
    ]
    assert 8 <= sum(step.p <= 0.05 for step in found) <= 36  # 99.9 % of binomial(400, 0.05)


def test_mirroring_x_mirrors_the_step():
    y = planted(np.random.default_rng(4), step_after=2, size=3)
    there, back = changepoint(BETAS, y), changepoint(-BETAS, y)
    assert (back.location, back.size) == pytest.approx((-there.location, -there.size))


def test_too_few_x_or_nothing_that_varies_has_no_step():
    assert changepoint([0, 1, 2], [[0, 0], [0, 0], [9, 9]]) is None
    assert changepoint([0, 1, 2, 3], [[0, 0], [0, 0], [9, 9], []]) is None
    assert changepoint([0, 1, 2, 3], [[1, 1]] * 4) is None


def test_single_samples_give_a_place_without_an_interval():
    found = changepoint([0, 1, 2, 3], [[0], [0.1], [5], [5.2]])
    assert found.location == 1.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_x_that_is_no_axis_is_refused():
    with pytest.raises(ValueError, match="different"):
        changepoint([0, 1, 1, 2], [[0]] * 4)
    with pytest.raises(ValueError, match="4 x and 3"):
        changepoint([0, 1, 2, 3], [[0]] * 3)
