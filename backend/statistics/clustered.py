"""The mean of an effect over units that come in clusters, as chunks do in problems, against none.

1. Every unit counts once in the mean.
2. Interval: clusters are drawn with replacement, each with all its units; the 2.5th and 97.5th percentiles of the mean.
3. Test: if there is no effect, the sum of a whole cluster is as likely below 0 as above it. All signs of clusters are
   tried where at most 16 differ from 0, else 9,999 are drawn; p is two-sided, of the sum over all units.
4. Power: clusters of the centred effects are drawn anew, an effect of a stated size is added to each unit, and the same
   test is made, with 999 signs: the share of such studies in which p ≤ 0.05.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.paired import EXACT_PAIRS, N_PERMUTATIONS
from backend.statistics.resampling import problem_draws

ALPHA = 0.05
N_DRAWS = 2000
_PLANTED, _FLIPS = 400, 999  # studies with an effect that was planted, and signs that each is tested by
FOUND = 0.8  # share of studies that find an effect which counts as one that would be found


@dataclass(frozen=True)
class ClusteredMean:
    """Unknown numbers are NaN."""

    n: int  # units
    n_clusters: int
    mean: float
    low: float  # 95 % interval of the mean
    high: float
    p: float  # two-sided, against a mean of 0
    test: str  # name of the test


def clustered_mean(values: Sequence[float], clusters: Sequence[str], *, seed: int = 0) -> ClusteredMean:
    """Of `values`, each of the cluster at its place in `clusters`; NaN takes no part.

    With fewer than two clusters the mean is all that is known.
    """
    known, sums, counts = _sums(values, clusters)
    n, n_clusters = len(known), len(counts)
    test = "exact sign flips" if (sums != 0).sum() <= EXACT_PAIRS else f"{N_PERMUTATIONS} sign flips"
    if n_clusters < 2:
        mean = float(known.mean()) if n else math.nan
        return ClusteredMean(n, n_clusters, mean, *UNKNOWN, math.nan, test)
    draws = problem_draws(n_clusters, N_DRAWS, seed)
    interval = bootstrap_percentile((draws @ sums) / (draws @ counts))
    p = float(_p(sums[:, None], _signs(sums, seed))[0])
    return ClusteredMean(n, n_clusters, float(known.mean()), *interval, p, test)


def power(values: Sequence[float], clusters: Sequence[str], size: float, *, seed: int = 0) -> float:
    """The share of studies like this one that would find an effect of `size`; NaN with fewer than two clusters."""
    known, sums, counts = _sums(values, clusters)
    if len(counts) < 2:
        return math.nan
    drawn = np.random.default_rng(seed_for("planted clusters", seed)).integers(
        len(counts), size=(_PLANTED, len(counts))
    )
    noise = (sums - known.mean() * counts)[drawn]
    planted = noise + size * counts[drawn]
    return float((_p(planted.T, _signs(np.ones(len(counts)), seed, _FLIPS)) <= ALPHA).mean())


def detectable(values: Sequence[float], clusters: Sequence[str], *, seed: int = 0) -> float:
    """The smallest size, of those tried, that FOUND of studies like this one would find: 1, 1.25, 1.5 … 8 standard
    errors of the mean over clusters. Infinite where none of them would be, as with five clusters, whose p is never
    below 0.05; NaN with fewer than two.
    """
    known, sums, counts = _sums(values, clusters)
    if len(counts) < 2:
        return math.nan
    deviations = sums - known.mean() * counts
    error = math.sqrt(len(counts) / (len(counts) - 1) * float((deviations**2).sum())) / counts.sum()
    sizes = [error * step / 4 for step in range(4, 33)]
    if not error:
        return 0.0
    return next((size for size in sizes if power(values, clusters, size, seed=seed) >= FOUND), math.inf)


def _sums(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known values, and sum and number of them by cluster."""
    if len(values) != len(clusters):
        raise ValueError(f"each value needs its cluster, got {len(values)} values and {len(clusters)} clusters")
    every = np.asarray(values, dtype=np.float64)
    if np.isinf(every).any():
        raise ValueError("an effect is infinite; expected finite numbers or NaN")
    is_known = ~np.isnan(every)
    known = every[is_known]
    names, of = np.unique(np.asarray(clusters, dtype=str)[is_known], return_inverse=True)
    return known, np.bincount(of, known, len(names)), np.bincount(of, minlength=len(names)).astype(np.float64)


def _signs(sums: np.ndarray, seed: int, n_drawn: int = N_PERMUTATIONS) -> np.ndarray:
    """(n_flips, n_clusters) of −1 and 1; a cluster whose sum is 0 keeps its sign."""
    differing = np.flatnonzero(sums)
    if len(differing) > EXACT_PAIRS:
        rng = np.random.default_rng(seed_for("signs of clusters", seed))
        return np.concatenate([rng.choice((-1.0, 1.0), size=(n_drawn, len(sums))), np.ones((1, len(sums)))])
    signs = np.ones((2 ** len(differing), len(sums)))
    signs[:, differing] = 1.0 - 2.0 * (np.arange(len(signs))[:, None] >> np.arange(len(differing)) & 1)
    return signs


def _p(sums: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Two-sided p of each study, a column of `sums` (n_clusters, n_studies)."""
    # The tolerance keeps sums that differ only in the order they were added in from counting as less.
    observed = np.abs(sums.sum(0)) - 1e-9 * np.abs(sums).sum(0)
    return (np.abs(signs @ sums) >= observed).mean(0)
