"""Where along a dose a sampled quantity changes, if it does in one step.

The method in steps:

1. y is a mean before the step and another after it. For each gap between neighbouring x the two constants are fitted by
   least squares, every sample counting once; the step lies in the gap that explains most.
2. Interval: the samples are drawn anew within each x and the step is placed again; the 2.5th and 97.5th percentiles of
   its place are taken.
3. Null: the samples are permuted over all x, and p is the share of permutations in which the best step explains at
   least as much as the observed one, as (k + 1) / (N + 1). A small p says that y changes along x. A slope does that
   too: look at the points.

Samples of different x that share their random numbers are more alike than the permutations suppose, which makes p too
large, not too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile

MIN_X = 4


@dataclass(frozen=True)
class Changepoint:
    """One step of y between two neighbouring x."""

    x_before: float  # last x before the step
    x_after: float  # first x after it
    mean_before: float  # mean of all samples up to x_before
    mean_after: float  # mean of all samples from x_after on
    low: float  # 95 % interval of the step's place, in x; NaN where an x has a single sample
    high: float
    p: float  # against no change along x
    n_x: int  # x with samples
    n: int  # samples

    @property
    def location(self) -> float:
        """Middle of the gap: nothing was measured within it."""
        return (self.x_before + self.x_after) / 2

    @property
    def size(self) -> float:
        return self.mean_after - self.mean_before


def changepoint(
    x: Sequence[float],
    y_by_x: Sequence[Sequence[float]],
    *,
    n_bootstrap: int = 1000,
    n_permutations: int = 999,
    seed: int = 0,
) -> Changepoint | None:
    """The step of y along x; `y_by_x[i]` are the samples at `x[i]`, in any order of x. NaN samples take no part.

    None where fewer than 4 x have samples, and where all samples are equal. Raises ValueError for an x that is not
    finite or is there twice.
    """
    if len(x) != len(y_by_x):
        raise ValueError(f"each x needs its samples, got {len(x)} x and {len(y_by_x)} lists")
    if not np.isfinite(x).all() or len(set(x)) != len(x):
        raise ValueError(f"x must be finite and different, got {list(x)}")
    samples = [np.asarray(values, dtype=np.float64) for values in y_by_x]
    by_x = sorted(
        (float(at), values[~np.isnan(values)])
        for at, values in zip(x, samples, strict=True)
        if not np.isnan(values).all()
    )
    xs, groups = np.array([at for at, _ in by_x]), [values for _, values in by_x]
    if len(xs) < MIN_X:
        return None
    pooled = np.concatenate(groups)
    if np.ptp(pooled) == 0:
        return None
    sizes = np.array([len(group) for group in groups])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def explained(rows: np.ndarray) -> np.ndarray:
        return _explained(np.add.reduceat(rows - pooled.mean(), starts, axis=-1), sizes)

    observed = explained(pooled)
    gap = int(observed.argmax())
    permutation = np.random.default_rng(seed_for("changepoint permutation", seed))
    permuted = explained(permutation.permuted(np.tile(pooled, (n_permutations, 1)), axis=1)).max(-1)
    as_much = int((permuted >= observed[gap] * (1 - 1e-9)).sum())
    interval = UNKNOWN
    if sizes.min() > 1:
        bootstrap = np.random.default_rng(seed_for("changepoint bootstrap", seed))
        drawn = [group[bootstrap.integers(len(group), size=(n_bootstrap, len(group)))] for group in groups]
        gaps = explained(np.concatenate(drawn, axis=1)).argmax(-1)
        # The step may lie anywhere in its gap: the interval reaches from the left end of the lowest to the right end of
        # the highest.
        interval = Interval(bootstrap_percentile(xs[gaps]).low, bootstrap_percentile(xs[gaps + 1]).high)
    edge = starts[gap + 1]
    return Changepoint(
        x_before=float(xs[gap]),
        x_after=float(xs[gap + 1]),
        mean_before=float(pooled[:edge].mean()),
        mean_after=float(pooled[edge:].mean()),
        low=interval.low,
        high=interval.high,
        p=(as_much + 1) / (n_permutations + 1),
        n_x=len(xs),
        n=len(pooled),
    )


def _explained(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sum of squares that a step in each gap explains beyond a constant, (..., n_x − 1), from the sums of y at each x,
    (..., n_x).
    """
    before, n_before = np.cumsum(sums, axis=-1)[..., :-1], np.cumsum(sizes)[:-1]
    total, n = sums.sum(-1, keepdims=True), sizes.sum()
    return before**2 / n_before + (total - before) ** 2 / (n - n_before) - total**2 / n
