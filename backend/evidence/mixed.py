"""A linear mixed model with the problem as random effect: how y rises with x, all problems sharing one slope but each
with its own level.

Both are ranked and standardised, so that heavy tails do not decide, and the slope is in standard deviations of rank.
Restricted maximum likelihood: with γ = variance between problems / variance within, the model is least squares on data
less θ times their problem's mean, θ = 1 − 1/√(1 + n γ) for a problem of n chunks, so only γ is searched, and γ = 0 (no
variance between problems) is an ordinary answer. The standard error takes γ for known. statsmodels' MixedLM agrees
where it ends well (a test), but searches in more dimensions: at γ near 0 it often does not converge, or says that it
did with standard errors of millions, and it takes 30 times as long.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.evidence.sample import Sample
from backend.statistics.resampling import centred_ranks, constant

_LARGEST = 1e4  # γ beyond it: nothing varies within problems


@dataclass(frozen=True)
class Mixed:
    slope: float  # standard deviations of y's ranks per standard deviation of x's
    low: float  # 95 % interval (Wald)
    high: float
    p: float  # Wald
    problem_share: float  # variance between problems over all variance that x does not explain
    note: str  # why unknown, or what is odd; else empty


def mixed(sample: Sample) -> Mixed:
    """Unknown, with a note, for one problem, for problems of one chunk each, and where x or y does not vary within any
    problem.
    """
    from scipy.optimize import minimize_scalar

    if len(sample) < 5 or constant(sample.x) or constant(sample.y):
        return unknown("too few chunks, or no variation")
    if sample.n_problems < 2 or sample.n_problems == len(sample):
        return unknown("needs at least two problems, and one of them with two chunks")
    model = _Model.of(sample)
    grid = np.concatenate([[0.0], np.geomspace(1e-4, _LARGEST, 33)])
    best = int(np.argmin([model.deviance(gamma) for gamma in grid]))
    gamma = float(grid[best])
    if best:
        around = np.log([grid[max(best - 1, 1)], grid[min(best + 1, len(grid) - 1)]])
        gamma = math.exp(minimize_scalar(lambda log: model.deviance(math.exp(log)), bounds=around, method="bounded").x)
    if gamma > 0.9 * _LARGEST:
        return unknown("x or y hardly varies within problems")
    slope, error = model.slope(gamma)
    half = 1.959964 * error
    note = "no variance between problems was found" if gamma < 1e-6 else ""
    return Mixed(
        slope, slope - half, slope + half, math.erfc(abs(slope / error) / math.sqrt(2)), gamma / (1 + gamma), note
    )


def unknown(note: str) -> Mixed:
    return Mixed(math.nan, math.nan, math.nan, math.nan, math.nan, note)


@dataclass(frozen=True)
class _Model:
    columns: np.ndarray  # (n, 3): 1, x, y
    means: np.ndarray  # (n, 3): of the chunk's problem
    sizes: np.ndarray  # (n_problems,)
    problems: np.ndarray  # (n,)

    @classmethod
    def of(cls, sample: Sample) -> "_Model":
        x, y = (ranks / ranks.std() for ranks in map(centred_ranks, (sample.x, sample.y)))
        columns, sizes = np.column_stack([np.ones(len(x)), x, y]), np.bincount(sample.problems)
        means = np.column_stack([np.bincount(sample.problems, column) / sizes for column in columns.T])
        return cls(columns, means[sample.problems], sizes, sample.problems)

    def _least_squares(self, gamma: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Coefficients (2,), their cross products (2, 2), residual sum of squares."""
        theta = 1 - 1 / np.sqrt(1 + self.sizes * gamma)
        columns = self.columns - theta[self.problems, None] * self.means
        design, y = columns[:, :2], columns[:, 2]
        products = design.T @ design
        coefficients = np.linalg.solve(products, design.T @ y)
        rss = float(((y - design @ coefficients) ** 2).sum())
        return coefficients, products, max(rss, 1e-12 * len(y))  # a perfect line has no residual, and no logarithm

    def deviance(self, gamma: float) -> float:
        """−2 log of the restricted likelihood at its best coefficients and scale, less a constant."""
        _, products, rss = self._least_squares(gamma)
        return (
            (len(self.columns) - 2) * math.log(rss)
            + float(np.log1p(self.sizes * gamma).sum())
            + math.log(np.linalg.det(products))
        )

    def slope(self, gamma: float) -> tuple[float, float]:
        """With its standard error."""
        coefficients, products, rss = self._least_squares(gamma)
        return float(coefficients[1]), math.sqrt(rss / (len(self.columns) - 2) * np.linalg.inv(products)[1, 1])
