"""Whether even steps differ from odd ones, latents 1, 2, … k, in a quantity that every problem has at each.

1. The difference is the mean over even steps less the mean over odd ones, of each problem: mean over problems,
   bootstrap interval over problems, and p by flips of the problems' signs.
2. Anything that rises along the steps differs so too. Therefore the same with each problem's straight line over the
   steps taken out: what is left alternates. It needs four steps.
3. The steps are few, and are the same for all problems: p over steps is the share of all ways to divide them into as
   many even and odd ones whose difference of the means over problems is at least as large. With six steps it is never
   below 0.1, whatever the number of problems, so that one model alone cannot show that parity is what matters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from backend.statistics.columns import ColumnMeans, column_means, known

_LEAST_FOR_LINE = 4  # steps: with three, what alternates and a line with a bend are one
_MOST_DIVIDED = 16  # steps of which all divisions are tried


def contrast(n_steps: int) -> np.ndarray:
    """(n_steps,): weights of the difference, even − odd."""
    even = np.arange(1, n_steps + 1) % 2 == 0
    return np.where(even, 1 / max(even.sum(), 1), -1 / max((~even).sum(), 1))


def without_line(n_steps: int) -> np.ndarray:
    """(n_steps,): weights of the same difference after each problem's least-squares line is taken out; NaN with too few
    steps.
    """
    if n_steps < _LEAST_FOR_LINE:
        return np.full(n_steps, math.nan)
    line = np.stack([np.ones(n_steps), np.arange(n_steps, dtype=np.float64)], 1)
    weights = contrast(n_steps)
    return weights - line @ np.linalg.lstsq(line, weights, rcond=None)[0]


@dataclass(frozen=True, eq=False)
class Parity:
    """(n_columns,) each, of as many quantities."""

    odd: np.ndarray  # means over problems and steps
    even: np.ndarray
    difference: ColumnMeans
    without_line: ColumnMeans
    p_steps: np.ndarray  # over divisions of the steps; NaN with fewer than two, or too many
    n_divisions: int  # 0 where there are none


def parity(values: np.ndarray, *, seed: int = 0) -> Parity:
    """Of values (n_problems, n_steps, n_columns) at steps 1, 2, …; a problem whose value is unknown at a step takes no
    part in that column.
    """
    n_steps = values.shape[1]
    whole = np.where(np.isnan(values).any(1, keepdims=True), np.nan, values)
    n_odd = (n_steps + 1) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        is_known = ~np.isnan(whole[:, 0])
        means = np.nan_to_num(whole).sum(0) / is_known.sum(0)  # (n_steps, n_columns)
    p_steps, n_divisions = _divided(means) if n_steps >= 2 else (np.full(values.shape[2], math.nan), 0)
    return Parity(
        means[0::2].mean(0) if n_odd else np.full(values.shape[2], math.nan),
        means[1::2].mean(0) if n_steps >= 2 else np.full(values.shape[2], math.nan),
        column_means(np.einsum("psc,s->pc", whole, contrast(n_steps)), seed=seed, tested=True),
        column_means(np.einsum("psc,s->pc", whole, without_line(n_steps)), seed=seed, tested=True),
        p_steps,
        n_divisions,
    )


def _divided(means: np.ndarray) -> tuple[np.ndarray, int]:
    """p over divisions of the steps, and how many there are."""
    n_steps = len(means)
    if n_steps > _MOST_DIVIDED:
        return np.full(means.shape[1], math.nan), 0
    divisions = list(combinations(range(n_steps), n_steps // 2))
    signs = np.full((len(divisions), n_steps), -1 / ((n_steps + 1) // 2))
    for row, even in enumerate(divisions):
        signs[row, list(even)] = 1 / (n_steps // 2)
    found, own = np.abs(signs @ means), np.abs(contrast(n_steps) @ means)
    p = (found >= own - 1e-9 * np.abs(means).sum(0)).mean(0)
    return np.where(np.isnan(own), math.nan, p), len(divisions)


def parity_rows(quantities: Mapping[str, np.ndarray], *, seed: int) -> list[dict[str, Any]]:
    """One row a quantity (n_problems, n_steps); none where there are fewer than two steps."""
    if not quantities or next(iter(quantities.values())).shape[1] < 2:
        return []
    found = parity(np.stack(list(quantities.values()), 2), seed=seed)
    return [
        {
            "quantity": name,
            "odd": known(found.odd[column]),
            "even": known(found.even[column]),
            "difference": known(found.difference.mean[column]),
            "ci_low": known(found.difference.low[column]),
            "ci_high": known(found.difference.high[column]),
            "p": known(found.difference.p[column]),
            "without_line": known(found.without_line.mean[column]),
            "without_line_low": known(found.without_line.low[column]),
            "without_line_high": known(found.without_line.high[column]),
            "without_line_p": known(found.without_line.p[column]),
            "p_steps": known(found.p_steps[column]),
            "n_divisions": found.n_divisions,
            "n_problems": int(found.difference.n[column]),
        }
        for column, name in enumerate(quantities)
    ]
