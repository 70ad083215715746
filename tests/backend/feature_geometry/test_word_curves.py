"""Planted circles and helices are found; smooth random curves, which look like them in components, are not."""

import numpy as np
import pytest

from backend.feature_geometry import curves
from backend.feature_geometry.curve_sets import SETS, read_alike
from backend.feature_geometry.curves import Fit, autocorrelation, components, curve, fourier, in_plane, polynomial, r2

MONTHS, DAYS, INTEGERS = SETS["months"], SETS["weekdays"], SETS["integers"]
TENS = np.arange(10, 100)


def rotation(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def circle(n: int, noise: float, seed: int = 0) -> np.ndarray:
    angles = 2 * np.pi * np.arange(n) / n
    points = np.column_stack([np.cos(angles), np.sin(angles)]) @ rotation(40)[:2]
    return points + noise * np.random.default_rng(seed).standard_normal((n, 40)) + 3


def found(points: np.ndarray, of=MONTHS, order=None, n_draws: int = 99, **given) -> dict:
    order = range(len(points)) if order is None else order
    return curve(points, order, of, **{"dimensions": 20, "n_draws": n_draws, "seed": 0, "is_split": False} | given)


def test_a_planted_circle_beats_the_parabola_and_both_nulls():
    row = found(circle(12, noise=0.05))
    assert row["fourier_low"] > 0.8 and row["difference_low"] > 0
    assert row["smooth_p"] <= 0.02 and row["permuted_p"] <= 0.02 and row["fourier"] > row["smooth_high"]
    assert (row["n"], row["n_parameters"], row["dimensions"]) == (12, 2, 11)


def test_a_straight_line_is_the_polynomials():
    line = np.arange(12)[:, None] * rotation(40)[:1] + 0.1 * np.random.default_rng(0).standard_normal((12, 40))
    row = found(line)
    assert row["polynomial_low"] > 0.9 and row["difference_high"] < 0


@pytest.mark.parametrize("dimensions", [3, 30, 300])
def test_smooth_random_curves_are_not_called_circles(dimensions):
    """Curves of a kernel that no null has, Matérn's of 5/2, in 7 words."""
    away = np.sqrt(5) * np.abs(np.subtract.outer(np.arange(7), np.arange(7))) / 2
    root = np.linalg.cholesky((1 + away + away**2 / 3) * np.exp(-away))
    rows = [
        found(root @ np.random.default_rng(seed).standard_normal((7, dimensions)), DAYS, n_draws=59)
        for seed in range(12)
    ]
    assert sum(row["smooth_p"] <= 0.05 and row["difference_low"] > 0 for row in rows) <= 1


def test_a_planted_helix_beats_the_polynomial_and_a_random_code_of_digits_is_not_one():
    basis, names = fourier(TENS, INTEGERS)
    assert names == ["line", "cos 10", "sin 10", "cos 100", "sin 100", "cos 5", "sin 5", "cos 2"]
    rng = np.random.default_rng(0)
    helix = (basis / basis.std(0)) @ rotation(40)[:8] + 0.3 * rng.standard_normal((90, 40))
    row = found(helix, INTEGERS, TENS, is_split=True, n_draws=59)
    assert row["difference_low"] > 0 and max(row["smooth_p"], row["permuted_p"], row["digits_p"]) <= 0.02
    codes = rng.standard_normal((10, 40))[TENS % 10] + 0.5 * rng.standard_normal((10, 40))[TENS // 10]
    row = found(codes, INTEGERS, TENS, is_split=True, n_draws=59)
    assert row["permuted_p"] <= 0.02, "ten codes that repeat fit circles of period 10 better than any order of points"
    assert row["digits_p"] > 0.05, "and any other deal of the digits fits them as well"
    assert "digits_p" not in found(codes, INTEGERS, TENS, n_draws=1)


def test_an_error_is_that_of_the_fit_to_the_other_words():
    rng = np.random.default_rng(0)
    basis, points = rng.standard_normal((9, 3)), rng.standard_normal((9, 5))
    design, errors = np.column_stack([np.ones(9), basis]), []
    for out in range(9):
        rest = np.arange(9) != out
        fitted, *_ = np.linalg.lstsq(design[rest], points[rest], rcond=None)
        errors.append(((points[out] - design[out] @ fitted) ** 2).sum())
    assert Fit.on(basis).errors(points) == pytest.approx(errors)
    base = Fit.on(np.empty((9, 0))).errors(points)
    assert base[0] == pytest.approx(((points[0] - points[1:].mean(0)) ** 2).sum())
    assert r2(np.array(errors), base) == pytest.approx(1 - sum(errors) / base.sum())


def test_the_polynomial_has_as_many_regressors_and_spans_the_powers():
    basis = polynomial(TENS, 8)
    assert basis.shape == (90, 8)
    fitted = Fit.on(basis).hat @ (TENS.astype(float) ** 8)
    assert fitted == pytest.approx(TENS.astype(float) ** 8)


def test_smooth_curves_have_the_singular_values_and_about_the_autocorrelation_of_the_words():
    scores, share = components(circle(12, noise=0.3), 20)
    whole = (scores[1:] * scores[:-1]).sum() / (scores**2).sum()
    kinds = {kind: np.concatenate(list(drawn)) for kind, drawn in curves.smooth(scores, 120, 0)}
    assert share == pytest.approx(1) and len(kinds) == 1 + 2 * len(curves.KERNELS)
    for drawn in kinds.values():
        assert drawn.shape == (120, 12, 11)
        for one in drawn[:3]:
            assert np.linalg.svd(one, compute_uv=False) == pytest.approx(np.linalg.norm(scores, axis=0))
            assert one.mean(0) == pytest.approx(np.zeros(11), abs=1e-6)
        own = np.mean([(one[1:] * one[:-1]).sum() / (one**2).sum() for one in drawn])
        assert own == pytest.approx(whole, abs=0.2)
    own = np.mean([autocorrelation(one) for one in kinds["component by component"]], axis=0)
    assert own[:2] == pytest.approx(autocorrelation(scores)[:2], abs=0.2)


def test_dealt_digits_keep_which_words_share_a_digit():
    codes = np.column_stack([TENS // 10, TENS % 10]).astype(float)
    dealt = next(curves.dealt_digits(codes, TENS, 1, np.random.default_rng(1)))[0]
    assert (dealt != codes).any()
    for column in (0, 1):
        pairs = set(zip(codes[:, column], dealt[:, column], strict=True))
        assert len(pairs) == len(set(codes[:, column])), "each digit has one other in its place"


def test_words_of_a_perfect_circle_lie_on_the_unit_circle_at_their_angles_and_rotation_changes_nothing():
    points = circle(7, noise=0)
    plane = in_plane(points, range(7), DAYS, dimensions=20)[7]
    angles = 2 * np.pi * np.arange(7) / 7
    assert plane == pytest.approx(np.column_stack([np.cos(angles), np.sin(angles)]))
    noisy = circle(7, noise=0.2)
    turned = found(5 * noisy @ rotation(40, seed=3) - 2, DAYS)
    assert turned == pytest.approx(found(noisy, DAYS))


def test_a_helix_is_drawn_by_its_circles_of_two_waves():
    assert set(in_plane(fourier(TENS, INTEGERS)[0], TENS, INTEGERS, dimensions=20)) == {10, 100, 5}


def test_power_rises_with_what_is_planted():
    weak, strong = (curves.power(MONTHS, 12, share=share, n_planted=10, n_draws=39, seed=0) for share in (0.02, 0.9))
    assert strong >= 0.9 and weak <= 0.4


def test_words_that_are_not_split_alike_are_named_and_a_circle_needs_them_all():
    assert read_alike(DAYS, [1] * 7).places == tuple(range(7))
    split = read_alike(DAYS, [1, 1, 2, 1, 1, 1, 1])
    assert not split.places and split.dropped == ("Wednesday",) and "Wednesday" in str(split.reason)
    digits = read_alike(INTEGERS, [2] * 10 + [3] * 90)
    assert digits.places == tuple(range(10, 100)) and digits.n_tokens == 3 and digits.dropped == INTEGERS.words[:10]
    gaps = read_alike(INTEGERS, [1, 2] * 50)
    assert not gaps.places and "gaps" in str(gaps.reason)
