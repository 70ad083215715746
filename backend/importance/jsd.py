"""Jensen–Shannon divergence of the answers of two groups of rollouts, in nats (at most ln 2), from few rollouts.

The method, for the counts of K outcomes in the groups P and Q:

1. Prior: Dirichlet, ½ for every outcome (Jeffreys). K are the outcomes of the problem, not of the two groups: an answer
   that neither gave may still come.
2. Posterior mean of JSD = H((P + Q)/2) − (H(P) + H(Q))/2. The means of H(P) and H(Q) are closed (Wolpert and Wolf
   1995); that of H((P + Q)/2) is a sum over outcomes of E[−m ln m], m the mean of two independent betas: a quadrature.
3. Sampling noise makes any divergence positive. So what the posterior mean is when the rollouts are dealt to the two
   groups anew, on average over all deals, is taken off: the estimate may lie below 0. The posterior mean is a sum over
   outcomes, and the count of one outcome dealt anew is hypergeometric, so this average is exact.
4. p is the chance that a deal's posterior mean is at least that found: summed over all tables of counts where they are
   few, else (k + 1) / (N + 1) of N deals drawn.
5. The interval runs from the 2.5th percentile of the posterior of JSD, less the average of step 3, to the 97.5th
   percentile as it is. Near 0 the posterior lies too high by what chance gives, far from 0 it does not (there the prior
   pulls it down): the interval holds the truth either way. `benchmarks/jsd_coverage.py` says how often.

The posterior of a number that is never negative never holds 0, and the interval's lower end is below 0 for other
reasons: neither decides whether there is an effect. p does.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from backend.statistics.intervals import Interval, bootstrap_percentile

PRIOR = 0.5  # of every outcome
_NODES = 24
_DRAWS = 2000  # of the posterior
_DEALS = 9999
_FEW = 4096  # tables of counts: so many are all looked at
_TOLERANCE = 1e-9  # deals of the same counts, the outcomes exchanged, are as far


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """JSD of probabilities along the last axis, nats."""
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


@dataclass(frozen=True)
class Sizes:
    """What a term of the posterior mean depends on beside the counts of its outcome."""

    n_p: int
    n_q: int
    n_outcomes: int

    def terms(self, p_counts: np.ndarray, q_counts: np.ndarray) -> np.ndarray:
        """What outcomes bring to the posterior mean of JSD, of their counts on either side; arrays of one shape."""
        x, of_x = (rule[p_counts] for rule in _rule(self.n_p, self.n_outcomes))
        y, of_y = (rule[q_counts] for rule in _rule(self.n_q, self.n_outcomes))
        m = (x[..., :, None] + y[..., None, :]) / 2
        mixed = np.einsum("...i,...ij,...j->...", of_x, -m * np.log(m), of_y)
        return mixed - (self._apart(p_counts, self.n_p) + self._apart(q_counts, self.n_q)) / 2

    def _apart(self, counts: np.ndarray, n: int) -> np.ndarray:
        """E[−p ln p] of a share p with a beta posterior."""
        from scipy.special import digamma

        total = n + self.n_outcomes * PRIOR
        return (counts + PRIOR) / total * (digamma(total + 1) - digamma(counts + PRIOR + 1))


@functools.lru_cache(maxsize=512)
def _rule(n: int, n_outcomes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Jacobi nodes in (0, 1) and weights, each (n + 1, nodes): of the posterior of the share of an outcome that
    0 … n of n rollouts gave.

    From the eigenvalues of the three-term recurrence (Golub and Welsch 1969): nothing overflows at large counts.
    """
    a = np.arange(n + 1)[:, None] + PRIOR
    b = n + n_outcomes * PRIOR - a
    k = np.arange(1, _NODES)
    s = a + b - 2  # a − 1 and b − 1 are the exponents
    two = 2 * k + s
    centre = np.concatenate([(a - b) / (s + 2), (a - b) * s / (two * (two + 2))], axis=1)
    product = k * (k + a - 1) * (k + b - 1)
    # (k + s) / (two − 1) is 1 at k = 1 whatever s is, also where both are 0.
    ratio = np.where(k == 1, 1.0, (k + s) / np.where(k == 1, 1.0, two - 1))
    beside = np.sqrt(4 * product * ratio / (two**2 * (two + 1)))
    matrix = np.zeros((n + 1, _NODES, _NODES))
    matrix[:, np.arange(_NODES), np.arange(_NODES)] = centre
    matrix[:, k, k - 1] = beside  # the lower half is read
    nodes, vectors = np.linalg.eigh(matrix)
    return np.clip((1 + nodes) / 2, 1e-300, 1), vectors[:, 0] ** 2


