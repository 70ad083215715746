"""Chance: y dealt anew among the chunks of each CoT.

That keeps what differs between CoTs and between problems, so the null is centred on what these alone would give, not on
0. All statistics tested here are sums Σ aᵢ bᵢ over chunks (of ranks, of residuals, of indicators), whose mean under the
permutations is known exactly: a permuted b is on average its group's mean. The two-sided p is the share of permutations
at least as far from that mean as the sum itself, as (k + 1) / (N + 1).
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.intervals import bootstrap_percentile


@dataclass(frozen=True)
class Null:
    """Where Σ aᵢ bᵢ falls by chance. NaN where no permutation changes it, or none were asked for."""

    p: float
    low: float  # 2.5th percentile
    high: float  # 97.5th percentile
    mean: float


NO_NULL = Null(math.nan, math.nan, math.nan, math.nan)


def null_of_sum(a: np.ndarray, b: np.ndarray, strata: np.ndarray, *, n_permutations: int, seed: int) -> Null:
    """Of Σ aᵢ bᵢ, b permuted within strata; all (n,), strata ascending from 0."""
    sizes = np.bincount(strata)
    mean_a, mean_b = np.bincount(strata, a) / sizes, np.bincount(strata, b) / sizes
    spread = np.bincount(strata, (a - mean_a[strata]) ** 2) * np.bincount(strata, (b - mean_b[strata]) ** 2)
    if not n_permutations or spread.max() <= 1e-20 * (a @ a) * (b @ b):
        return NO_NULL
    mean = float((sizes * mean_a * mean_b).sum())
    permuted = b[orders(strata, n_permutations, seed)] @ a
    tolerance = 1e-12 * math.sqrt((a @ a) * (b @ b))
    as_far = int((np.abs(permuted - mean) >= abs(a @ b - mean) - tolerance).sum())
    return Null((as_far + 1) / (n_permutations + 1), *bootstrap_percentile(permuted), mean)


def shuffled(frame: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The frame with its known `y` permuted within each `cot_id`: one look at chance. Unknown y stay where they are."""
    known = frame["y"].notna().to_numpy()
    rng = np.random.default_rng(seed_for("shuffled", seed))
    cots = pd.factorize(frame["cot_id"])[0][known]
    dealt, own = np.lexsort((rng.random(len(cots)), cots)), np.argsort(cots, kind="stable")
    y = frame["y"].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    values = y[known]
    values[own] = values[dealt]
    y[known] = values
    return frame.assign(y=y)


def orders(strata: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """(n_permutations, n) indices that permute within strata, which ascend from 0."""
    return _orders(strata.astype(np.int32).tobytes(), n_permutations, seed)


@functools.lru_cache(maxsize=8)
def _orders(strata: bytes, n_permutations: int, seed: int) -> np.ndarray:
    """5 MB for 2000 × 600; a grid of pairs asks for the same ones again."""
    groups = np.frombuffer(strata, dtype=np.int32)
    rng = np.random.default_rng(seed_for("permutation", seed))
    found = np.empty((n_permutations, len(groups)), dtype=np.int32)
    block = max(1, 1_000_000 // len(groups))
    for start in range(0, n_permutations, block):
        part = found[start : start + block]
        part[:] = np.argsort(groups + rng.random(part.shape), axis=1)
    found.flags.writeable = False
    return found
