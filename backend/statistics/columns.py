"""The means of many columns over the same problems, each against 0: what `clustered_mean` says of one, of all at once.

Draws of problems and flips of signs are the same for every column, so that a thousand columns cost two products of
matrices. A column whose values are unknown for some problems has those of the others.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.ids import seed_for
from backend.statistics.clustered import N_DRAWS
from backend.statistics.paired import EXACT_PAIRS, N_PERMUTATIONS
from backend.statistics.resampling import problem_draws

_FLIPS_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class ColumnMeans:
    """(n_columns,) each; unknown is NaN."""

    n: np.ndarray  # problems whose value is known
    mean: np.ndarray
    low: np.ndarray  # 95 % interval over problems, bootstrap; NaN with fewer than two
    high: np.ndarray
    p: np.ndarray  # two-sided, by flips of signs, against a mean of 0


def column_means(values: np.ndarray, *, seed: int = 0, tested: bool = False) -> ColumnMeans:
    """Of values (n_problems, n_columns), NaN where unknown. p is there only where `tested`."""
    is_known = ~np.isnan(values)
    n, filled = is_known.sum(0), np.where(is_known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(0) / n
        draws = problem_draws(len(values), N_DRAWS, seed).astype(np.float64)
        low, high = _percentiles((draws @ filled) / (draws @ is_known.astype(np.float64)), n)
    p = _p(filled, seed) if tested else np.full(len(n), math.nan)
    return ColumnMeans(n, mean, low, high, np.where(n < 2, math.nan, p))


def _percentiles(replicates: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full(len(n), math.nan), np.full(len(n), math.nan)
    enough = n > 1
    if len(replicates) and enough.any():
        low[enough], high[enough] = np.nanquantile(replicates[:, enough], [0.025, 0.975], axis=0)
    return low, high


def _p(values: np.ndarray, seed: int) -> np.ndarray:
    """All signs where at most EXACT_PAIRS problems are there, else drawn ones and the signs as they are."""
    n = len(values)
    # The tolerance keeps sums that differ only in the order they were added in from counting as less.
    least = np.abs(values.sum(0)) - 1e-9 * np.abs(values).sum(0)
    if n <= EXACT_PAIRS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return (np.abs(signs @ values) >= least).mean(0)
    rng, as_far = np.random.default_rng(seed_for("signs of columns", seed)), np.ones(values.shape[1])
    for first in range(0, N_PERMUTATIONS, _FLIPS_AT_ONCE):
        flips = rng.integers(0, 2, size=(min(_FLIPS_AT_ONCE, N_PERMUTATIONS - first), n)) * 2.0 - 1
        as_far += (np.abs(flips @ values) >= least).sum(0)
    return as_far / (N_PERMUTATIONS + 1)


def known(value: float) -> float | None:
    """None for NaN, as rows have it."""
    return None if np.isnan(value) else value
