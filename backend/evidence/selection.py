"""Why leaving out the chunks near the origin makes a slope by itself.

Those whose |x| and |y| are both at or below their medians are left out (`sample.py`). Of the chunks with a small x only
those with a large y are left, so that y falls with x among what is left, whatever the two have to do with each other.
The demonstration: y is dealt anew among the chunks of each CoT, which keeps both marginals and unties them; the same
rule then leaves chunks out, and the slope is taken of what is left, many times.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.evidence.sample import Sample, sample_of
from backend.statistics.intervals import bootstrap_percentile
from backend.statistics.permutation import orders
from backend.statistics.resampling import constant, problem_draws, spearman, weighted_spearman

N_SHUFFLES = 400


@dataclass(frozen=True)
class Slope:
    """Least-squares slope of y on x, and Spearman's ρ, with 95 % of what the row says they vary over."""

    n: int  # chunks
    slope: float
    low: float
    high: float
    rho: float
    rho_low: float
    rho_high: float


@dataclass(frozen=True)
class Selected:
    whole: Slope  # on all chunks; 95 % over draws of problems
    away: Slope  # on those away from the origin, likewise
    by_selection: Slope  # of shuffles: medians over them, and 95 % of them
    n_shuffles: int


def slopes_by_selection(frame: pd.DataFrame, *, seed: int, n_shuffles: int = N_SHUFFLES) -> Selected:
    """`frame` has `x`, `y`, `cot_id`, `problem_id`."""
    whole = sample_of(frame)
    return Selected(
        _measured(whole, seed),
        _measured(sample_of(frame, "away_from_origin"), seed),
        _dealt(whole, seed, n_shuffles),
        n_shuffles,
    )


def _measured(sample: Sample, seed: int) -> Slope:
    if len(sample) < 3 or constant(sample.x):
        return Slope(len(sample), *[math.nan] * 6)
    draws = problem_draws(sample.n_problems, N_SHUFFLES, seed)
    again = _slopes(sample.x, sample.y, draws[:, sample.problems].astype(float))
    rho = weighted_spearman(sample.x, sample.y, draws, sample.problems)
    (slope,) = _slopes(sample.x, sample.y, np.ones((1, len(sample))))
    return Slope(
        len(sample),
        float(slope),
        *bootstrap_percentile(again),
        spearman(sample.x, sample.y),
        *bootstrap_percentile(rho),
    )


def _dealt(whole: Sample, seed: int, n_shuffles: int) -> Slope:
    """Medians and 95 % of the slopes of what the rule leaves of y dealt anew within CoTs."""
    if len(whole) < 3 or constant(whole.x):
        return Slope(0, *[math.nan] * 6)
    y = whole.y[orders(whole.strata, n_shuffles, seed)]  # (n_shuffles, n)
    large = np.abs(whole.x) > np.median(np.abs(whole.x))
    kept = large | (np.abs(y) > np.median(np.abs(whole.y)))
    slopes = _slopes(whole.x, y, kept.astype(float))
    rho = np.array([spearman(whole.x[own], dealt[own]) for own, dealt in zip(kept, y, strict=True) if own.any()])
    return Slope(
        int(np.median(kept.sum(1))),
        float(np.nanmedian(slopes)),
        *bootstrap_percentile(slopes),
        float(np.nanmedian(rho)),
        *bootstrap_percentile(rho),
    )


def _slopes(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least-squares slopes (n_rows,) of y, (n,) or (n_rows, n), on x (n,); NaN where x does not vary."""
    total = weights.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = x - (weights * x).sum(1, keepdims=True) / total
        size = (weights * centred**2).sum(1)
        return np.where(size > 0, (weights * centred * y).sum(1) / size, np.nan)
