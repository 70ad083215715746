"""How steeply KL(β) rises: two least-squares fits of a curve, in float64.

`quadratic_fit` is a·β² + b·β + c (Dawes 2025, section 3, whose steepness is |a|); `square_fit` is a·β² alone. Points
that are not known (NaN) take no part; a fit with too few known points, or too few different β, is NaN throughout.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class QuadraticFit:
    """kl ≈ a·β² + b·β + c."""

    a: float  # nats per unit β²
    b: float  # nats per unit β
    c: float  # nats
    r2: float  # share of the variance explained; NaN for a curve that does not vary
    n: int  # known points

    @property
    def steepness(self) -> float:
        """|a|, nats per unit β²."""
        return abs(self.a)


@dataclass(frozen=True)
class SquareFit:
    """kl ≈ amplitude·β²."""

    amplitude: float  # nats per unit β²
    r2: float  # 1 − residual/total sum of squares about the mean: negative where a constant fits better
    n: int  # known points


def quadratic_fit(betas: Sequence[float] | np.ndarray, kl: Sequence[float] | np.ndarray) -> QuadraticFit:
    """Needs 4 known points at 3 different β, so that a fit can fail; with fewer the answer is NaN."""
    beta, known = _known(betas, kl)
    if len(beta) < 4 or len(np.unique(beta)) < 3:
        return QuadraticFit(math.nan, math.nan, math.nan, math.nan, len(beta))
    coefficients = np.polynomial.Polynomial.fit(
        beta, known, 2
    ).convert()  # fitted on [−1, 1], so the scale of β does not matter
    c, b, a = (float(value) for value in np.pad(coefficients.coef, (0, 3 - len(coefficients.coef))))
    return QuadraticFit(a, b, c, _r2(known, coefficients(beta)), len(beta))


def square_fit(betas: Sequence[float], kl: Sequence[float]) -> SquareFit:
    """Needs 3 known points, at least one of them away from β = 0; with fewer the answer is NaN."""
    beta, known = _known(betas, kl)
    squares = beta**2
    if len(beta) < 3 or not squares.any():
        return SquareFit(math.nan, math.nan, len(beta))
    amplitude = float(squares @ known / (squares @ squares))
    return SquareFit(amplitude, _r2(known, amplitude * squares), len(beta))


def _known(betas: Sequence[float] | np.ndarray, kl: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    beta, values = np.asarray(betas, dtype=float), np.asarray(kl, dtype=float)
    if beta.shape != values.shape or beta.ndim != 1:
        raise ValueError(f"a curve needs one KL for each beta, got {beta.shape} betas and {values.shape} KLs")
    finite = np.isfinite(beta) & np.isfinite(values)
    return beta[finite], values[finite]


def _r2(known: np.ndarray, fitted: np.ndarray) -> float:
    if np.ptp(known) == 0:
        return math.nan
    return 1 - float(np.sum((known - fitted) ** 2) / np.sum((known - known.mean()) ** 2))
