"""The delete-a-group jackknife is the textbook interval of a mean, whatever the sizes of the groups."""

import numpy as np
import pytest
from scipy.stats import t

from backend.statistics.jackknife import jackknife, standard_error


def test_of_a_mean_over_equal_groups_it_is_the_interval_of_the_groups_means():
    groups = np.random.default_rng(0).normal(size=(12, 5)) + np.arange(12)[:, None]
    without = np.array([np.delete(groups, row, axis=0).mean() for row in range(12)])
    own = groups.mean(1)
    half = t.ppf(0.975, 11) * own.std(ddof=1) / np.sqrt(12)
    interval = jackknife(groups.mean(), without, np.full(12, 5))
    assert interval == pytest.approx((groups.mean() - half, groups.mean() + half))


def test_groups_of_different_sizes_cover_a_mean_as_often_as_they_say():
    rng, sizes, covered = np.random.default_rng(1), np.array([1, 2, 3, 5, 8, 4, 6, 2, 7, 3, 5, 4]), 0
    owner = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(400):
        values = rng.normal(size=len(sizes))[owner] + rng.normal(size=len(owner))
        without = np.array([values[owner != group].mean() for group in range(len(sizes))])
        low, high = jackknife(values.mean(), without, sizes)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 400 <= 0.99


def test_what_is_unknown_leaves_the_interval_unknown():
    assert np.isnan(jackknife(1.0, np.array([1.0]), np.array([3]))).all()
    assert np.isnan(standard_error(1.0, np.array([1.0, np.nan]), np.array([3, 3])))
