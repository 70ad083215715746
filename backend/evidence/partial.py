"""Rank correlation of x and y given covariates: does the law outlive what both may depend on, as the position in the CoT?

Ranks of x, y and every covariate; the covariates' ranks are regressed out of both; the correlation of what is left. Null: the residual of
y is permuted within CoTs. What depends on a covariate otherwise than linearly in ranks is not taken out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import AnchorscopeError
from backend.evidence.permutation import null_of_sum
from backend.evidence.resampling import centred_ranks, constant
from backend.evidence.sample import Sample


@dataclass(frozen=True)
class Partial:
    """NaN where no covariate is known, or nothing is left to correlate."""

    rho: float
    p: float  # two-sided
    null_mean: float  # mean of rho by chance
    n: int  # chunks where x, y and the covariates are known
    covariates: tuple[str, ...]  # those held fixed


@dataclass(frozen=True)
class HeldFixed:
    values: dict[str, np.ndarray]  # (n,) for each covariate that can be held fixed
    notes: tuple[str, ...]  # which of those asked for cannot, and why


def held_fixed(sample: Sample, covariates: Sequence[str]) -> HeldFixed:
    """Covariates that are known for more than half of the chunks, and vary."""
    if missing := [name for name in covariates if name not in sample.rows.columns]:
        raise AnchorscopeError(f"the covariates {', '.join(missing)} are not among the columns {', '.join(sample.rows.columns)}")
    held, notes = {}, []
    for name in covariates:
        values = sample.rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
        known = values[~np.isnan(values)]
        if 2 * len(known) <= len(values):
            notes.append(f"{name} is known for {len(known)} of {len(values)} chunks and was not held fixed")
        elif constant(known):
            notes.append(f"{name} is the same for all chunks and was not held fixed")
        else:
            held[name] = values
    return HeldFixed(held, tuple(notes))


def partial(sample: Sample, held: dict[str, np.ndarray], *, n_permutations: int, seed: int) -> Partial:
    """Given the covariates `held`, over the chunks that know all of them."""
    complete = ~np.isnan(np.array(list(held.values()))).any(0) if held else np.zeros(len(sample), dtype=bool)
    nothing = Partial(math.nan, math.nan, math.nan, int(complete.sum()), tuple(held))
    if complete.sum() < len(held) + 3:
        return nothing
    own = sample if complete.all() else sample.only(complete)
    fixed = np.column_stack([centred_ranks(values[complete]) for values in held.values()])
    left_x, left_y = (_residual(centred_ranks(values), fixed) for values in (own.x, own.y))
    scale = math.sqrt((left_x @ left_x) * (left_y @ left_y))
    if scale < 1e-9 * len(own) ** 3:  # ranks vary by about n³/12: less is rounding
        return nothing
    rho = float(np.clip(left_x @ left_y / scale, -1, 1))
    null = null_of_sum(left_x / scale, left_y, own.strata, n_permutations=n_permutations, seed=seed)
    return Partial(rho, null.p, null.mean, len(own), tuple(held))


def _residual(ranks: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    return ranks - fixed @ np.linalg.lstsq(fixed, ranks, rcond=None)[0]
