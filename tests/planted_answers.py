"""Answers of two groups of rollouts whose true divergence is known: 2 to 20 outcomes, Zipf-like shares or shares drawn
from a Dirichlet distribution.
"""

from dataclasses import dataclass

import numpy as np

from backend.importance.jsd import divergence, jensen_shannon

TRUTHS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5)
SIZES = ((5, 5), (10, 10), (10, 40), (20, 20), (20, 80), (50, 50), (100, 100))
_OTHER_ROLLOUTS = 200  # of the problem: which outcomes it has is known from these too


@dataclass(frozen=True)
class Measured:
    truth: float
    value: float
    low: float
    high: float
    p: float

    @property
    def holds(self) -> bool:
        return self.low <= self.truth <= self.high


def measured(truth: float, n_p: int, n_q: int, rng: np.random.Generator) -> Measured:
    """What the metric says of two groups of these sizes, drawn from two distributions that are `truth` apart."""
    p, q = _distributions(truth, rng)
    p_counts, q_counts = rng.multinomial(n_p, p), rng.multinomial(n_q, q)
    others = rng.multinomial(_OTHER_ROLLOUTS, (p + q) / 2)
    found = jensen_shannon(p_counts, q_counts, int((p_counts + q_counts + others > 0).sum()))
    return Measured(truth, found.value, *found.interval(rng), found.p(rng))


def _distributions(truth: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The second is the first mixed with another one, with as much of it as makes their JSD `truth`."""
    while True:
        p = shares(int(rng.integers(2, 21)), rng)
        if (q := mixed_to(p, truth, rng, tries=1)) is not None:
            return p, q


def mixed_to(p: np.ndarray, truth: float, rng: np.random.Generator, tries: int = 20) -> np.ndarray | None:
    """`p` mixed with another distribution so that the two are `truth` apart; None where none found is as far."""
    if truth == 0:
        return p
    for _ in range(tries):
        other = shares(len(p), rng)
        if divergence(p, other) < truth:
            continue
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if divergence(p, p + middle * (other - p)) > truth else (middle, high)
        return p + high * (other - p)
    return None


def shares(n_outcomes: int, rng: np.random.Generator) -> np.ndarray:
    kind = rng.integers(3)
    if kind:
        return rng.dirichlet(np.full(n_outcomes, (0.3, 1.0)[kind - 1]))
    zipf = np.arange(1, n_outcomes + 1) ** -rng.uniform(0.5, 2.0)
    return rng.permutation(zipf / zipf.sum())
