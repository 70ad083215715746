"""Rollouts of chains whose counterfactual importances are known: each chunk is kept token for token, said in other
words, or replaced by another one, which moves the answers by a planted divergence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.importance.allocation import Wanted, first_batch, next_batches
from backend.importance.conventions import ANOTHER, CONVENTIONS, REACHING_AFTER, Sides
from backend.importance.estimates import Estimate, estimator_at, grouped
from backend.importance.jsd import divergence
from tests.planted_answers import mixed_to, shares

PLANTED = (0.0, 0.0, 0.03, 0.1, 0.2, 0.35)
COLUMNS = [
    "chunk_id",
    "kind",
    "sample",
    "similarity",
    "answer_cluster",
    "is_correct",
    "resampled_chunk",
    "n_kept",
    "departing_similarity",
]


@dataclass(frozen=True)
class Chain:
    truths: tuple[float, ...]  # of every chunk but the last
    kept: tuple[float, ...]  # shares of the rollouts at a chunk
    replaced: tuple[float, ...]
    answers: tuple[np.ndarray, ...]  # of the rollouts at a chunk
    other: tuple[np.ndarray, ...]  # of those that replace it
    seed: int

    @property
    def ids(self) -> list[str]:
        return [f"c{number}" for number in range(len(self.answers))]

    def rollout(self, position: int, number: int) -> tuple:
        rng = np.random.default_rng((self.seed, position, number))
        at = position
        while at < len(self.truths) and rng.random() < self.kept[at]:
            at += 1
        near, answers = 0.9, self.answers[min(at + 1, len(self.truths))]
        if at < len(self.truths) and rng.random() < self.replaced[at] / (1 - self.kept[at]):
            near, answers = 0.1, self.other[at]
        answer, n_kept = str(rng.choice(len(answers), p=answers)), at - position
        first, departing = (0.95, near) if n_kept else (near, None)
        return f"c{position}", "resample", number, first, answer, None, "So.", n_kept, departing


def chain(seed: int, n_chunks: int = 6) -> Chain:
    rng = np.random.default_rng((seed, 1))
    n_outcomes = int(rng.integers(2, 9))
    answers, other = [shares(n_outcomes, rng)], []
    truths = rng.choice(PLANTED, n_chunks - 1).tolist()
    kept, replaced = [], []
    for position in reversed(range(n_chunks - 1)):
        found = mixed_to(answers[0], truths[position], rng)
        if found is None:
            truths[position], found = 0.0, answers[0]
        kept.insert(0, float(rng.uniform(0.1, 0.7)))
        replaced.insert(0, float(rng.uniform(0.3, 0.9)) * (1 - kept[0]))
        other.insert(0, found)
        answers.insert(0, replaced[0] * found + (1 - replaced[0]) * answers[0])
    assert all(abs(divergence(a, b) - t) < 1e-6 for a, b, t in zip(other, answers[1:], truths, strict=True))
    return Chain(tuple(truths), tuple(kept), tuple(replaced), tuple(answers), tuple(other), seed)


@dataclass(frozen=True)
class Known:
    truth: float
    found: Estimate

    @property
    def holds(self) -> bool:
        return self.found.interval.low <= self.truth <= self.found.interval.high

    @property
    def width(self) -> float:
        return self.found.interval.high - self.found.interval.low


def table(of: Chain, numbers: Mapping[str, int]) -> pd.DataFrame:
    rows = [of.rollout(at, number) for at, chunk in enumerate(of.ids) for number in range(numbers[chunk])]
    return pd.DataFrame(rows, columns=COLUMNS)


def allocated(of: Chain, wanted: Wanted) -> dict[str, int]:
    """Rollouts at each chunk when none is worth more."""
    numbers = dict.fromkeys(of.ids, first_batch(wanted))
    while more := next_batches(table(of, numbers), of.ids, numbers, wanted):
        numbers = {chunk: n + more.get(chunk, 0) for chunk, n in numbers.items()}
    return numbers


def known(of: Chain, rollouts: pd.DataFrame) -> list[Known]:
    """Of each chunk but the last, where it is known."""
    groups, how = grouped(rollouts), CONVENTIONS["jsd"]
    n_outcomes = int(rollouts["answer_cluster"].nunique())
    found = []
    for position, truth in enumerate(of.truths):
        at = estimator_at(groups, of.ids, position, n_bootstrap=1, n_outcomes=n_outcomes)
        rng = np.random.default_rng((of.seed, position))
        found.append(Known(truth, at.jsd(Sides(ANOTHER, (REACHING_AFTER,)), how, rng)))
    return [one for one in found if np.isfinite(one.found.value)]


def tokens(of: Chain, numbers: Mapping[str, int]) -> int:
    """In chunks: a rollout writes as many as are left."""
    return sum(numbers[chunk] * (len(of.ids) - at) for at, chunk in enumerate(of.ids))
