"""Studies whose truth is known: what the evidence must find, and what it must not.

A study has 600 chunks of 100 CoTs of 40 problems. x is heavy-tailed and positive, with effects of its problem, its CoT
and its position. The seed's parity chooses how importance y comes to be known from the true importance t > 0 of each
chunk:

even   two thirds of the chunks have exactly 0, the others t times log-normal noise: as published importances look
odd    20 rollouts with the chunk and 20 without it: y is the KL divergence of correct and wrong between them (Laplace smoothing), where
       0.15 t, at most 0.95, is the probability of losing a solution. Noise alone makes it positive

    inverse     t = A / (x + x₀), times effects of problem and CoT
    none        t of a CoT's and problem's own; the problem's effects on x and y are correlated
    l_shape     no effects at all: x and t independent with heavy tails, which leaves the same empty corner as an inverse law
    confounded  x falls and t rises along the CoT; given the position they are independent
"""  # noqa: E501

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import seed_for

KINDS = ("inverse", "none", "l_shape", "confounded")
SPREAD = 1.0
N_CHUNKS, N_COTS, N_PROBLEMS, N_ROLLOUTS = 600, 100, 40, 20


def simulate(kind: str, seed: int, *, noise: float = 0.5) -> pd.DataFrame:
    """Columns x, y, cot_id, problem_id, position (in [0, 1)), n_tokens. `noise` is that of t, of its logarithm."""
    if kind not in KINDS:
        raise AnchorscopeError(f"kinds of simulated studies are {', '.join(KINDS)}; got {kind}")
    rng = np.random.default_rng(seed_for("simulated study", kind, seed))
    problem_of_cot = np.sort(np.concatenate([np.arange(N_PROBLEMS), rng.integers(0, N_PROBLEMS, N_COTS - N_PROBLEMS)]))
    cot = np.sort(np.concatenate([np.arange(N_COTS), rng.integers(0, N_COTS, N_CHUNKS - N_COTS)]))
    problem, position = problem_of_cot[cot], _position(cot)
    shared = 0.6 if kind == "none" else 0.0
    levels = rng.multivariate_normal([0, 0], [[1, shared], [shared, 1]], N_PROBLEMS)[problem] * 0.6
    cots = rng.normal(0, 0.4, (N_COTS, 2))[cot]
    log_x, log_t = rng.normal(0, SPREAD, N_CHUNKS), np.zeros(N_CHUNKS)
    if kind == "l_shape":
        log_x, log_t = np.log(rng.pareto(1.2, N_CHUNKS) + 1e-3), np.log(rng.pareto(1.2, N_CHUNKS) + 1e-3)
    else:
        log_x, log_t = log_x + levels[:, 0] + cots[:, 0] - 0.3 * position, levels[:, 1] + cots[:, 1]
    if kind == "confounded":
        log_x, log_t = log_x - 1.5 * position, log_t + 1.5 * position
    x = np.exp(log_x)
    if kind == "inverse":
        log_t = log_t - np.log(x + 0.3) + rng.normal(0, noise, N_CHUNKS)
    t = np.exp(log_t)
    y = _with_zeros(t, rng) if seed % 2 == 0 else _from_rollouts(np.minimum(0.15 * t, 0.95), rng)
    return pd.DataFrame(
        {
            "x": x,
            "y": y,
            "cot_id": [f"c{k:03d}" for k in cot],
            "problem_id": [f"p{k:02d}" for k in problem],
            "position": position,
            "n_tokens": rng.integers(5, 40, N_CHUNKS),
        }
    )


def _position(cot: np.ndarray) -> np.ndarray:
    starts, sizes = np.searchsorted(cot, cot), np.bincount(cot)[cot]
    return (np.arange(len(cot)) - starts) / sizes


def _with_zeros(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two thirds exactly 0, the more likely the smaller t."""
    shown = t * rng.lognormal(0, 1.0, len(t))
    chance = rng.random(len(t))
    odds = 0.5 * (t / np.median(t)) ** 0.5
    return np.where(chance < odds / (1 + odds), shown, 0.0)


def _from_rollouts(lost: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """KL between smoothed shares of correct rollouts, without the chunk and with it, nats."""
    with_chunk = rng.beta(4, 3, len(lost))
    without, kept = (
        (rng.binomial(N_ROLLOUTS, share) + 1) / (N_ROLLOUTS + 2) for share in (with_chunk * (1 - lost), with_chunk)
    )
    return without * np.log(without / kept) + (1 - without) * np.log((1 - without) / (1 - kept))
