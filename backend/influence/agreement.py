"""Do ways to ask which chunk acts on which agree? Rank correlations within chains, against what distance alone gives.

1. Over the pairs of chunks of one CoT that both ways know, Spearman's rho; CoTs with fewer than FEWEST_PAIRS, or whose
   pairs are all equal in one of the ways, take no part. The mean over CoTs counts each once.
2. Interval: problems are drawn with replacement, each with all its CoTs.
3. Null: within each CoT and distance (chunks from source to target), the pairs of the one way are dealt anew. What is
   then left, on average, is what both owe to distance (`at_distance`); p is the share of deals, the observed one
   counted among them, whose mean is at least as large.

What it cannot say: which of two ways is right where they part, or that both are right where they agree: they share the
text, and length and place move them all.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.influence.over_study import FEWEST_PAIRS
from backend.statistics.intervals import bootstrap_percentile
from backend.statistics.permutation import orders
from backend.statistics.resampling import centred_ranks, problem_draws


@dataclass(frozen=True)
class Agreement:
    """Unknown is NaN."""

    spearman: float
    low: float  # bootstrap 95 % interval over problems
    high: float
    at_distance: float
    p: float  # one-sided
    n_cots: int
    n_problems: int
    n_pairs: int


def agreement(pairs: pd.DataFrame, *, n_bootstrap: int, n_permutations: int, seed: int) -> Agreement:
    """Of the columns `x` and `y`, over rows with `cot_id`, `problem_id` and `distance` (1 for neighbours); a pair that
    one way does not know is left out.
    """
    rows = pairs[pairs["x"].notna() & pairs["y"].notna()].sort_values(["cot_id", "distance"], kind="stable")
    parts = [(cot, _unit(own)) for cot, own in rows.groupby("cot_id", sort=False) if len(own) >= FEWEST_PAIRS]
    there = {cot: ranks for cot, ranks in parts if ranks is not None}
    rows = rows[rows["cot_id"].isin(list(there))]
    if rows.empty:
        return Agreement(*(math.nan,) * 5, 0, 0, 0)
    x, y = np.concatenate(list(there.values()), 1)
    cot, n = pd.factorize(rows["cot_id"])[0], len(there)
    by_cot = np.bincount(cot, x * y)
    problems = pd.factorize(rows.drop_duplicates("cot_id")["problem_id"])[0]
    draws = problem_draws(int(problems.max()) + 1, n_bootstrap, seed)
    interval = bootstrap_percentile((draws @ np.bincount(problems, by_cot)) / (draws @ np.bincount(problems)))
    strata = np.unique(np.stack([cot, rows["distance"]], 1), axis=0, return_inverse=True)[1].ravel()
    dealt, observed = y[orders(strata, n_permutations, seed)] @ x / n, by_cot.mean()
    movable = np.ptp(dealt) > 1e-12
    p = (int((dealt >= observed - 1e-12).sum()) + 1) / (n_permutations + 1) if movable else math.nan
    return Agreement(float(observed), *interval, float(dealt.mean()), p, n, int(problems.max()) + 1, len(rows))


def _unit(own: pd.DataFrame) -> np.ndarray | None:
    """Ranks of x and of y, each less its mean and scaled to length 1: their product adds up to rho. None where one has
    no order.
    """
    ranks = np.stack([centred_ranks(own[name].to_numpy(float)) for name in ("x", "y")])
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    return ranks / lengths if (lengths > 0).all() else None
