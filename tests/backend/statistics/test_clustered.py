"""The mean over clusters: what it is, when it is claimed, and what would have been found."""

import math

import numpy as np
import pytest

from backend.statistics.clustered import clustered_mean, detectable, power
from backend.statistics.paired import paired_difference


def test_clusters_of_one_are_pairs():
    values = np.random.default_rng(0).normal(0.4, 1, 12)
    found = clustered_mean(values, [f"p{k}" for k in range(12)])
    alone = paired_difference([0.0] * 12, values)
    assert (found.n, found.n_clusters, found.mean, found.p) == (12, 12, values.mean(), pytest.approx(alone.p))
    assert found.test == alone.test and found.low == pytest.approx(alone.low, abs=0.15)


def test_units_of_one_cluster_move_together():
    rng = np.random.default_rng(1)
    by_cluster = rng.normal(0, 1, 8).repeat(20)
    clusters = np.repeat(list("abcdefgh"), 20)
    together = clustered_mean(by_cluster + 0.01 * rng.normal(size=160), clusters)
    apart = clustered_mean(by_cluster, [str(k) for k in range(160)])
    assert together.high - together.low > 3 * (apart.high - apart.low)
    assert together.p == pytest.approx(clustered_mean(by_cluster[::20], list("abcdefgh")).p, abs=0.05)


def test_unknown_takes_no_part_and_one_cluster_has_no_interval():
    found = clustered_mean([1.0, math.nan, 3.0], ["a", "b", "a"])
    assert (found.n, found.n_clusters, found.mean) == (2, 1, 2.0) and math.isnan(found.p) and math.isnan(found.low)
    assert math.isnan(clustered_mean([], []).mean)
    with pytest.raises(ValueError, match="infinite"):
        clustered_mean([math.inf], ["a"])
    with pytest.raises(ValueError, match="its cluster"):
        clustered_mean([1.0], [])


def test_the_interval_covers_and_the_test_is_rarely_wrong_without_an_effect():
    rng, covered, claimed = np.random.default_rng(2), 0, 0
    clusters = np.repeat([str(k) for k in range(20)], 2)
    for seed in range(60):
        found = clustered_mean(0.5 + rng.normal(size=20).repeat(2) + rng.normal(size=40), clusters, seed=seed)
        covered += found.low <= 0.5 <= found.high
        claimed += clustered_mean(rng.normal(size=20).repeat(2), clusters, seed=seed).p <= 0.05
    assert covered >= 52 and claimed <= 8


def test_power_is_alpha_without_an_effect_and_grows_to_one():
    values, clusters = np.random.default_rng(3).normal(size=30), [str(k) for k in range(30)]
    shares = [power(values, clusters, size) for size in (0.0, 0.3, 0.6, 2.0)]
    assert shares[0] < 0.12 and shares == sorted(shares) and shares[-1] == 1
    size = detectable(values, clusters)
    assert power(values, clusters, size) >= 0.8 > power(values, clusters, size * 0.75)
    assert 2 < size / (values.std(ddof=1) / math.sqrt(30)) < 4  # 2.8 of a normal test


def test_with_five_clusters_no_size_would_be_found():
    values = np.random.default_rng(5).normal(size=5)
    assert clustered_mean(values + 100, list("abcde")).p == 2 / 2**5 > 0.05
    assert math.isinf(detectable(values, list("abcde"))) and math.isnan(detectable([1.0], ["a"]))
