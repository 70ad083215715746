"""Heads whose attention narrows on a few chunks of a chain: receiver heads (Thought Anchors, its white-box part).

1. What a chunk *receives* in a head is the mean of its attention from the chunks at least `nearest` later
   (backend/influence/attention.py says what a pair's attention is). In the code of Thought Anchors `nearest` is 4: for
   chunk i, targets count from i + 4 on. The last `nearest` chunks receive nothing so, and are unknown, not 0.
2. A head's *kurtosis* in a chain is Fisher's (a normal has 0; no correction for few values, as in the code) of what the
   chain's chunks receive; over chains it is averaged. One chunk that gets much more than the others makes it large.
3. *Shuffled*: at each distance, what pairs get is dealt anew among the pairs of that chain at that distance. That keeps
   how attention falls with distance, and takes away that the same chunk gets much from many.
4. *Placed*: each pair gets the mean of the head over pairs of *other problems* at such a distance, such a place of the
   source and such lengths of both (thirds). A head that looks at first sentences, or at short ones, has a large
   kurtosis by that alone.

With m chunks that receive, kurtosis is at most m − 5 + 1/(m − 1): of two values it is always −2, of three always −1.5,
whatever they are. From four on it can tell; planted heads are found from there (tests), the sooner the longer the
chains. What differs from the code: the prompt is read, but its sentences are none of the chunks here; layer 0 is kept.

What it cannot say: that a receiver head does anything. Kurtosis is of where a head looks, over chains of which most
have few chunks; and its values of short and long chains are averaged as if they were of one scale, though the bound
above moves with length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import rankdata

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, bootstrap_percentile
from backend.statistics.permutation import orders
from backend.statistics.resampling import problem_draws, spearman

LEAST = 4  # chunks that receive, for a kurtosis
SPLITS = 20  # of the problems into halves
_LEAST_PROBLEMS = 4  # for halves, and for an interval
_FEW = 5  # pairs of other problems, below which fewer things are asked to be alike
_NUMBERS = 20_000_000  # held at once


@dataclass(frozen=True, eq=False)
class Chain:
    """One CoT as one model reads it."""

    cot_id: str
    problem_id: str
    n_tokens: np.ndarray  # (n_chunks,)
    by_head: np.ndarray  # (n_heads, n_chunks, n_chunks): all layers' heads; target, source; later sources are not read

    @property
    def n_chunks(self) -> int:
        return len(self.n_tokens)


@dataclass(frozen=True, eq=False)
class Receivers:
    """One number a head, of all layers' heads in order; unknown is NaN."""

    kurtosis: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shuffled: np.ndarray
    shuffled_low: np.ndarray
    shuffled_high: np.ndarray
    placed: np.ndarray
    n_cots: np.ndarray
    n_problems: np.ndarray

    @cached_property
    def rank(self) -> np.ndarray:
        """1 for the largest kurtosis; NaN where it is unknown."""
        return np.where(
            np.isnan(self.kurtosis), np.nan, rankdata(-np.nan_to_num(self.kurtosis, nan=-np.inf), "ordinal")
        )


@dataclass(frozen=True)
class Split:
    """The problems in two halves."""

    spearman: float
    shared: int
    top: int
    by_chance: float
    n_cots_a: int
    n_cots_b: int


def long_enough(chains: Sequence[Chain], nearest: int) -> list[Chain]:
    """Those with as many chunks that receive as a kurtosis needs."""
    return [chain for chain in chains if chain.n_chunks - nearest >= LEAST]


def received(by_head: np.ndarray, nearest: int) -> np.ndarray:
    """(n_heads, n_chunks − nearest), of by_head (n_heads, n_chunks, n_chunks) as in Chain."""
    n = by_head.shape[-1]
    return np.stack([by_head[:, source + nearest :, source].mean(1) for source in range(n - nearest)], 1)


