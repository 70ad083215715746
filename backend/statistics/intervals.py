"""95 % intervals: Wilson's for a share, the percentile bootstrap for everything that rollouts give."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from backend.ids import seed_for


class Interval(NamedTuple):
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share `successes / n`, within [0, 1]; NaN, NaN where n = 0.

    Unlike the normal approximation and the bootstrap it has a width when all or none succeed: 0 of 43 gives [0, 0.08].
    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209.
    """
    _check_level(level)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    if n == 0:
        return UNKNOWN
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def newcombe(successes: int, n: int, other_successes: int, other_n: int, level: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval of `successes / n` − `other_successes / other_n`, two independent shares; NaN,
    NaN where one of them is of nothing.

    Source: Newcombe (1998), Stat. Med. 17, 873, method 10. For paired shares see `paired.py`.
    """
    if not n or not other_n:
        return UNKNOWN
    own, other = wilson(successes, n, level), wilson(other_successes, other_n, level)
    share, other_share = successes / n, other_successes / other_n
    return Interval(
        share - other_share - math.hypot(share - own.low, other.high - other_share),
        share - other_share + math.hypot(own.high - share, other_share - other.low),
    )


def bootstrap_percentile(replicates: np.ndarray, level: float = 0.95) -> Interval:
    """Central `level` share of bootstrap replicates, shape (n_replicates,), in the replicates' own unit.

    Replicates where the statistic is undefined are NaN and left out; with none left the interval is NaN, NaN.
    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", chapter 13.
    """
    _check_level(level)
    known = np.asarray(replicates, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return UNKNOWN
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap_mean(values: Sequence[float], *, n_bootstrap: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of `values`, in their own unit; the same draws for the same seed and
    number of values.

    NaN takes no part. Fewer than two values give NaN, NaN: resampling one value gives that value, which is no
    certainty.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size < 2:
        return UNKNOWN
    draws = np.random.default_rng(seed_for("bootstrap mean", seed)).integers(known.size, size=(n_bootstrap, known.size))
    return bootstrap_percentile(known[draws].mean(1), level)


def prediction(values: Sequence[float], level: float = 0.95) -> Interval:
    """Where one more value like `values`, drawn alike and about normal, lies with this probability: mean ±
    t·s·√(1 + 1/n), t of Student with n − 1 degrees of freedom.

    NaN takes no part. Fewer than two values give NaN, NaN. Wider than the interval of the mean, for it asks about one.
    """
    _check_level(level)
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size < 2:
        return UNKNOWN
    from scipy.special import stdtrit

    half = float(stdtrit(known.size - 1, (1 + level) / 2)) * known.std(ddof=1) * math.sqrt(1 + 1 / known.size)
    return Interval(float(known.mean() - half), float(known.mean() + half))


def share_prediction(successes: int, n: int, of: int, level: float = 0.95) -> Interval:
    """Where the share among `of` further trials lies with this probability, after `successes` of `n` like them:
    beta-binomial quantiles under Jeffreys' prior, which know how uncertain both shares are. NaN, NaN without trials.
    """
    _check_level(level)
    if not n or not of:
        return UNKNOWN
    from scipy.stats import betabinom

    low, high = betabinom.interval(level, of, successes + 0.5, n - successes + 0.5)
    return Interval(float(low) / of, float(high) / of)


def beyond(value: float, band: Interval) -> bool | None:
    """Whether the value lies outside, by more than rounding; None where either is unknown."""
    if math.isnan(value) or math.isnan(band.low) or math.isnan(band.high):
        return None
    slack = 1e-9 * max(abs(band.low), abs(band.high))
    return not band.low - slack <= value <= band.high + slack


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, as 0.95, got {level}")
