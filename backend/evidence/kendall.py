"""Kendall's tau-b with its bootstrap over problems.

Over all pairs of chunks, tau-b is Σ sign(xᵢ − xⱼ) sign(yᵢ − yⱼ) over the geometric mean of the numbers of pairs untied
in x and in y. In a draw a pair counts wᵢ wⱼ times, so the three sums are needed once for each two problems, and every
draw is a product with these.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.evidence.sample import Sample
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.resampling import problem_draws


@dataclass(frozen=True)
class Kendall:
    """NaN where x or y is constant; the interval also for one problem."""

    tau: float
    low: float  # bootstrap 95 % interval over problems
    high: float


NO_TAU = Kendall(math.nan, math.nan, math.nan)


def kendall(sample: Sample, *, n_bootstrap: int, seed: int) -> Kendall:
    sums = _pair_sums(sample)
    tau = float(_tau(sums, np.ones((1, sample.n_problems)))[0]) if len(sample) else math.nan
    draws = problem_draws(sample.n_problems, n_bootstrap, seed)
    interval = bootstrap_percentile(_tau(sums, draws)) if len(draws) and not math.isnan(tau) else UNKNOWN
    return Kendall(tau, *interval)


def _pair_sums(sample: Sample) -> np.ndarray:
    """(3, n_problems, n_problems) over the pairs of chunks of two problems: agreement in order, pairs untied in x, and
    untied in y.
    """
    n_problems = sample.n_problems
    starts = np.searchsorted(sample.problems, np.arange(n_problems + 1))
    sums = np.zeros((3, n_problems, n_problems))
    for problem in range(n_problems):
        own = slice(starts[problem], starts[problem + 1])
        signs_x, signs_y = (np.sign(values[own, None] - values) for values in (sample.x, sample.y))
        for which, signs in enumerate((signs_x * signs_y, np.abs(signs_x), np.abs(signs_y))):
            sums[which, problem] = np.add.reduceat(signs.sum(0), starts[:-1])
    return sums


def _tau(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n_draws,) of weights (n_draws, n_problems); NaN where x or y is constant among the chunks drawn."""
    agreement, untied_x, untied_y = (((weights @ matrix) * weights).sum(1) for matrix in sums)
    scale = np.sqrt(untied_x * untied_y)
    return np.divide(agreement, scale, out=np.full(len(weights), np.nan), where=scale > 0)