def fisher_kurtosis(values: np.ndarray) -> np.ndarray:
    """Over the last axis; NaN where the values are equal, or one is unknown."""
    less = values - values.mean(-1, keepdims=True)
    second = (less**2).mean(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (less**4).mean(-1) / second**2 - 3
    return np.where(second > 1e-20 * (values**2).mean(-1), found, np.nan)


def receivers(
    chains: Sequence[Chain], nearest: int, *, n_bootstrap: int, n_permutations: int, seed: int
) -> Receivers | None:
    """None where no chain is long enough."""
    chains = long_enough(chains, nearest)
    if not chains:
        return None
    own = _kurtoses(chains, nearest)
    problems, of = np.unique([chain.problem_id for chain in chains], return_inverse=True)
    known = ~np.isnan(own)
    counts = np.array([np.bincount(of, column, len(problems)) for column in known.T.astype(float)]).T
    sums = np.array([np.bincount(of, column, len(problems)) for column in np.nan_to_num(own).T]).T
    n_cots, n_problems = known.sum(0), (counts > 0).sum(0)
    draws = problem_draws(len(problems), n_bootstrap, seed).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = (draws @ sums) / (draws @ counts)
    intervals = np.array(
        [
            bootstrap_percentile(column) if n >= _LEAST_PROBLEMS else UNKNOWN
            for column, n in zip(replicates.T, n_problems, strict=True)
        ]
    )
    dealt = _shuffled(chains, nearest, n_permutations, seed)
    quantiles = np.array([bootstrap_percentile(column) for column in dealt.T])
    return Receivers(
        kurtosis=_mean(own),
        low=intervals[:, 0],
        high=intervals[:, 1],
        shuffled=_mean(dealt),
        shuffled_low=quantiles[:, 0],
        shuffled_high=quantiles[:, 1],
        placed=_mean(_placed(chains, nearest)),
        n_cots=n_cots,
        n_problems=n_problems,
    )


def _kurtoses(chains: Sequence[Chain], nearest: int) -> np.ndarray:
    """(n_chains, n_heads)."""
    return np.stack([fisher_kurtosis(received(chain.by_head.astype(float), nearest)) for chain in chains])


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.nansum(values, 0) / known.sum(0)


def _far(n_chunks: int, nearest: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets of the pairs that count, by distance."""
    sources = [np.arange(n_chunks - distance) for distance in range(nearest, n_chunks)]
    targets = [own + distance for distance, own in enumerate(sources, nearest)]
    return np.concatenate(sources), np.concatenate(targets)


def _of_sources(sources: np.ndarray, n: int) -> np.ndarray:
    """(n_pairs, n): what pairs get, times this, is what their n sources receive."""
    member = sources[:, None] == np.arange(n)
    return member / member.sum(0)


def _shuffled(chains: Sequence[Chain], nearest: int, n_permutations: int, seed: int) -> np.ndarray:
    """(n_permutations, n_heads): mean kurtosis over chains of each deal."""
    n_heads = len(chains[0].by_head)
    total, count = np.zeros((2, n_permutations, n_heads))
    for chain in chains:
        sources, targets = _far(chain.n_chunks, nearest)
        values, means = chain.by_head[:, targets, sources].astype(float), _of_sources(sources, chain.n_chunks - nearest)
        dealt = orders(targets - sources - nearest, n_permutations, seed_for("receivers", chain.cot_id, seed))
        block = max(1, _NUMBERS // max(values.size, 1))
        for start in range(0, n_permutations, block):
            some = slice(start, start + block)
            found = fisher_kurtosis(values[:, dealt[some]] @ means).T  # (n_deals, n_heads)
            total[some] += np.nan_to_num(found)
            count[some] += ~np.isnan(found)
    with np.errstate(invalid="ignore"):
        return total / count


def _placed(chains: Sequence[Chain], nearest: int) -> np.ndarray:
    """(n_chains, n_heads): kurtosis of what place and length give; NaN where there is no other problem."""
    pairs = [_far(chain.n_chunks, nearest) for chain in chains]
    values = np.concatenate(
        [chain.by_head[:, targets, sources].T for chain, (sources, targets) in zip(chains, pairs, strict=True)]
    ).astype(float)
    sources, targets = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    source_tokens, target_tokens = (
        np.concatenate([chain.n_tokens[own[side]] for chain, own in zip(chains, pairs, strict=True)]) for side in (0, 1)
    )
    problem = np.unique([chain.problem_id for chain in chains], return_inverse=True)[1]
    problem = np.repeat(problem, [len(own) for own, _ in pairs])
    alike = np.stack([_steps(targets - sources), _steps(sources + 1), _third(source_tokens), _third(target_tokens)], 1)
    found = np.full(values.shape, math.nan)
    for n_alike in range(alike.shape[1], -1, -1):
        left = np.isnan(found[:, 0])
        if left.any():
            usual, n = _mean_elsewhere(alike[:, :n_alike], problem, values)
            enough = left & (n >= (_FEW if n_alike else 1))
            found[enough] = usual[enough]
    starts = np.cumsum([len(own) for own, _ in pairs])[:-1]
    return np.stack(
        [
            fisher_kurtosis(own.T @ _of_sources(far, chain.n_chunks - nearest))
            for chain, own, (far, _) in zip(chains, np.split(found, starts), pairs, strict=True)
        ]
    )


def _mean_elsewhere(alike: np.ndarray, problem: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pair the mean of `values` over pairs of other problems with the same row of `alike`, and how many."""
    cell = np.unique(alike, axis=0, return_inverse=True)[1].ravel() if alike.shape[1] else np.zeros(len(values), int)
    _, own = np.unique(cell * (problem.max() + 1) + problem, return_inverse=True)

    def summed(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = csr_array((np.ones(len(code)), (code, np.arange(len(code))))) @ values
        return sums[code], np.bincount(code)[code]

    (every, n_every), (at_home, n_at_home) = summed(cell), summed(own)
    n = n_every - n_at_home
    with np.errstate(invalid="ignore", divide="ignore"):
        return (every - at_home) / n[:, None], n


def _steps(numbers: np.ndarray) -> np.ndarray:
    """1, 2, 3, then two steps each time that a number doubles."""
    return np.floor(2 * np.log2(numbers)).astype(int)


def _third(numbers: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.quantile(numbers, (1 / 3, 2 / 3)), numbers)


def reliability(chains: Sequence[Chain], nearest: int, *, top: int, seed: int) -> list[Split]:
    """How far heads keep their kurtosis from one half of the problems to the other; none for fewer than four problems.

    `by_chance` is the number of shared heads where the halves' orders have nothing in common.
    """
    chains = long_enough(chains, nearest)
    problems, of = np.unique([chain.problem_id for chain in chains], return_inverse=True)
    if len(problems) < _LEAST_PROBLEMS:
        return []
    own, rng, found = _kurtoses(chains, nearest), np.random.default_rng(seed_for("halves of problems", seed)), []
    for _ in range(SPLITS):
        is_a = np.isin(of, rng.permutation(len(problems))[: len(problems) // 2])
        a, b = _mean(own[is_a]), _mean(own[~is_a])
        known = ~(np.isnan(a) | np.isnan(b))
        a, b, n = a[known], b[known], min(top, int(known.sum()))
        firsts = (set(np.argsort(-half, kind="stable")[:n].tolist()) for half in (a, b))
        shared, rho = len(set.intersection(*firsts)), spearman(a, b) if n else math.nan
        found.append(Split(rho, shared, n, n * n / max(len(a), 1), int(is_a.sum()), int((~is_a).sum())))
    return found
