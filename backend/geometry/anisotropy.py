"""How unequal a chunk's random directions are, as published and mended, and what chance makes of it.

1. As published: largest over smallest KL of the random directions at magnitude 1. Mended: a smallest KL at or below the
   noise floor is taken for the floor, and the ratio counted as at least that.
2. Where KL is ½·ε²·vᵀGv its coefficient of variation over directions has a closed form in the participation ratio of G,
   and is 0 for a G that is the same in all directions.
3. How large the ratio of n directions then gets follows from how vᵀGv is distributed, taken as a scaled χ² of that
   variation: an extreme of n draws, the larger the more there are.
Sources: Dawes 2025, section 3; moments of vᵀGv on the sphere: Mathai and Provost 1992, Quadratic Forms in Random
Variables; its χ²: Satterthwaite 1946.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import seed_for

_REPEATS = 4000  # draws of n directions behind `ratio_by_chance`


@dataclass(frozen=True)
class Ratio:
    """Largest over smallest KL of a number of random directions: median and the middle 95 % over draws of them."""

    median: float
    low: float
    high: float


def expected_cv(participation_ratio: np.ndarray, d_model: int) -> np.ndarray:
    """Coefficient of variation of vᵀGv over directions v uniform on the sphere of R^d, of a G with this participation
    ratio (Σλ)²/Σλ²: √(2·(d/PR − 1)/(d + 2)). 0 where G is the same in all directions, PR = d.
    """
    return np.sqrt(np.maximum(2 * (d_model / np.asarray(participation_ratio, float) - 1) / (d_model + 2), 0))


def ratio_by_chance(cv: float, n: int, *, seed: int = 0) -> Ratio:
    """What largest over smallest comes to over `n` random directions of a G along which KL has this coefficient of
    variation, from χ² draws of it; 1 where it is 0.
    """
    if not (math.isfinite(cv) and cv >= 0) or n < 1:
        return Ratio(math.nan, math.nan, math.nan)
    if cv == 0:
        return Ratio(1.0, 1.0, 1.0)
    draws = np.random.default_rng(seed_for("largest over smallest", seed, n)).gamma(1 / cv**2, size=(_REPEATS, n))
    with np.errstate(divide="ignore"):
        low, median, high = np.quantile(draws.max(1) / draws.min(1), [0.025, 0.5, 0.975])
    return Ratio(float(median), float(low), float(high))


def anisotropy(steps: pd.DataFrame) -> pd.DataFrame:
    """One row a chunk of `Store.random_steps_at`: `ratio`, mended, and `is_clipped` where its smallest KL lies at or
    below the floor; mean `kl` and `cv` of the same directions at magnitude 1. Of older studies the ratio is unknown
    where it would be clipped.
    """
    found = [
        {name: getattr(row, name) for name in ("chunk_id", "number", "text", "n_random")}
        | {"ratio": _mended(row), "is_clipped": bool(row.n_below_floor)}
        | {"mean_kl": _at_1(row, row.random_kl), "cv": _at_1(row, row.random_cv)}
        for row in steps.itertuples()
    ]
    columns = ["chunk_id", "number", "text", "n_random", "ratio", "is_clipped", "mean_kl", "cv"]
    return pd.DataFrame(found, columns=columns).astype(
        {"ratio": float, "mean_kl": float, "cv": float, "is_clipped": bool}
    )


def _mended(row: Any) -> float:
    if not isinstance(row.kl_at_1, (list, np.ndarray)):
        return math.nan if row.anisotropy_ratio is None else float(row.anisotropy_ratio)
    kl, floor = np.asarray(row.kl_at_1, float), 0.0 if pd.isna(row.noise_floor) else float(row.noise_floor)
    least = max(float(kl.min()), floor)
    return float(kl.max() / least) if least > 0 else math.nan


def _at_1(row: Any, values: Any) -> float:
    at = np.flatnonzero(np.asarray(row.epsilons, float) == 1.0)
    return float(np.asarray(values, float)[at[0]]) if len(at) else math.nan


def ratio_at_the_usual_variation(rows: pd.DataFrame) -> Ratio:
    """What as many directions come to at the median variation of `anisotropy`'s rows."""
    known = rows["cv"].dropna()
    return ratio_by_chance(
        float(known.median()) if len(known) else math.nan, int(rows["n_random"].median()) if len(rows) else 0
    )


def variations(steps: pd.DataFrame) -> pd.DataFrame:
    """One row a chunk of `Store.random_steps_at` whose participation ratio is known: the coefficient of variation
    `measured` at the smallest magnitude, and `expected` of G.
    """
    known = steps[steps["participation_ratio"].notna() & steps["d_model"].notna()]
    found = [
        {
            "chunk_id": row.chunk_id,
            "measured": float(np.asarray(row.random_cv, float)[int(np.argmin(row.epsilons))]),
            "expected": float(expected_cv(row.participation_ratio, int(row.d_model))),
        }
        for row in known.itertuples()
    ]
    return pd.DataFrame(found, columns=["chunk_id", "measured", "expected"]).dropna()
