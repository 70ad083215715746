"""The correlation that is left within CoTs: ranks over all chunks, less their CoT's mean, pooled over CoTs.

It is the part of Spearman's rho that permuting y within CoTs destroys, so its p is that of the permutation. Its interval draws problems
and asks whether they agree: one problem with many chunks cannot carry it. Ranks are kept as they are in every draw.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.evidence.resampling import centred_ranks, problem_draws
from backend.evidence.sample import Sample
from backend.importance.intervals import UNKNOWN, bootstrap_percentile


@dataclass(frozen=True)
class Within:
    """NaN where no CoT has two chunks that differ."""

    rho: float
    low: float  # bootstrap 95 % interval over problems
    high: float


def within(sample: Sample, *, n_bootstrap: int, seed: int) -> Within:
    if len(sample) < 3:
        return Within(math.nan, *UNKNOWN)
    left_x, left_y = (_less_mean(centred_ranks(values), sample.strata) for values in (sample.x, sample.y))
    sums = np.stack([np.bincount(sample.problems, product) for product in (left_x * left_y, left_x**2, left_y**2)])
    draws = problem_draws(sample.n_problems, n_bootstrap, seed)
    return Within(float(_rho(sums.sum(1))), *(bootstrap_percentile(_rho(sums @ draws.T)) if len(draws) else UNKNOWN))


def _less_mean(ranks: np.ndarray, strata: np.ndarray) -> np.ndarray:
    return ranks - (np.bincount(strata, ranks) / np.bincount(strata))[strata]


def _rho(sums: np.ndarray) -> np.ndarray:
    covariance, variance_x, variance_y = sums
    scale = np.sqrt(variance_x * variance_y)
    return np.divide(covariance, scale, out=np.full(np.shape(scale), np.nan), where=scale > 1e-9)