@dataclass(frozen=True)
class Divergence:
    value: float  # posterior mean less `by_chance`; may be below 0
    by_chance: float  # the posterior mean, on average over deals
    tables: "Tables"
    counts: np.ndarray  # (2, outcomes seen), of P and of Q

    def p(self, rng: np.random.Generator) -> float:
        """Of a permutation: small where the groups differ."""
        return self.tables.p(self.counts[0], rng)

    def interval(self, rng: np.random.Generator) -> Interval:
        """95 %, for JSD itself."""
        unseen = self.tables.sizes.n_outcomes - self.counts.shape[1]
        alpha = PRIOR + np.pad(self.counts, ((0, 0), (0, unseen)))
        p, q = (drawn / drawn.sum(-1, keepdims=True) for drawn in rng.standard_gamma(alpha[:, None], _shape(alpha)))
        low, high = bootstrap_percentile(divergence(p, q))
        return Interval(low - self.by_chance, high)


def _shape(alpha: np.ndarray) -> tuple[int, int, int]:
    return len(alpha), _DRAWS, alpha.shape[1]


def jensen_shannon(p_counts: np.ndarray, q_counts: np.ndarray, n_outcomes: int) -> Divergence:
    """Of counts of the same outcomes; neither side is empty. `n_outcomes` counts those that neither gave too; where all
    rollouts of the problem agree, a second one still may come.
    """
    counts = np.array([p_counts, q_counts])
    counts = counts[:, counts.sum(0) > 0]
    n_p, n_q = map(int, counts.sum(1))
    sizes = Sizes(n_p, n_q, max(n_outcomes, counts.shape[1], 2))
    tables = Tables.of(sizes, counts.sum(0))
    # What outcomes that nobody gave bring is the same in every deal.
    by_chance = tables.by_chance + (sizes.n_outcomes - counts.shape[1]) * _unseen(sizes)
    value = float(tables.sum(counts[0][None])[0]) - tables.by_chance
    return Divergence(value if abs(value) > _TOLERANCE else 0.0, by_chance, tables, counts)


@dataclass(frozen=True)
class Tables:
    """All ways to deal the rollouts of outcomes that were given `totals` times to groups of two sizes."""

    sizes: Sizes
    totals: np.ndarray
    fewest: np.ndarray  # of an outcome in P
    terms: tuple[np.ndarray, ...]  # by outcome, of fewest, fewest + 1, … in P
    by_chance: float

    @staticmethod
    def of(sizes: Sizes, totals: np.ndarray) -> "Tables":
        own = [_dealt(sizes, total) for total in totals.tolist()]
        fewest = np.maximum(0, totals - sizes.n_q)
        return Tables(sizes, totals, fewest, tuple(terms for terms, _ in own), sum(expected for _, expected in own))

    def sum(self, in_p: np.ndarray) -> np.ndarray:
        """The posterior means, but for outcomes that nobody gave, of deals (deals, outcomes)."""
        return sum(own[column] for own, column in zip(self.terms, (in_p - self.fewest).T, strict=True))

    def p(self, in_p: np.ndarray, rng: np.random.Generator) -> float:
        found = self.sum(in_p[None])[0] - _TOLERANCE
        if math.prod(map(len, self.terms[:-1])) <= _FEW:
            deals, chances = self._all()
            return float(min(1.0, chances[self.sum(deals) >= found].sum()))
        deals = rng.multivariate_hypergeometric(self.totals, self.sizes.n_p, size=_DEALS, method="marginals")
        return float((1 + (self.sum(deals) >= found).sum()) / (_DEALS + 1))

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        """Every deal and its chance."""
        from scipy.special import gammaln

        ranges = [start + np.arange(len(own)) for start, own in zip(self.fewest, self.terms[:-1], strict=False)]
        first = (
            np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(ranges))
            if ranges
            else np.zeros((1, 0), int)
        )
        deals = np.column_stack([first, self.sizes.n_p - first.sum(1)])
        deals = deals[(deals[:, -1] >= self.fewest[-1]) & (deals[:, -1] < self.fewest[-1] + len(self.terms[-1]))]
        chances = -(gammaln(deals + 1) + gammaln(self.totals - deals + 1)).sum(1)
        chances = np.exp(chances - chances.max())
        return deals, chances / chances.sum()


@functools.lru_cache(maxsize=16384)
def _unseen(sizes: Sizes) -> float:
    """What an outcome that nobody gave brings."""
    return float(sizes.terms(*np.zeros((2, 1), int))[0])


@functools.lru_cache(maxsize=16384)  # subsets and replicates of a chunk's rollouts ask for the same again and again
def _dealt(sizes: Sizes, total: int) -> tuple[np.ndarray, float]:
    """Of an outcome given `total` times: its terms by how often it is in P, from the fewest on; and their mean over
    deals.
    """
    from scipy.stats import hypergeom

    here = np.arange(max(0, total - sizes.n_q), min(total, sizes.n_p) + 1)
    terms = sizes.terms(here, total - here)
    return terms, float(terms @ hypergeom.pmf(here, sizes.n_p + sizes.n_q, total, sizes.n_p))
