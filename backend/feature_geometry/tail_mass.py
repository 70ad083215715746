"""How sure a tail mass is: the share of a set's pairs whose |cosine| exceeds a threshold.

Pairs share rows, so their number is not the sample size: rows are. The share is a U-statistic of the rows, with the
kernel h_ij = [|cos_ij| > t]. Of independent rows its variance is

    Var U = (4(n − 2) ζ₁ + 2 ζ₂) / (n(n − 1)),   ζ₁ = Cov(h₁₂, h₁₃),   ζ₂ = Var(h₁₂)

(Hoeffding 1948). Both follow without bias from the number N of exceeding pairs and each row's own number r_i of them:
N² = N + A + D counts ordered pairs of exceeding pairs that are the same, share one row (A = Σ r_i(r_i − 1)) or share
none (D), and D over the number of such disjoint pairs estimates P². Isotropic rows have ζ₁ = 0: exceeding pairs then
count like independent ones. Clustered rows have much more, and the interval widens.

The interval is Clopper and Pearson's at the number of independent pairs that would have this variance (Korn and
Graubard 1998): it stays within 0 and 1, and says how little is known where no pair exceeds.

Two sets are compared by the ratio of their masses, with a delete-a-group jackknife over rows (by number, modulo
GROUPS): of sets whose rows correspond (the neurons of a model and of its tuned copy) the same rows are left out of
both, so that what they share cancels.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student

LEVEL = 0.95


@dataclass(frozen=True)
class Mass:
    share: float
    low: float
    high: float
    design_effect: float  # variance over that of as many independent pairs


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Grouped:
    """A tail mass by groups of rows."""

    n: int  # pairs beyond
    touching: np.ndarray  # of them, those with a row of each group
    group_rows: np.ndarray

    def log_masses(self) -> np.ndarray | None:
        """ln of the mass without each group; None where one of them is 0, or has no pairs."""
        rows = self.group_rows.sum() - self.group_rows
        pairs, left = rows * (rows - 1) / 2, self.n - self.touching
        return None if (left <= 0).any() or (pairs <= 0).any() else np.log(left / pairs)

    @property
    def log_mass(self) -> float:
        rows = int(self.group_rows.sum())
        return math.log(self.n / (rows * (rows - 1) / 2))


def mass(n_beyond: int, degrees: np.ndarray) -> Mass | None:
    """The share of pairs beyond, with its 95 % interval; None of fewer than four rows, of which nothing is known."""
    n_rows = len(degrees)
    if n_rows < 4:
        return None
    n_pairs = n_rows * (n_rows - 1) // 2
    effect = design_effect(n_beyond, degrees)
    low, high = _binomial(n_beyond / effect, n_pairs / effect)
    return Mass(n_beyond / n_pairs, low, high, effect)


def design_effect(n_beyond: int, degrees: np.ndarray) -> float:
    """Variance of the share over that of independent pairs: 1 where nothing exceeds, or where rows say no more."""
    n, beyond = len(degrees), int(n_beyond)
    if beyond == 0:
        return 1.0
    pairs = n * (n - 1) // 2
    sharing = int((degrees.astype(object) * (degrees.astype(object) - 1)).sum())
    square = (beyond * beyond - beyond - sharing) / (pairs * ((n - 2) * (n - 3) // 2))  # of P², without bias
    one = max(0.0, sharing / (n * (n - 1) * (n - 2)) - square)
    both = beyond / pairs - square
    return 1.0 if both <= 0 else 1 + 2 * (n - 2) * one / both


def ratio(one: Grouped, other: Grouped, *, paired: bool) -> Ratio | None:
    """Mass of `one` over that of `other`, with its 95 % interval; `paired` where row k of one is row k of the other.

    None where either has none beyond the threshold, or none without one of the groups.
    """
    if one.n == 0 or other.n == 0:
        return None
    first, second = one.log_masses(), other.log_masses()
    if first is None or second is None:
        return None
    groups = len(first)
    spread = _jackknife(first - second) if paired else _jackknife(first) + _jackknife(second)
    half = float(student.ppf((1 + LEVEL) / 2, groups - 1)) * math.sqrt(spread)
    middle = one.log_mass - other.log_mass
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _jackknife(without: np.ndarray) -> float:
    """The variance of an estimate from what it is without each group."""
    n = len(without)
    return float((n - 1) / n * np.square(without - without.mean()).sum())


def _binomial(count: float, n: float) -> tuple[float, float]:
    """The interval of a share, after numbers that need not be whole."""
    tail, left = (1 - LEVEL) / 2, n - count
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, left + 1))
    return low, 1.0 if left <= 0 else float(beta.ppf(1 - tail, count + 1, left))
