"""What is left within CoTs: ranks over all chunks, less what their CoT (and covariates) explain, and how x and y go
together there.

Effects of problems and CoTs, whichever way they run, are gone from these scores, so that a law within chains is seen
behind them. Two questions are asked of Σ xᵢ yᵢ, and a law needs a yes to both:

1. Would chance do as well? y's scores are permuted within CoTs. Terms of covariates that were taken out leave y's
   scores too small by their number, and the permuted sums are widened for it.
2. Do the problems agree? Each problem gives the sum of its own chunks, and these sums are tested against 0 by Student's
   t: chunks of a chain that resemble their neighbours, or one problem that carries all of it, cannot pass for many.

Many y may be asked at once, (n_worlds, n): rearrangements of one y within CoTs, as `power` makes them.
"""

import math
from dataclasses import dataclass

import numpy as np

from backend.statistics.permutation import orders
from backend.statistics.resampling import problem_draws


@dataclass(frozen=True)
class Aligned:
    """Scores of the chunks of a sample, whose order they have."""

    x: np.ndarray  # (n,)
    y: np.ndarray  # (n_worlds, n)
    strata: np.ndarray  # (n,) within which y may be permuted, ascending from 0
    problems: np.ndarray  # (n,) ascending from 0
    n_terms: int = 0  # of covariates that were taken out

    @property
    def degrees(self) -> int:
        """Of freedom that are left."""
        return len(self.x) - (int(self.strata[-1]) + 1) - self.n_terms

    @property
    def is_known(self) -> bool:
        """Whether x and y both vary within CoTs. Ranks vary by about n³/12: less than this is rounding."""
        return (
            len(self.x) > 2
            and self.degrees > 2
            and min(self.x @ self.x, float((self.y[0] ** 2).sum())) > 1e-9 * len(self.x) ** 2
        )

    def rho(self) -> np.ndarray:
        """(n_worlds,)"""
        scale = np.sqrt((self.x @ self.x) * (self.y**2).sum(1))
        return np.clip(self.y @ self.x / scale, -1, 1)

    def interval(self, *, n_bootstrap: int, seed: int) -> np.ndarray:
        """(2, n_worlds): bootstrap 95 % interval of rho over problems; ranks are kept as they are in every draw.

        NaN without draws.
        """
        draws = problem_draws(int(self.problems[-1]) + 1, n_bootstrap, seed).astype(np.float64)
        if not len(draws):
            return np.full((2, len(self.y)), np.nan)
        cross, own_y, own_x = (
            self._by_problem(part) @ draws.T for part in (self.x * self.y, self.y**2, self.x[None] ** 2)
        )
        scale = np.sqrt(own_x * own_y)
        rho = np.divide(cross, scale, out=np.full(cross.shape, np.nan), where=scale > 1e-9)
        lost = np.isnan(rho)
        percentile = np.nanpercentile if lost.any() and not lost.all() else np.percentile
        return percentile(rho, [2.5, 97.5], axis=1)

    def permuted(self, *, n_permutations: int, seed: int) -> "Permuted":
        return Permuted.of(self, n_permutations, seed)

    def p_problems(self) -> np.ndarray:
        """(n_worlds,), two-sided: are the problems' own sums 0 on average? NaN for one problem."""
        from scipy.special import stdtr

        sums = self._by_problem(self.x * self.y)
        n = sums.shape[1]
        if n < 2:
            return np.full(len(sums), np.nan)
        error = sums.std(1, ddof=1) / math.sqrt(n)
        t = np.divide(np.abs(sums.mean(1)), error, out=np.full(len(sums), np.inf), where=error > 0)
        return 2 * stdtr(n - 1, -t)

    def _by_problem(self, values: np.ndarray) -> np.ndarray:
        """(n_worlds, n_problems) sums."""
        starts = np.flatnonzero(np.diff(self.problems, prepend=-1))
        return np.add.reduceat(values, starts, axis=1)


@dataclass(frozen=True)
class Permuted:
    """x's scores as every permutation deals them, with which any y has its chance:
    Σ xᵢ y_π(i) is a product with them."""

    x: np.ndarray  # (n_permutations, n)
    widened: float  # by which sums are widened for the covariates' terms

    @classmethod
    def of(cls, aligned: Aligned, n_permutations: int, seed: int) -> "Permuted":
        dealt = orders(aligned.strata, n_permutations, seed)
        x = np.empty(dealt.shape)
        np.put_along_axis(x, dealt, np.broadcast_to(aligned.x, dealt.shape), axis=1)
        return cls(x, math.sqrt((aligned.degrees + aligned.n_terms) / aligned.degrees))

    def sums(self, y: np.ndarray) -> np.ndarray:
        """(n_permutations, n_worlds)"""
        return self.x @ y.T * self.widened

    def p(self, found: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_worlds,), two-sided, of the sums `found`: (k + 1) / (N + 1). NaN without permutations."""
        if not len(self.x):
            return np.full(len(found), np.nan)
        tolerance = 1e-12 * np.sqrt((self.x[0] ** 2).sum() * (y**2).sum(1))
        as_far = (np.abs(self.sums(y)) >= np.abs(found) - tolerance).sum(0)
        return (as_far + 1) / (len(self.x) + 1)


def less_mean(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """`values` (…, n) less their stratum's mean."""
    starts = np.flatnonzero(np.diff(strata, prepend=-1))
    return values - (np.add.reduceat(values, starts, axis=-1) / np.bincount(strata))[..., strata]
