"""Worlds of the size of the shipped demo whose truth is known, made in two ways that share nothing but their size.

`ranks`     x and importance are drawn together (a Gaussian copula within chains) and then bent: heavy tails, exact zeros, few values.
`rollouts`  a mechanism: every chain moves a distribution over answers, each chunk by its own push; answers are drawn from
            it, unequally many a chunk, and importance is computed from counts of them, so that neighbours share a pool
            of answers and noise is that of rollouts.

611 chunks of 118 chains of 4 to 7, of 42 problems. A world has the columns x, y, cot_id, problem_id and the covariates
of its generator.
"""  # noqa: E501

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from backend.ids import seed_for
from backend.importance.estimates import kl_divergence

N_CHUNKS, N_COTS, N_PROBLEMS = 611, 118, 42


@dataclass(frozen=True)
class Generator:
    world: Callable[[str, int, float], pd.DataFrame]  # kind, seed, strength of the law
    nulls: dict[str, str]  # kinds without a law, and what they are
    laws: dict[str, str]  # kinds with one
    strength: dict[
        str, float
    ]  # of each law, at which ρ within CoTs is −0.25 on average (`benchmarks/evidence.py --calibrate`)
    covariates: tuple[str, ...]


@dataclass(frozen=True)
class _Places:
    cot: np.ndarray  # (n,)
    problem: np.ndarray
    index: np.ndarray  # in the chain
    position: np.ndarray  # index over the chain's chunks
    last: np.ndarray
    n_tokens: np.ndarray

    def frame(self, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
        ids = {"cot_id": [f"c{k:03d}" for k in self.cot], "problem_id": [f"p{k:02d}" for k in self.problem]}
        return pd.DataFrame({"x": x, "y": y, **ids, "position": self.position, "n_tokens": self.n_tokens, **more})


def _places(rng: np.random.Generator) -> _Places:
    sizes = rng.integers(4, 8, N_COTS)
    while sizes.sum() != N_CHUNKS:
        step = int(np.sign(N_CHUNKS - sizes.sum()))
        movable = np.flatnonzero((sizes + step >= 4) & (sizes + step <= 7))
        sizes[rng.choice(movable)] += step
    problem_of = np.sort(np.concatenate([np.arange(N_PROBLEMS), rng.integers(0, N_PROBLEMS, N_COTS - N_PROBLEMS)]))
    cot = np.repeat(np.arange(N_COTS), sizes)
    index = np.concatenate([np.arange(size) for size in sizes])
    n_tokens = 5 + rng.poisson(rng.gamma(2.0, 5.0, len(cot)))
    return _Places(cot, problem_of[cot], index, index / sizes[cot], index == sizes[cot] - 1, n_tokens)


def _chains(places: _Places, rng: np.random.Generator, resemblance: float) -> np.ndarray:
    """Standard normal, (n,), each chunk like the one before it in its chain."""
    noise = rng.standard_normal(len(places.cot))
    for k in np.flatnonzero(places.index > 0):
        noise[k] = resemblance * noise[k - 1] + np.sqrt(1 - resemblance**2) * noise[k]
    return noise


def _shape(places: _Places, seed: int) -> np.ndarray:
    """What happens along a chain, one of four by the seed: a slope, a hill in its middle, its last chunk, its first."""
    return (
        2 * places.position,
        3 - 12 * (places.position - 0.45) ** 2,
        2.5 * places.last,
        2.5 * (places.index == 0),
    )[seed % 4]


# Ranks


def _ranks(kind: str, seed: int, strength: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed_for("world of ranks", kind, seed))
    places, n = _places(rng), N_CHUNKS
    resemblance = 0.6 if kind == "chains" else 0.0
    u, v = _chains(places, rng, resemblance), _chains(places, rng, resemblance)
    problems, cots = rng.standard_normal((N_PROBLEMS, 2)), rng.standard_normal((N_COTS, 2))
    size, together = 0.6, 0.0
    if kind in ("problems", "opposed"):
        size, together = 1.2, 0.8
    problems[:, 1] = together * problems[:, 0] + np.sqrt(1 - together**2) * problems[:, 1]
    if kind in ("law", "opposed"):
        v = -strength * u + np.sqrt(1 - strength**2) * v
    log_x = u + size * problems[places.problem, 0] + 0.4 * cots[places.cot, 0]
    log_y = v + size * problems[places.problem, 1] + 0.4 * cots[places.cot, 1]
    if kind == "position":
        log_x, log_y = log_x + _shape(places, seed), log_y + _shape(places, seed) * (1 if seed % 8 < 4 else -1)
    if kind == "length":
        length, long = (
            np.log(places.n_tokens),
            2.5 * (places.n_tokens > np.quantile(places.n_tokens, (0.3, 0.5, 0.7)[seed % 3])),
        )
        log_x, log_y = (log_x - 1.5 * length, log_y + 1.5 * length) if seed % 2 else (log_x + long, log_y + long)
    x = np.exp(log_x) if kind != "tails" else (1 - ndtr(u)) ** (-1 / 1.1) - 1
    y = np.exp(1.5 * log_y) if kind != "tails" else (1 - ndtr(v)) ** (-1 / 1.1) - 1
    share = (0.0, 0.3, 0.65)[seed % 3] if kind != "zeros" else 0.8
    order = log_y + 0.5 * rng.standard_normal(n) if kind != "tails" else v
    y = np.where(order > np.quantile(order, share), y, 0.0) if share else y
    return places.frame(x, y)


# Rollouts


def _rollouts(kind: str, seed: int, strength: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed_for("world of rollouts", kind, seed))
    places = _places(rng)
    resemblance = 0.7 if kind == "chains" else 0.3
    steep = _chains(places, rng, resemblance)
    level, hard = rng.standard_normal(N_PROBLEMS), rng.standard_normal(N_PROBLEMS)
    if kind in ("problems", "opposed"):
        hard = 0.9 * level + 0.44 * hard
    push = 0.7 * rng.standard_t(3, len(steep)) if kind != "chains" else 1.2 * _chains(places, rng, resemblance)
    if kind in ("law", "opposed"):
        push = push - strength * steep
    if kind == "position":
        push, steep = push + 1.5 * _shape(places, seed), steep + _shape(places, seed)
    if kind == "length":
        length = (places.n_tokens - 15) / 10
        push, steep = push + 1.5 * length, steep + length
    spread = 1.5 if kind in ("problems", "opposed") else 0.6
    push = np.exp(np.clip(push - 2.0 + 0.8 * hard[places.problem], -8, 3))
    x = np.exp(steep + spread * level[places.problem])
    n = rng.integers(8, 41, len(x))
    if kind == "unequal":  # the steeper, the fewer answers there are
        n = 4 + rng.binomial(36, ndtr(-steep))
    y, known = np.empty(len(x)), np.ones(len(x), dtype=bool)
    for cot in range(N_COTS):
        own = np.flatnonzero(places.cot == cot)
        y[own], known[own] = _importance(push[own], n[own], hard[places.problem[own[0]]], rng, seed)
    return places.frame(x, np.where(known, y, np.nan), n_rollouts=n)


def _importance(
    push: np.ndarray, n: np.ndarray, hard: float, rng: np.random.Generator, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n_chunks,) each: importance from answers drawn before and after every chunk, and whether it is known. The first
    of 5 answers is right.
    """
    now = rng.dirichlet(np.array([3.0 * np.exp(-0.4 * hard), 1, 0.7, 0.4, 0.2]))
    counts = [rng.multinomial(n[0], now)]
    for k, size in enumerate(push):
        towards = np.eye(5)[rng.choice(5, p=now)]
        now = towards + (now - towards) * np.exp(-size)
        counts.append(rng.multinomial(n[k + 1] if k + 1 < len(n) else 20, now))
    before, after = np.array(counts[:-1]), np.array(counts[1:])
    if seed % 3 == 0:  # absolute difference of accuracies: often exactly 0
        value = np.abs(before[:, 0] / before.sum(1) - after[:, 0] / after.sum(1))
    elif seed % 3 == 1:  # KL of right and wrong, Laplace 1
        right = [np.column_stack([part[:, 0], part[:, 1:].sum(1)]) for part in (before, after)]
        value = kl_divergence(*right, 1.0)
    else:  # KL over all answers
        value = kl_divergence(before, after, 0.5)
    return value, np.arange(len(push)) < len(push) - 1


GENERATORS = {
    "ranks": Generator(
        _ranks,
        {
            "none": "effects of problems and chains, each its own",
            "tails": "independent heavy tails: an empty corner",
            "problems": "effects of problems that rise together",
            "chains": "neighbours in a chain resemble each other, in both",
            "zeros": "four fifths of importance exactly 0",
            "position": "only the place in the chain moves both",
            "length": "only the chunk's length moves both",
        },
        {"law": "an inverse law within chains", "opposed": "the same, and effects of problems that run the other way"},
        {"law": 0.295, "opposed": 0.324},
        ("position", "n_tokens"),
    ),
    "rollouts": Generator(
        _rollouts,
        {
            "none": "steepness says nothing of the chunk's push",
            "problems": "hard problems are steep, and pushed more",
            "chains": "neighbours in a chain resemble each other, in both",
            "unequal": "the steeper, the fewer rollouts",
            "position": "only the place in the chain moves both",
            "length": "only the chunk's length moves both",
        },
        {"law": "steep chunks push less", "opposed": "the same, and hard problems are steep and pushed more"},
        {"law": 1.607, "opposed": 1.611},
        ("position", "n_tokens", "n_rollouts"),
    ),
}
