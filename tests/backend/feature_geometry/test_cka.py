"""Debiased CKA is 1 of what differs by a rotation, 0 of what shares nothing, and equal to its formula with matrices."""

import numpy as np
import pytest

from backend.feature_geometry.cka import Pair, unpaired


def by_matrices(x: np.ndarray, y: np.ndarray) -> float:
    """As Song et al. write the estimator, with kernel matrices of points by points."""

    def hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
        k, l, n, ones = k - np.diag(np.diag(k)), l - np.diag(np.diag(l)), len(k), np.ones(len(k))  # noqa: E741
        middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
        return (np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))

    k, l = x @ x.T, y @ y.T  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float(((x.T @ y) ** 2).sum() / np.sqrt(((x.T @ x) ** 2).sum() * ((y.T @ y) ** 2).sum()))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_it_is_the_formula_with_matrices_of_points_by_points(rng):
    x = rng.normal(size=(40, 7)) + 3
    y = x[:, :5] @ rng.normal(size=(5, 5)) + rng.normal(size=(40, 5))
    assert Pair.of(x, y).cka == pytest.approx(by_matrices(x, y), rel=1e-10)


def test_it_does_not_depend_on_where_the_origin_is(rng):
    x, y = rng.normal(size=(2, 30, 6))
    assert Pair.of(x + 5, y - 2).cka == pytest.approx(Pair.of(x, y).cka, abs=1e-9)


def test_points_are_added_and_taken_away(rng):
    x, y = rng.normal(size=(2, 50, 6))
    parts = [Pair.of(x[some], y[some]) for some in (slice(0, 20), slice(20, 35), slice(35, 50))]
    assert (parts[0] + parts[1] + parts[2]).cka == pytest.approx(Pair.of(x, y).cka, rel=1e-9)
    assert (Pair.of(x, y) - parts[0]).cka == pytest.approx(Pair.of(x[20:], y[20:]).cka, rel=1e-9)


def test_of_a_rotation_it_is_1_and_of_the_same_points_1_exactly(rng):
    x = rng.normal(size=(60, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert Pair.of(x, 3 * x @ turn).cka == pytest.approx(1, abs=1e-9)
    assert Pair.of(x, x.copy()).cka == 1


def test_of_independent_points_it_is_0_where_the_biased_one_is_not(rng):
    found = []
    for _ in range(20):
        x, y = rng.normal(size=(2, 40, 200))
        found.append((Pair.of(x, y).cka, biased(x, y)))
    debiased, usual = np.mean(found, 0)
    assert abs(debiased) < 0.02 and usual > 0.8


def test_pairings_at_random_have_the_mean_and_deviation_that_are_said(rng):
    x = rng.normal(size=(30, 5)) * np.arange(1, 6)
    y = x @ rng.normal(size=(5, 5))
    found = [Pair.of(x, y[rng.permutation(30)]).cka for _ in range(4000)]
    mean, deviation = unpaired(30)
    assert np.mean(found) == pytest.approx(mean, abs=4 * deviation / np.sqrt(4000))
    assert np.std(found) == pytest.approx(deviation, rel=0.1)


def test_it_is_unknown_of_three_points_and_of_points_that_do_not_vary(rng):
    x = rng.normal(size=(10, 4))
    assert np.isnan(Pair.of(x[:3], x[:3]).cka) and np.isnan(unpaired(3)).all()
    assert np.isnan(Pair.of(x, np.zeros((10, 4))).cka)
