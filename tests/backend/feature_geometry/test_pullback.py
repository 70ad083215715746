import numpy as np
import pytest

from backend.feature_geometry import pullback
from backend.feature_geometry.pullback import (
    EDGES,
    GROUPS,
    PullbackError,
    alike_in_covariance,
    between_halves,
    counted,
    images,
    isotropic,
    lines_of,
    share_of,
    strongest,
    unit_rows,
)

D = 24


def metric(rank=3, seed=0):
    few = np.random.default_rng(seed).standard_normal((rank, D))
    return few.T @ few + 0.01 * np.eye(D)


def plain(rows, g):
    """Every pair by its definition: first, second, cosine, pull-back cosine, nats."""
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            u, v = rows[i], rows[j]
            yield i, j, u @ v, u @ g @ v / np.sqrt((u @ g @ u) * (v @ g @ v)), u @ g @ v


def test_images_have_the_pull_back_cosine_as_their_product_and_the_cost_as_their_length():
    rows, g = isotropic(40, D, seed=1), metric()
    moved, cost = images(rows, g)
    for i, j, _, expected, nats in plain(rows, g):
        assert moved[i] @ moved[j] == pytest.approx(expected, abs=1e-10)
        assert expected * cost[i] * cost[j] == pytest.approx(nats, abs=1e-10)


def test_under_the_identity_a_pull_back_cosine_is_the_cosine():
    rows = isotropic(30, D, seed=2)
    assert np.allclose(images(rows, 4 * np.eye(D))[0], rows)


def test_counts_are_those_of_every_pair_by_definition(monkeypatch):
    monkeypatch.setattr(pullback, "_BLOCK", 16)
    g = metric()
    rows = isotropic(50, D, seed=3)
    rows[7] = rows[6] + 1e-3 * rows[5]
    rows, _ = unit_rows(rows)
    lines = lines_of(g, seed=0)
    found = counted(rows, g, lines)
    every = list(plain(rows, g))
    fresh = [one for one in every if one[2] <= 0.9]
    assert (found.n_pairs, found.n_duplicates) == (50 * 49 // 2, 1) and len(fresh) == len(every) - 1
    small = [one for one in fresh if abs(one[2]) <= lines.cosine_small]
    hidden = [one for one in small if abs(one[3]) > lines.pullback_large]
    large = [one for one in fresh if abs(one[2]) > lines.cosine_large]
    apart = [one for one in large if abs(one[3]) <= lines.pullback_small]
    expected = [2 * len(part) for part in (small, hidden, large, apart)]
    assert [part.sum() for part in (found.orthogonal, found.hidden, found.alike, found.apart)] == expected
    bins = np.histogram2d([one[2] for one in fresh], [one[3] for one in fresh], bins=(EDGES, EDGES))[0]
    assert np.array_equal(found.bins, bins)


def test_isotropic_pairs_interfere_as_often_as_the_line_says_and_a_planted_pair_is_found():
    g = metric(rank=6)
    lines = lines_of(g, seed=0)
    rows = isotropic(1500, D, seed=5)
    found = counted(rows, g, lines)
    share, low, high = share_of(found.hidden, found.orthogonal)
    assert low < share < high and share < 2e-3  # of all pairs 1e-3; a bit less where cosines are small
    _, vectors = np.linalg.eigh(g)
    top, flat, other = vectors[:, -1], vectors[:, 0], vectors[:, 1]
    planted = np.stack([0.3 * top + flat, 0.3 * top - 0.09 * flat + other])
    planted, _ = unit_rows(planted)
    assert abs(planted[0] @ planted[1]) < lines.cosine_small
    hidden, _ = strongest(np.concatenate([planted, rows[:200]]), g, lines, 10_000)
    assert any((pair.first, pair.second) == (0, 1) and pair.pullback > 0.9 for pair in hidden)
    assert [abs(pair.nats) for pair in hidden] == sorted((abs(pair.nats) for pair in hidden), reverse=True)


def test_what_looks_alike_and_does_nothing_together_is_found_too():
    g = metric(rank=2)
    _, vectors = np.linalg.eigh(g)
    flat, one, other = vectors[:, 0], vectors[:, -1], vectors[:, -2]
    rows, _ = unit_rows(np.stack([flat + 0.45 * one, flat + 0.45 * other]))
    lines = lines_of(g, seed=0)
    hidden, apart = strongest(rows, g, lines, 5)
    assert not hidden and [(pair.first, pair.second) for pair in apart] == [(0, 1)]
    assert apart[0].cosine > lines.cosine_large and abs(apart[0].pullback) < 0.1


def test_rows_drawn_in_their_place_have_the_mean_and_covariance_of_these():
    rng = np.random.default_rng(0)
    rows, _ = unit_rows(rng.standard_normal((4000, D)) * np.linspace(0.1, 2, D) + 0.5)
    drawn = alike_in_covariance(rows, seed=1)
    assert np.allclose(drawn.mean(0), rows.mean(0), atol=0.03)
    assert np.allclose(np.diag(np.cov(drawn.T)), np.diag(np.cov(rows.T)), atol=0.02)


def test_an_interval_covers_the_share_of_pairs_as_often_as_it_says():
    """Rows of a planted share: a pair counts where both are on the same side, where 7 of 10 are on one."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        side = rng.random(200) < 0.7
        same = (side[:, None] == side) & ~np.eye(200, dtype=bool)
        per_row = same.sum(1)
        part = np.bincount(np.arange(200) % GROUPS, per_row, GROUPS)
        whole = np.full(GROUPS, 199 * 200 // GROUPS)
        _, low, high = share_of(part, whole)
        covered += low <= 0.7**2 + 0.3**2 <= high
    assert 180 <= covered <= 200


def test_halves_that_agree_say_so():
    rows, g = isotropic(100, D, seed=8), metric()
    assert between_halves(rows, [g, 2 * g], seed=0) == (pytest.approx(1), pytest.approx(0, abs=1e-7))
    correlation, difference = between_halves(rows, [g, metric(seed=9)], seed=0)
    assert correlation < 0.5 and difference > 0.1


def test_no_share_without_pairs_and_no_metric_of_another_width():
    assert np.isnan(share_of(np.zeros(GROUPS), np.zeros(GROUPS))).all()
    with pytest.raises(PullbackError, match=r"Rows have 24 values, and the metric has shape \(3, 3\)"):
        images(isotropic(4, D, seed=0), np.eye(3))


def test_rows_without_a_length_are_left_out():
    rows = np.ones((5, D), np.float32)
    rows[2] = 0
    unit, kept = unit_rows(rows)
    assert kept.tolist() == [0, 1, 3, 4] and np.allclose(np.linalg.norm(unit, axis=1), 1)
