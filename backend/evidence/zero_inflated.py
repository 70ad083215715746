"""Two questions where most of y is exactly 0: does x tell whether y > 0, and, given y > 0, does it tell how large y is?

The first by the area under the curve (AUC): the probability that a chunk with y > 0 has the larger x of two chunks, one
of either sort, ties counting half (Mann and Whitney; 2·AUC − 1 is the rank-biserial correlation). The second by
Spearman's rho among the chunks with y > 0, whose y are permuted among themselves. Negative values, which differences of
accuracy have, count as "not above 0".
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.evidence.association import association_of_sample
from backend.evidence.sample import Sample
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.permutation import NO_NULL, null_of_sum
from backend.statistics.resampling import centred_ranks, problem_draws, sign_sums


@dataclass(frozen=True)
class ZeroInflated:
    """Intervals are the bootstrap's over problems, p two-sided with y permuted within CoTs. Unknown is NaN."""

    n_positive: int
    n_negative: int
    # of x for y > 0: below 0.5 where chunks with y > 0 have the smaller x; NaN where all chunks are of one sort
    auc: float
    auc_low: float
    auc_high: float
    auc_p: float
    auc_null_mean: float  # mean of the AUC by chance
    positive_spearman: float
    positive_low: float
    positive_high: float
    positive_p: float
    positive_null_mean: float


def zero_inflated(sample: Sample, *, n_bootstrap: int, n_permutations: int, seed: int) -> ZeroInflated:
    positive = sample.y > 0
    given = association_of_sample(
        sample.only(positive), n_bootstrap=n_bootstrap, n_permutations=n_permutations, seed=seed
    )
    auc, interval, null = math.nan, UNKNOWN, NO_NULL
    if positive.any() and not positive.all():
        sums = _auc_sums(sample, positive)
        auc = float(_auc(sums, np.ones((1, sample.n_problems)))[0])
        draws = problem_draws(sample.n_problems, n_bootstrap, seed)
        interval = bootstrap_percentile(_auc(sums, draws)) if len(draws) else UNKNOWN
        share = centred_ranks(sample.x) / (
            positive.sum() * (~positive).sum()
        )  # their sum over the positive is AUC − 1/2
        null = null_of_sum(share, positive * 1.0, sample.strata, n_permutations=n_permutations, seed=seed)
    return ZeroInflated(
        int(positive.sum()),
        int((sample.y < 0).sum()),
        auc,
        interval.low,
        interval.high,
        null.p,
        0.5 + null.mean,
        given.spearman,
        given.ci_low,
        given.ci_high,
        given.p_permutation,
        given.null_mean,
    )


def _auc_sums(sample: Sample, positive: np.ndarray) -> np.ndarray:
    """(2, n_problems, n_problems) over pairs of a chunk without y > 0 (first index) and one with (second): Σ sign of
    their x, and pairs.
    """
    n_problems = sample.n_problems
    belongs = np.eye(n_problems)[sample.problems]
    signs = sign_sums(sample.x[~positive], sample.problems[~positive], n_problems, at=sample.x[positive])
    return np.stack([signs @ belongs[positive], np.outer(belongs[~positive].sum(0), belongs[positive].sum(0))])


def _auc(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order, pairs = (((weights @ matrix) * weights).sum(1) for matrix in sums)
    return 0.5 + 0.5 * np.divide(order, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
