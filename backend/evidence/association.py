"""Does y fall or rise with x over chunks, as in the law "steepness against importance" (Dawes, "Features and Logits",
section 4.2)?

The method in steps:

1. Rows where x or y is unknown are left out and counted. Spearman's rho is the correlation of mid-ranks: ties share
   their mean rank.
2. Interval: problems are drawn with replacement (`resampling`), and the 2.5th and 97.5th percentiles of rho are taken.
3. Null: y is permuted among the chunks of each CoT (`permutation`), which keeps what differs between CoTs and problems.

Two thirds of published importances are exactly 0, and independent heavy tails leave the same empty corner as an inverse
law: hence a rank correlation, the count of exact zeros, and the null band beside it.
"""

import math
from dataclasses import dataclass

import pandas as pd

from backend.evidence.sample import Sample, sample_of
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.permutation import NO_NULL, null_of_sum
from backend.statistics.resampling import centred_ranks, constant, problem_draws, spearman, weighted_spearman


@dataclass(frozen=True)
class Association:
    """Spearman's rho of x and y with its evidence. Unknown numbers are NaN, and `notes` says why."""

    n: int  # chunks with both values
    n_cots: int  # of those chunks
    n_problems: int  # of those chunks
    n_missing: int  # rows left out because x or y is unknown
    n_zero_x: int  # x exactly 0 among the n
    n_zero_y: int  # y exactly 0 among the n
    spearman: float  # in [-1, 1]; NaN where x or y is constant or n < 3
    ci_low: float  # bootstrap 95 % interval over problems
    ci_high: float
    p_permutation: float  # two-sided, y permuted within CoTs
    null_low: float  # 2.5th to 97.5th percentile of rho under those permutations
    null_high: float
    null_mean: float  # exact mean of rho under those permutations: what CoTs alone would give
    n_bootstrap: int
    n_permutations: int
    seed: int
    notes: tuple[str, ...]


def association(
    frame: pd.DataFrame, *, n_bootstrap: int = 2000, n_permutations: int = 2000, seed: int, subset: str = "all"
) -> Association:
    """Association of the columns `x` and `y` of chunks, which carry `cot_id` and `problem_id`.

    Row order changes nothing.
    """
    return association_of_sample(
        sample_of(frame, subset), n_bootstrap=n_bootstrap, n_permutations=n_permutations, seed=seed
    )


def association_of_sample(sample: Sample, *, n_bootstrap: int, n_permutations: int, seed: int) -> Association:
    x, y, n = sample.x, sample.y, len(sample)
    rho, interval, null, notes = math.nan, UNKNOWN, NO_NULL, []
    if n < 3:
        notes.append(f"{n} chunks have both values; rho needs at least 3")
    elif constant(x) or constant(y):
        notes.append(f"{'x' if constant(x) else 'y'} is the same for all {n} chunks: no rank correlation")
    else:
        rho = spearman(x, y)
        if sample.n_problems < 2:
            notes.append("one problem: no interval over problems")
        elif n_bootstrap:
            replicates = weighted_spearman(x, y, problem_draws(sample.n_problems, n_bootstrap, seed), sample.problems)
            interval = bootstrap_percentile(replicates)
            if undefined := sum(map(math.isnan, replicates)):
                notes.append(f"{undefined} of {n_bootstrap} bootstrap draws had constant x or y and were left out")
        rank_x, rank_y = centred_ranks(x), centred_ranks(y)
        scale = math.sqrt((rank_x @ rank_x) * (rank_y @ rank_y))
        null = null_of_sum(rank_x / scale, rank_y, sample.strata, n_permutations=n_permutations, seed=seed)
        if math.isnan(null.p) and n_permutations:
            notes.append("no CoT has two chunks that differ in x and in y: permuting within CoTs shows nothing")
    return Association(
        n=n,
        n_cots=sample.n_cots,
        n_problems=sample.n_problems,
        n_missing=sample.n_missing,
        n_zero_x=int((x == 0).sum()),
        n_zero_y=int((y == 0).sum()),
        spearman=rho,
        ci_low=interval.low,
        ci_high=interval.high,
        p_permutation=null.p,
        null_low=null.low,
        null_high=null.high,
        null_mean=null.mean,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        seed=seed,
        notes=tuple(notes),
    )
