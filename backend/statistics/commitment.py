"""Where along a chain a curve changes once, if it does: one Bayesian change point with exact marginal likelihoods.

The method in steps:

1. The curve is known at points in order; a point where nothing was measured takes no part. The change lies in one of
   the gaps between neighbouring known points, each as likely as any other beforehand.
2. Within a side of the gap the curve is one law. Counts of outcomes are multinomial, their shares Dirichlet with
   α = ½ for each outcome (with two outcomes: Beta(½, ½)). Values are Normal about one mean, with the same variance on
   both sides; the mean is flat, the variance inverse-gamma, the step between the sides Normal in units of the standard
   deviation (`NormalPrior`).
3. Both marginal likelihoods are exact, with a change in each gap and without any. Their ratio, averaged over the gaps,
   is the Bayes factor of one change against none; each gap's part of it is its posterior, given that there is a change.
4. A change counts as known from a factor of KNOWN on. Under no change the mean of the factor is exactly 1, so it is
   known by chance at most once in KNOWN times, and in fact more rarely.

A curve that slopes has a large factor too: look at the curve.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln
from scipy.stats import beta

ALPHA = 0.5  # of each outcome
KNOWN = 3.0  # Bayes factor from which on a change is known
CREDIBLE = 0.95

Gap = tuple[int, int]  # the last point before the change, and the first one after it


@dataclass(frozen=True)
class NormalPrior:
    """Of values. The variance is inverse-gamma: `shape`, and `scale` in the square of the values' unit.

    `shape` 1 has a tail that admits far more than the median, which is √(scale / ln 2).
    """

    scale: float
    shape: float = 1.0
    step: float = 5.0  # standard deviation of the step, in standard deviations within a side

    def varied(self) -> "tuple[NormalPrior, ...]":
        """This prior with its step halved and doubled, and its standard deviation halved and doubled."""
        return (
            replace(self, step=self.step / 2),
            replace(self, step=self.step * 2),
            replace(self, scale=self.scale / 4),
            replace(self, scale=self.scale * 4),
        )


@dataclass(frozen=True)
class Change:
    """One change, if there is one (`is_known`)."""

    gaps: tuple[Gap, ...]
    posterior: tuple[float, ...]  # of each gap, given that there is a change
    factor: float  # Bayes factor of one change against none
    before: float  # of the followed outcome's share, or of the values: the mean before the likeliest gap
    after: float  # and after it
    n_points: int  # with anything measured
    n: int  # counts, or values

    @property
    def is_known(self) -> bool:
        return self.factor >= KNOWN

    @property
    def likeliest(self) -> Gap:
        """The first of the likeliest gaps."""
        return self.gaps[int(np.argmax(self.posterior))]

    @property
    def rises(self) -> bool:
        return self.after > self.before

    @property
    def credible(self) -> tuple[Gap, ...]:
        """The smallest set of gaps that holds CREDIBLE of the posterior, in their order; of two as likely the first."""
        order = np.argsort(-np.asarray(self.posterior), kind="stable")
        n_needed = int((np.cumsum(np.asarray(self.posterior)[order]) < CREDIBLE - 1e-12).sum()) + 1
        return tuple(self.gaps[k] for k in sorted(order[:n_needed]))


@dataclass(frozen=True)
class Share:
    """The posterior of an outcome's share: Dirichlet with ALPHA for each outcome."""

    mean: float
    low: float  # the central 95 %
    high: float


def change_of_counts(counts: np.ndarray, *, followed: int = 0) -> Change | None:
    """The change of outcomes counted at each point, (n_points, n_outcomes); None where fewer than two points have any.

    `followed` is the outcome whose share `before` and `after` give, as posterior means.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or (table < 0).any():
        raise ValueError(f"counts are (n_points, n_outcomes), none below 0; got shape {table.shape}")
    points = np.flatnonzero(table.sum(1) > 0)
    if len(points) < 2:
        return None
    before = np.cumsum(table[points], axis=0)[:-1]
    total = table.sum(0)
    split = _log_marginal(before) + _log_marginal(total - before)
    at = int(np.argmax(split))
    sides = before[at], total - before[at]
    shares = [(side[followed] + ALPHA) / (side.sum() + ALPHA * len(side)) for side in sides]
    return _change(points, split - _log_marginal(total), (float(shares[0]), float(shares[1])), int(total.sum()))


def change_of_values(values: Sequence[float] | np.ndarray, prior: NormalPrior) -> Change | None:
    """The change of one value a point; NaN takes no part. None where fewer than two are known."""
    every = np.asarray(values, dtype=np.float64)
    if np.isinf(every).any():
        raise ValueError("a value is infinite; expected finite numbers or NaN")
    points = np.flatnonzero(~np.isnan(every))
    y, n = every[points], len(points)
    if n < 2:
        return None
    n_before = np.arange(1, n)
    means_before = np.cumsum(y)[:-1] / n_before
    means_after = (y.sum() - np.cumsum(y)[:-1]) / (n - n_before)
    weight = n_before * (n - n_before) / n
    shrunk = prior.step**2 * weight / (1 + prior.step**2 * weight)
    spread = float(((y - y.mean()) ** 2).sum())
    left = spread - shrunk * weight * (means_after - means_before) ** 2
    power = prior.shape + (n - 1) / 2
    factors = power * (math.log(prior.scale + spread / 2) - np.log(prior.scale + left / 2)) + np.log1p(-shrunk) / 2
    at = int(np.argmax(factors))
    return _change(points, factors, (float(means_before[at]), float(means_after[at])), n)


def factors_under_other_priors(values: Sequence[float] | np.ndarray, prior: NormalPrior) -> tuple[float, float]:
    """The smallest and the largest Bayes factor of these values under the prior and its variations."""
    priors = (prior, *prior.varied())
    found = [change.factor for prior in priors if (change := change_of_values(values, prior)) is not None]
    return (min(found), max(found)) if found else (math.nan, math.nan)


def share(counts: Sequence[float], outcome: int = 0) -> Share:
    """Of `outcome` among `counts`, (n_outcomes,); with no counts it is the prior's."""
    table = np.asarray(counts, dtype=np.float64)
    own, rest = table[outcome] + ALPHA, table.sum() - table[outcome] + ALPHA * (len(table) - 1)
    if len(table) == 1:
        return Share(1.0, 1.0, 1.0)
    low, high = beta.ppf([(1 - CREDIBLE) / 2, (1 + CREDIBLE) / 2], own, rest)
    return Share(float(own / (own + rest)), float(low), float(high))


def _log_marginal(counts: np.ndarray) -> np.ndarray:
    """Log-probability (…) of outcomes in the order in which they came, of their counts (…, n_outcomes), with the shares
    integrated out.
    """
    n_outcomes = counts.shape[-1]
    each = gammaln(counts + ALPHA).sum(-1) - n_outcomes * gammaln(ALPHA)
    found: np.ndarray = each + gammaln(ALPHA * n_outcomes) - gammaln(counts.sum(-1) + ALPHA * n_outcomes)
    return found


def _change(points: np.ndarray, log_factors: np.ndarray, means: tuple[float, float], n: int) -> Change:
    """Of the log Bayes factor of a change in each gap between `points` against none."""
    total = float(np.logaddexp.reduce(log_factors))
    gaps = tuple((int(a), int(b)) for a, b in itertools.pairwise(points))
    posterior = tuple(float(part) for part in np.exp(log_factors - total))
    factor = math.exp(min(total - math.log(len(gaps)), _LARGEST))
    return Change(gaps, posterior, factor, *means, len(points), n)


_LARGEST = 700.0  # of the factor's logarithm: beyond it a float64 overflows
