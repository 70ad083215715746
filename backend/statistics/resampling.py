"""The bootstrap over problems: whole problems are drawn with replacement, because chunks of one problem are not
independent.

A problem drawn twice counts each of its chunks twice. So a draw is a list of weights, one a problem, and a statistic of
ranks needs no ranking anew: the mid-rank of chunk i in a draw, less the mean rank, is ½ Σⱼ wⱼ sign(vᵢ − vⱼ), one matrix
product for all draws.
"""

import functools
import math

import numpy as np

from backend.ids import seed_for

_CELLS = 1_000_000  # replicates are computed in blocks of this many numbers, 8 MB an array


@functools.lru_cache(maxsize=8)
def problem_draws(n_problems: int, n_draws: int, seed: int) -> np.ndarray:
    """(n_draws, n_problems): how often each problem was drawn. For fewer than two problems there are no draws."""
    rng = np.random.default_rng(seed_for("bootstrap over problems", seed))
    draws = np.empty((0, n_problems), dtype=np.int64)
    if n_problems > 1:
        draws = rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=n_draws)
    draws.flags.writeable = False  # shared by all who ask for the same
    return draws


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of the mid-ranks of x and y, both (n,); NaN where either is constant."""
    x, y = centred_ranks(x), centred_ranks(y)
    scale = math.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / scale, -1, 1)) if scale else math.nan


def weighted_spearman(x: np.ndarray, y: np.ndarray, draws: np.ndarray, problems: np.ndarray) -> np.ndarray:
    """Spearman's rho of every draw, (n_draws,); NaN where x or y is constant among the chunks drawn.

    x, y and `problems` (number of the chunk's problem) are (n,). The same as repeating each chunk as often as its
    problem was drawn.
    """
    rho = np.empty(len(draws))
    n_problems = draws.shape[1]
    signs_x, signs_y = (sign_sums(values, problems, n_problems, at=values) for values in (x, y))
    block = max(1, _CELLS // max(len(x), 1))
    for start in range(0, len(draws), block):
        part = draws[start : start + block].astype(np.float64)
        rank_x, rank_y, weights = part @ signs_x, part @ signs_y, part[:, problems]
        weighted_x, weighted_y = weights * rank_x, weights * rank_y
        covariance = np.einsum("ij,ij->i", weighted_x, rank_y)
        scale = np.sqrt(np.einsum("ij,ij->i", weighted_x, rank_x) * np.einsum("ij,ij->i", weighted_y, rank_y))
        rho[start : start + block] = np.divide(covariance, scale, out=np.full(len(part), np.nan), where=scale > 0)
    return np.clip(rho, -1, 1)


def sign_sums(values: np.ndarray, problems: np.ndarray, n_problems: int, *, at: np.ndarray) -> np.ndarray:
    """(n_problems, len(at)): Σ sign(at − v) over the values v of each problem. `values` and `problems` are (n,)."""
    distinct, rank = np.unique(values, return_inverse=True)
    counts = np.bincount(problems * len(distinct) + rank, minlength=n_problems * len(distinct)).reshape(n_problems, -1)
    up_to = np.zeros((n_problems, len(distinct) + 1))
    np.cumsum(counts, axis=1, out=up_to[:, 1:])
    return (
        up_to[:, np.searchsorted(distinct, at, "left")]
        + up_to[:, np.searchsorted(distinct, at, "right")]
        - up_to[:, -1:]
    )


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks less their mean, (n,); all NaN where any value is NaN."""
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at] - (len(values) + 1) / 2


def constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())
