"""Rows that share a covariance with a set, and nothing else."""

import numpy as np

from backend.feature_geometry.cosine_tails import directions, tails
from backend.feature_geometry.covariance_nulls import NULLS, drawn, moments


def test_what_is_drawn_has_the_mean_and_the_covariance():
    draw = np.random.default_rng(0)
    rows = (draw.standard_normal((4000, 6)) @ draw.standard_normal((6, 6)) + 2 * draw.standard_normal(6)).astype(
        np.float32
    )
    like = moments(rows)
    np.testing.assert_allclose(like.root.T @ like.root, np.cov(rows.T, bias=True), atol=1e-4)
    for name, mean in (("rows", rows.mean(0)), ("rows_centred", np.zeros(6))):
        found = drawn(NULLS[name], like, 60_000, seed=1)
        np.testing.assert_allclose(found.mean(0), mean, atol=0.06)
        np.testing.assert_allclose(np.cov(found.T), np.cov(rows.T), atol=0.4)


def test_of_a_cloud_without_clusters_the_null_has_the_same_tails_and_of_clusters_lighter_ones():
    draw = np.random.default_rng(3)
    stretch = np.diag(np.linspace(0.2, 3, 40)).astype(np.float32)
    cloud = draw.standard_normal((900, 40), dtype=np.float32) @ stretch
    centres = draw.standard_normal((30, 40)).astype(np.float32)
    clustered = centres[draw.integers(30, size=900)] + 0.3 * draw.standard_normal((900, 40)).astype(np.float32)
    beyond = {}
    for name, rows in (("cloud", cloud), ("clustered", clustered)):
        of = directions(rows)
        null = directions(drawn(NULLS["rows"], moments(of.units), 900, seed=5))
        beyond[name] = [tails(one, {"far": 0.7}).beyond["far"].n for one in (of, null)]
    found, expected = beyond["cloud"]
    assert 0.6 < found / expected < 1.6
    found, expected = beyond["clustered"]
    assert found > 20 * expected


def test_a_seed_draws_the_same_rows():
    like = moments(np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32))
    one, same, other = (drawn(NULLS["rows"], like, 2000, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
