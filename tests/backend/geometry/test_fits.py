"""Both fits recover exact parabolas, follow the laws of least squares, and know when they know nothing."""

import math

import numpy as np
import pytest

from backend.geometry.fits import quadratic_fit, square_fit

BETAS = np.arange(-10.0, 11)
CURVE = 0.02 * BETAS**2 + 0.3 * np.abs(BETAS) * np.random.default_rng(0).random(21)


def test_an_exact_parabola_is_recovered_with_r2_of_one():
    fit = quadratic_fit(BETAS, 0.03 * BETAS**2 - 0.01 * BETAS + 0.2)
    assert (fit.a, fit.b, fit.c, fit.r2, fit.n) == pytest.approx((0.03, -0.01, 0.2, 1, 21))
    assert quadratic_fit(BETAS, -0.5 * BETAS**2).steepness == pytest.approx(0.5)
    square = square_fit(BETAS, 3 * BETAS**2)
    assert (square.amplitude, square.r2, square.n) == pytest.approx((3, 1, 21))


def test_a_line_or_a_constant_has_no_steepness():
    assert quadratic_fit(BETAS, 2 * BETAS + 1).steepness == pytest.approx(0, abs=1e-12)
    flat = quadratic_fit(BETAS, np.full(21, 0.4))
    assert flat.steepness == pytest.approx(0, abs=1e-12) and math.isnan(flat.r2)


def test_adding_a_line_changes_b_and_c_alone():
    plain, moved = quadratic_fit(BETAS, CURVE), quadratic_fit(BETAS, CURVE + 0.7 * BETAS + 2)
    assert (moved.a, moved.b, moved.c) == pytest.approx((plain.a, plain.b + 0.7, plain.c + 2))


def test_steepness_scales_with_kl_and_with_the_inverse_square_of_beta():
    for fit, coefficient in ((quadratic_fit, "a"), (square_fit, "amplitude")):
        a = getattr(fit(BETAS, CURVE), coefficient)
        assert getattr(fit(BETAS, 5 * CURVE), coefficient) == pytest.approx(5 * a)
        assert getattr(fit(1e-3 * BETAS, CURVE), coefficient) == pytest.approx(1e6 * a)
        assert fit(1e-3 * BETAS, 5 * CURVE).r2 == pytest.approx(fit(BETAS, CURVE).r2)


def test_no_other_parabola_lies_closer():
    fit = quadratic_fit(BETAS, CURVE)

    def residual(a, b, c):
        return np.sum((CURVE - (a * BETAS**2 + b * BETAS + c)) ** 2)

    for step in np.random.default_rng(1).normal(0, 1e-3, (20, 3)):
        assert residual(fit.a + step[0], fit.b + step[1], fit.c + step[2]) >= residual(fit.a, fit.b, fit.c)


def test_unknown_points_are_left_out():
    holes = CURVE.copy()
    holes[[2, 9, 17]] = math.nan
    known = np.isfinite(holes)
    assert quadratic_fit(BETAS, holes) == quadratic_fit(BETAS[known], CURVE[known])
    assert square_fit(BETAS, holes) == square_fit(BETAS[known], CURVE[known])
    assert quadratic_fit(BETAS, holes).n == 18


def test_too_few_points_give_nan_and_not_a_number():
    assert math.isnan(quadratic_fit([-1, 0, 1], [1, 0, 1]).steepness)
    assert math.isnan(quadratic_fit([-1, -1, 1, 1], [1, 1, 1, 1]).steepness)
    assert math.isnan(square_fit([0, 1], [0, 1]).amplitude)
    assert math.isnan(square_fit([0, 0, 0], [0, 0, 0]).amplitude)
    assert math.isnan(quadratic_fit(BETAS, np.full(21, math.nan)).a)
    with pytest.raises(ValueError, match="one KL for each beta"):
        quadratic_fit([1, 2], [1])
