"""The correlation within CoTs given covariates: does the law outlive what both may depend on, as the place in the CoT?

Ranks of x and y less their CoT's mean, and less what the covariates explain of them: each covariate's rank, and the
mean of each of up to twenty equal groups of chunks by it, so that what happens at the first or the last chunks alone,
or beyond some length, is taken out too. Few chunks have fewer groups. Null and agreement of problems as in aligned.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import AnchorscopeError
from backend.evidence.aligned import Aligned, less_mean
from backend.evidence.sample import Sample
from backend.statistics.resampling import centred_ranks, constant

_MOST_GROUPS = 20  # of chunks by a covariate
_FREE_A_TERM = 5  # degrees of freedom that there must be for every term that is taken out


@dataclass(frozen=True)
class Partial:
    """NaN where no covariate is known, or nothing is left to correlate."""

    rho: float
    p: float  # two-sided, y's residuals permuted within CoTs
    p_problems: float  # two-sided: do the problems agree
    n: int  # chunks where x, y and the covariates are known
    covariates: tuple[str, ...]  # those held fixed


@dataclass(frozen=True)
class HeldFixed:
    values: dict[str, np.ndarray]  # (n,) for each covariate that can be held fixed
    notes: tuple[str, ...]  # which of those asked for cannot, and why


@dataclass(frozen=True)
class Given:
    """How covariates are taken out of ranks of the chunks that know all of them."""

    complete: np.ndarray  # (n,) of bool
    strata: np.ndarray  # of the complete chunks
    problems: np.ndarray  # likewise
    basis: np.ndarray  # (n_complete, n_terms), orthonormal

    def left(self, ranks: np.ndarray) -> np.ndarray:
        """(…, n_complete) of ranks (…, n) over all chunks."""
        scores = less_mean(ranks[..., self.complete], self.strata)
        return scores - scores @ self.basis @ self.basis.T

    def aligned(self, left_x: np.ndarray, left_y: np.ndarray) -> Aligned:
        return Aligned(left_x, np.atleast_2d(left_y), self.strata, self.problems, self.basis.shape[1])


def held_fixed(sample: Sample, covariates: Sequence[str]) -> HeldFixed:
    """Covariates that are known for more than half of the chunks, and vary."""
    if missing := [name for name in covariates if name not in sample.rows.columns]:
        raise AnchorscopeError(
            f"the covariates {', '.join(missing)} are not among the columns {', '.join(sample.rows.columns)}"
        )
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


def given(sample: Sample, held: dict[str, np.ndarray]) -> Given | None:
    """None where nothing is held, or too few chunks know all of it."""
    complete = ~np.isnan(np.array(list(held.values()))).any(0) if held else np.zeros(len(sample), dtype=bool)
    if complete.sum() < len(held) + 3:
        return None
    own = sample if complete.all() else sample.only(complete)
    known = [values[complete] for values in held.values()]
    free = len(own) - int(own.strata[-1]) - 1
    n_groups = min(_MOST_GROUPS, max(1, free // (_FREE_A_TERM * len(known))))
    terms = np.column_stack([column for values in known for column in _terms(values, n_groups)])
    return Given(complete, own.strata, own.problems, _orthonormal(less_mean(terms.T, own.strata).T))


def partial(sample: Sample, held: dict[str, np.ndarray], *, n_permutations: int, seed: int) -> Partial:
    """Given the covariates `held`, over the chunks that know all of them."""
    fixed = given(sample, held)
    if fixed is None:
        return Partial(math.nan, math.nan, math.nan, 0, tuple(held))
    scores = fixed.aligned(*(fixed.left(centred_ranks(values)) for values in (sample.x, sample.y)))
    n = int(fixed.complete.sum())
    if not scores.is_known:
        return Partial(math.nan, math.nan, math.nan, n, tuple(held))
    permuted = scores.permuted(n_permutations=n_permutations, seed=seed)
    p = permuted.p(scores.y @ scores.x, scores.y)
    return Partial(float(scores.rho()[0]), float(p[0]), float(scores.p_problems()[0]), n, tuple(held))


def _terms(values: np.ndarray, n_groups: int) -> list[np.ndarray]:
    """The rank, and for each edge between groups whether a chunk lies above it."""
    ranks = centred_ranks(values)
    edges = np.quantile(ranks, np.arange(1, n_groups) / n_groups, method="lower")
    return [ranks, *(np.where(ranks > edge, 1.0, 0.0) for edge in np.unique(edges))]


def _orthonormal(terms: np.ndarray) -> np.ndarray:
    """(n, rank): a basis of what the terms span; one that adds nothing is left out."""
    size = np.sqrt((terms**2).sum(0))
    kept = terms[:, size > 1e-9] / size[size > 1e-9]
    left, sizes, _ = np.linalg.svd(kept, full_matrices=False)
    return left[:, sizes > 1e-8]
