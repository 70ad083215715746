"""Two arms of an experiment compared sample by sample.

Sample k of one arm draws with the same random numbers as sample k of the other, so what luck did to both cancels in
each pair. A pair in which either side is unknown (None or NaN) takes no part and is counted. Differences are changed −
base.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_mean, wilson

EXACT_PAIRS = 16  # up to this many pairs that differ, all 2^n signs are tried
N_PERMUTATIONS = 9999  # signs drawn where there are more


@dataclass(frozen=True)
class Paired:
    """Unknown numbers are NaN."""

    n: int  # pairs with both sides known
    n_left_out: int  # pairs with a side unknown
    difference: float  # mean of changed − base over the pairs, in the unit compared
    low: float  # 95 % interval of the difference
    high: float
    p: float  # two-sided, against no difference
    test: str  # name of the test


def mcnemar(base: Sequence[bool | None], changed: Sequence[bool | None]) -> Paired:
    """Difference of two shares, each (n_pairs,) of verdicts, by the exact binomial test on the pairs whose verdicts
    differ.

    The interval combines Wilson's of the two shares with their correlation, so it has a width also where all pairs
    agree. Sources: McNemar (1947), Psychometrika 12, 153; the interval: Newcombe (1998), Stat. Med. 17, 2635, method
    10.
    """
    pairs = _complete(base, changed)
    n, n_left_out = len(pairs), len(base) - len(pairs)
    if not np.isin(pairs, (0, 1)).all():
        raise ValueError("McNemar's test compares verdicts: True, False or None")
    both, only_base, only_changed = (int((pairs == cell).all(1).sum()) for cell in ((1, 1), (1, 0), (0, 1)))
    return mcnemar_of_counts(both, only_base, only_changed, n, n_left_out=n_left_out)


def mcnemar_of_counts(both: int, only_base: int, only_changed: int, n: int, *, n_left_out: int = 0) -> Paired:
    """The same from how many of `n` pairs succeed on both sides, in the base alone, and changed alone."""
    if not n:
        return Paired(0, n_left_out, math.nan, *UNKNOWN, math.nan, "exact McNemar")
    n_differing = only_base + only_changed
    tail = sum(math.comb(n_differing, k) for k in range(min(only_base, only_changed) + 1))
    p = min(1.0, 2 * tail / 2**n_differing)
    interval = _newcombe(both, only_base, only_changed, n)
    return Paired(n, n_left_out, (only_changed - only_base) / n, *interval, p, "exact McNemar")


def paired_difference(base: Sequence[float | None], changed: Sequence[float | None], *, seed: int = 0) -> Paired:
    """Mean difference of a quantity, each side (n_pairs,), with its bootstrap interval over pairs and the sign-flip
    test.

    The test asks how often the mean would be at least this far from 0 if every pair's difference had its sign by a
    coin's toss: over all signs where at most 16 pairs differ, else over 9,999 drawn ones, as (k + 1) / (N + 1). With n
    differing pairs p cannot fall below 2 / 2^n: five pairs never reach 0.05.
    """
    pairs = _complete(base, changed)
    n, n_left_out = len(pairs), len(base) - len(pairs)
    differences = pairs[:, 1] - pairs[:, 0]
    differing = differences[differences != 0]
    exact = len(differing) <= EXACT_PAIRS
    test = "exact sign flips" if exact else f"{N_PERMUTATIONS} sign flips"
    if not n:
        return Paired(0, n_left_out, math.nan, *UNKNOWN, math.nan, test)
    if not np.isfinite(differences).all():
        raise ValueError("a difference of a pair is infinite; expected finite numbers or None")
    if exact:
        sums = np.zeros(1)
        for difference in differing:
            sums = np.concatenate([sums + difference, sums - difference])
    else:
        rng = np.random.default_rng(seed_for("sign flips", seed))
        sums = rng.choice((-1.0, 1.0), size=(N_PERMUTATIONS, len(differing))) @ differing
    # The tolerance keeps sums that differ only in the order they were added in from counting as less.
    as_far = int((np.abs(sums) >= abs(differing.sum()) - 1e-9 * np.abs(differing).sum()).sum())
    p = as_far / len(sums) if exact else (as_far + 1) / (len(sums) + 1)
    return Paired(n, n_left_out, float(differences.mean()), *bootstrap_mean(differences, seed=seed), p, test)


def detectable(n: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest difference of two paired shares that McNemar's test at level `alpha` finds with this power in `n`
    pairs, of which a share `discordant` differs; NaN where no difference is large enough.

    δ n^½ = z_{α/2} ψ^½ + z_power (ψ − δ²)^½, ψ being the share of pairs that differ, which is δ at least. Source:
    Connor (1987), Biometrics 43, 207.
    """
    if not n:
        return math.nan
    normal = NormalDist()
    at_level, at_power = normal.inv_cdf(1 - alpha / 2), normal.inv_cdf(power)

    def is_found(size: float) -> bool:
        share = max(discordant, size)
        spread = max(share - size**2, 0.0)
        return size * math.sqrt(n) >= at_level * math.sqrt(share) + at_power * math.sqrt(spread)

    if not is_found(1.0):
        return math.nan
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def _complete(base: Sequence[float | None], changed: Sequence[float | None]) -> np.ndarray:
    """(n, 2) float64: the pairs with both sides known."""
    if len(base) != len(changed):
        raise ValueError(f"pairs need as many values on both sides, got {len(base)} and {len(changed)}")
    values = [
        [math.nan if value is None or pd.isna(value) else float(value) for value in side] for side in (base, changed)
    ]
    pairs = np.array(values, dtype=np.float64).T
    return pairs[~np.isnan(pairs).any(1)]


def _newcombe(both: int, only_base: int, only_changed: int, n: int) -> Interval:
    neither = n - both - only_base - only_changed
    n_base, n_changed = both + only_base, both + only_changed
    p_base, p_changed = n_base / n, n_changed / n
    base, changed = wilson(n_base, n), wilson(n_changed, n)
    margins = n_base * (n - n_base) * n_changed * (n - n_changed)
    covariance = float(both * neither - only_base * only_changed)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)
    phi = covariance / math.sqrt(margins) if margins else 0.0
    below = _added(p_changed - changed.low, base.high - p_base, phi)
    above = _added(changed.high - p_changed, p_base - base.low, phi)
    difference = (only_changed - only_base) / n
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))


def _added(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))
