"""Curves of many chunks over one grid of magnitudes: their median and quartiles, and how two kinds compare in pairs.

1. A chunk's curve along a kind of direction is the mean over that kind's directions.
2. Median and quartiles are over chunks, at each magnitude, of those whose value is known there.
3. Two kinds are compared chunk by chunk at the same magnitude, which in one unit is the same length of step: the median
   of the ratio, with an interval from drawing whole problems with replacement. A ratio takes part where both values lie
   above the chunk's noise floor.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.statistics.intervals import bootstrap_percentile
from backend.statistics.resampling import problem_draws

N_DRAWS = 1000


def mean_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """One row a chunk, kind and position: `betas`, rising, `kl`, the mean over the kind's directions at each (NaN where
    one of them is unknown), `noise_floor`, `r2`, `n_directions`; the other columns as they are.

    `curves` has a row a direction. Directions that were not swept at the same betas have no mean: those of the first
    count.
    """
    by_chunk: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in curves.to_dict("records"):
        by_chunk.setdefault((row["chunk_id"], row["kind"], row["position"]), []).append(row)
    return pd.DataFrame([_mean(own) for own in by_chunk.values()], columns=[*curves.columns, "n_directions"])


def _mean(own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the curves of one chunk, kind and position."""
    betas = np.asarray(own[0]["betas"], float)
    same = [row for row in own if np.array_equal(row["betas"], betas)]
    order = np.argsort(betas, kind="stable")
    found = {"betas": betas[order], "kl": np.mean([np.asarray(row["kl"], float) for row in same], axis=0)[order]}
    found["noise_floor"] = max(row["noise_floor"] for row in same)
    found["r2"] = float(np.mean([row["r2"] for row in same]))
    return {**own[0], **found, "n_directions": len(same)}


def quartiles(curves: pd.DataFrame) -> pd.DataFrame:
    """By kind and position, one row a beta: `beta`, `low`, `median`, `high` over chunks, `n` chunks known there."""
    rows = [
        {"kind": kind, "position": position, **row}
        for (kind, position), own in curves.groupby(["kind", "position"], sort=False)
        for row in quartile_rows(own["betas"], own["kl"])
    ]
    return pd.DataFrame(rows, columns=["kind", "position", "beta", "low", "median", "high", "n"])


def quartile_rows(betas: Sequence[np.ndarray], kl: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """Of curves over any betas, each beta's own."""
    grid, values = on_one_grid(betas, kl)
    found = []
    for beta, at in zip(grid, values.T, strict=True):
        known = at[np.isfinite(at)]
        if len(known):
            low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
            found.append(
                {"beta": float(beta), "low": float(low), "median": float(median), "high": float(high), "n": len(known)}
            )
    return found


def on_one_grid(betas: Sequence[np.ndarray], kl: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Every beta of any curve, rising, and the values there (n_curves, n_betas), NaN where a curve has none."""
    grid = np.unique(np.concatenate([np.asarray(at, float) for at in betas])) if len(betas) else np.empty(0)
    values = np.full((len(kl), len(grid)), np.nan)
    for row, (at, own) in enumerate(zip(betas, kl, strict=True)):
        values[row, np.searchsorted(grid, np.asarray(at, float))] = np.asarray(own, float)
    return grid, values


@dataclass(frozen=True)
class PairedRatio:
    """Median over chunks of one value over the other; unknown is NaN."""

    ratio: float
    low: float  # 95 % interval over problems
    high: float
    n: int  # chunks
    n_problems: int
    n_left_out: int  # chunks where a side is unknown, or at or below the noise floor


def paired_ratio(
    one: np.ndarray, other: np.ndarray, floor: np.ndarray, problems: Sequence[str], *, seed: int
) -> PairedRatio:
    """Of one/other, (n_chunks,) each; `floor` is each chunk's noise floor, NaN where that is unknown."""
    least = np.nan_to_num(np.asarray(floor, float), nan=0.0)
    takes_part = (one > least) & (other > least)
    ratios = one[takes_part] / other[takes_part]
    codes, names = pd.factorize(np.asarray(problems, object)[takes_part], sort=True)
    left_out = int((~takes_part).sum())
    if not len(ratios):
        return PairedRatio(math.nan, math.nan, math.nan, 0, 0, left_out)
    draws = problem_draws(len(names), N_DRAWS, seed)
    again = weighted_medians(ratios, draws[:, codes])
    interval = bootstrap_percentile(again)
    return PairedRatio(float(np.median(ratios)), *interval, len(ratios), len(names), left_out)


def weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n_draws,): the median of each value repeated as often as its weight, (n_draws, n) whole numbers, says."""
    order = np.argsort(values, kind="stable")
    rising, total = values[order], np.cumsum(weights[:, order], axis=1)
    n = total[:, -1:]
    lower, upper = (total > (n - 1) // 2).argmax(1), (total > n // 2).argmax(1)
    return (rising[lower] + rising[upper]) / 2


def ratios_to(curves: pd.DataFrame, reference: str, *, seed: int) -> pd.DataFrame:
    """By kind but `reference`, and beta but 0: `ratio` of its KL to the reference kind's at the same chunks, `low`,
    `high`, `n`, `n_problems`, `n_left_out`. `curves` are of one position, as `mean_curves` has them.
    """
    by_kind = {kind: own.set_index("chunk_id") for kind, own in curves.groupby("kind", sort=False)}
    rows = []
    for kind in [kind for kind in by_kind if kind != reference and reference in by_kind]:
        shared = by_kind[kind].index.intersection(by_kind[reference].index)
        one, other = by_kind[kind].loc[shared], by_kind[reference].loc[shared]
        grid, values = on_one_grid([*one["betas"], *other["betas"]], [*one["kl"], *other["kl"]])
        floors = np.fmax(one["noise_floor"].to_numpy(float), other["noise_floor"].to_numpy(float))
        for k, beta in enumerate(grid):
            if beta != 0 and len(shared):
                above, below = values[: len(shared), k], values[len(shared) :, k]
                found = paired_ratio(above, below, floors, one["problem_id"].tolist(), seed=seed)
                rows.append({"kind": kind, "beta": float(beta), **vars(found)})
    return pd.DataFrame(rows, columns=["kind", "beta", "ratio", "low", "high", "n", "n_problems", "n_left_out"])
