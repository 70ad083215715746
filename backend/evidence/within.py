"""The correlation that is left within CoTs, which leads: ranks over all chunks, less their CoT's mean, pooled over CoTs
(see aligned.py).

It is the part of Spearman's rho that permuting y within CoTs destroys, so its p is that of the association. The rest of
rho is between CoTs and problems, where what a problem is like moves both measures.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.evidence.aligned import Aligned, less_mean
from backend.evidence.sample import Sample
from backend.statistics.resampling import centred_ranks


@dataclass(frozen=True)
class Within:
    """NaN where no CoT has two chunks that differ."""

    rho: float
    low: float  # bootstrap 95 % interval over problems
    high: float
    null_low: float  # 2.5th to 97.5th percentile with y permuted within CoTs
    null_high: float
    p_problems: float  # two-sided: do the problems agree (Student's t over their sums)


UNKNOWN_WITHIN = Within(*(math.nan,) * 6)


def within(sample: Sample, *, n_bootstrap: int, n_permutations: int, seed: int) -> Within:
    if not len(sample):
        return UNKNOWN_WITHIN
    scores = aligned(sample)
    if not scores.is_known:
        return UNKNOWN_WITHIN
    low, high = scores.interval(n_bootstrap=n_bootstrap, seed=seed)[:, 0]
    null = (math.nan, math.nan)
    if n_permutations:
        sums = scores.permuted(n_permutations=n_permutations, seed=seed).sums(scores.y)
        null = np.percentile(sums, [2.5, 97.5]) / math.sqrt((scores.x @ scores.x) * (scores.y**2).sum())
    return Within(*map(float, (scores.rho()[0], low, high, *null, scores.p_problems()[0])))


def aligned(sample: Sample) -> Aligned:
    left_x, left_y = (less_mean(centred_ranks(values), sample.strata) for values in (sample.x, sample.y))
    return Aligned(left_x, left_y[None], sample.strata, sample.problems)
