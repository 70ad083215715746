"""What chance, or what controls, would have drawn beside the data: bands for a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.permutation import shuffled

_BINS, _SHUFFLES = 10, 500


def shuffled_within_cots(points: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The points with importance and its interval dealt anew among the chunks of each CoT whose x and importance are
    known.
    """
    known, what = points["x"].notna() & points["value"].notna(), ["value", "ci_low", "ci_high"]
    own = points[known]
    dealt = shuffled(own[["cot_id"]].assign(y=range(len(own))), seed=seed)["y"].astype(int)
    points = points.copy()
    points.loc[known, what] = own[what].to_numpy()[dealt]
    return points


def chance_band(points: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """What chance would draw: chunks with both values known in equal groups by x, and for each group `x_low`, `x_high`,
    `n`, its mean importance `mean`, and `low` and `high`, between which that mean falls in 95 % of 500 shuffles of
    importance within CoTs.

    At most 10 groups, of at least 8 chunks; none where there are fewer than 16 chunks.
    """
    known = points[points["x"].notna() & points["value"].notna()].sort_values("x", kind="stable").reset_index(drop=True)
    n_bins = min(_BINS, len(known) // 8)
    if n_bins < 2:
        return pd.DataFrame(columns=["x_low", "x_high", "n", "mean", "low", "high"])
    x, y = known["x"].to_numpy(float), known["value"].to_numpy(float)
    dealt = y[_dealt(known["cot_id"], _SHUFFLES, np.random.default_rng(seed_for("chance band", seed)))]
    edges = np.linspace(0, len(x), n_bins + 1).round().astype(int)
    sizes = np.diff(edges)
    low, high = np.percentile(np.add.reduceat(dealt, edges[:-1], axis=1) / sizes, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "x_low": x[edges[:-1]],
            "x_high": x[edges[1:] - 1],
            "n": sizes,
            "mean": np.add.reduceat(y, edges[:-1]) / sizes,
            "low": low,
            "high": high,
        }
    )


def _dealt(cots: pd.Series, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` permutations of the rows, (n, rows), each of which leaves every row's CoT as it is."""
    codes = pd.factorize(cots)[0]
    own = np.argsort(codes, kind="stable")  # rows by CoT; a key below 1 orders them anew within it
    order = np.argsort(codes + rng.random((n, len(codes))), axis=1)
    found = np.empty_like(order)
    found[:, own] = order
    return found


@dataclass(frozen=True)
class Band:
    """What the random directions did at each β, over those whose KL is known there."""

    betas: np.ndarray  # rising
    low: np.ndarray  # nats
    median: np.ndarray
    high: np.ndarray
    n_unknown: int  # values that were not measured


def control_band(betas: Sequence[float], kl: Sequence[Sequence[float | None]]) -> Band:
    """Least, median and largest KL over the directions; `kl` has one curve a direction.

    A β where none is known has no place in it.
    """
    curves = np.asarray(kl, dtype=float).reshape(len(kl), len(betas))
    order = np.argsort(np.asarray(betas, dtype=float), kind="stable")
    order = order[np.isfinite(curves[:, order]).any(axis=0)]
    known = np.where(np.isfinite(curves), curves, np.nan)[:, order]
    some = np.asarray(betas, dtype=float)[order]
    if not len(some):
        return Band(some, some, some, some, curves.size)
    low, median, high = np.nanmin(known, axis=0), np.nanmedian(known, axis=0), np.nanmax(known, axis=0)
    return Band(some, low, median, high, int((~np.isfinite(curves)).sum()))
