"""Many columns at once are what each is alone."""

import numpy as np
import pytest

from backend.statistics.clustered import clustered_mean
from backend.statistics.columns import column_means

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("n", [12, 40])
def test_a_column_has_the_mean_interval_and_p_of_a_clustered_mean(n):
    values = RNG.standard_normal((n, 3)) + np.array([0, 0.3, 1])
    found = column_means(values, seed=5, tested=True)
    for column in range(3):
        alone = clustered_mean(values[:, column].tolist(), [f"{row:03d}" for row in range(n)], seed=5)
        assert found.mean[column] == pytest.approx(alone.mean)
        assert (found.low[column], found.high[column]) == pytest.approx((alone.low, alone.high))
        assert found.p[column] == pytest.approx(alone.p, abs=1e-12 if n <= 16 else 0.02)


def test_unknown_values_take_no_part_and_one_value_has_no_interval():
    values = np.array([[1.0, np.nan, np.nan], [3.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])
    found = column_means(values, tested=True)
    assert found.n.tolist() == [2, 0, 1] and found.mean[[0, 2]].tolist() == [2.0, 2.0]
    assert np.isnan(found.mean[1]) and np.isnan(found.low[1:]).all() and np.isnan(found.p[1:]).all()
    assert found.low[0] == 1.0 and found.high[0] == 3.0


def test_p_is_there_only_where_it_is_asked_for():
    assert np.isnan(column_means(np.ones((5, 2))).p).all()
