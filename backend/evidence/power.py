"""What a "none" is worth: how often the same rule would have claimed a law of a stated size, had there been one in this
very study.

The study is kept as it is: its chunks, CoTs and problems, x, the covariates, and which values y has in each CoT, zeros
included. Only y's order within CoTs is made anew:

1. Within each CoT y's values go to the chunks in the order of −r · x + √(1 − r²) · noise, x by its scores (`aligned`),
   noise normal. r is chosen so that ρ within CoTs is −0.25, say, on average over such worlds.
2. The rule is asked about every world, with the covariates and the permutations of the pair itself.

So planted effects are inverse; a study has the same zeros and ties for a direct one, and nearly the same power. A world
planted so depends on the covariates through x alone. Worlds are asked together: in all of them x is dealt by the same
permutations, which makes chance one matrix product (`Permuted`), and y's scores are the same numbers in another order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backend.evidence.aligned import Aligned
from backend.evidence.association import association_of_sample
from backend.evidence.partial import given
from backend.evidence.rule import chance_is_rare, outlives, parts_agree, problems_agree
from backend.evidence.sample import Sample
from backend.evidence.within import aligned
from backend.ids import seed_for
from backend.statistics.resampling import centred_ranks

SIZES = (-0.15, -0.2, -0.25, -0.3, -0.4, -0.5)
N_PLANTED = 100  # of each size
SAID = -0.25  # the size whose power is said first
OFTEN = 0.9
# Column of `associations` -> field of Power.
POWER = {"n_planted": "n", "planted_rho": "rho", "planted_found": "found", "planted_p": "p_needed"}
_STRENGTHS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
_LADDER = 32  # worlds a strength, from which r is read off
_WORTH_A_TEST = 1.2  # standard deviations of chance; p at most P_PARTS begins at 1.96


@dataclass(frozen=True)
class Power:
    """Of planted effects of each size, how many the rule claims. Empty where unknown, and `note` says why."""

    n: int  # effects planted of each size
    rho: tuple[float, ...]  # their ρ within CoTs, on average
    found: tuple[float, ...]  # share claimed, as one pair by itself
    p_needed: tuple[float, ...]  # what p must be allowed for 9 in 10 to be claimed; 1 where no p would do
    note: str = ""

    @classmethod
    def of_row(cls, row: Mapping[str, Any], note: str = "") -> "Power":
        """As a row of `associations` has it; unknown where the row is of a time before power was measured."""
        if pd.isna(row["n_planted"]):
            return unknown_power(note)
        sizes = {field: tuple(map(float, row[column])) for column, field in POWER.items() if field != "n"}
        return cls(int(row["n_planted"]), **sizes, note=note)

    def at(self, rho: float) -> float:
        """Share claimed of the planted effects of that size; NaN where none was planted."""
        return dict(zip(self.rho, self.found, strict=True)).get(rho, math.nan)

    def least(self, p_allowed: float) -> float:
        """The smallest ρ that is found 9 times in 10 where p may be `p_allowed` at most; NaN where none of those
        planted is.
        """
        often = [rho for rho, p in zip(self.rho, self.p_needed, strict=True) if p <= p_allowed]
        return max(often, default=math.nan)


def unknown_power(note: str) -> Power:
    return Power(0, (), (), (), note)


def power(
    sample: Sample, held: Mapping[str, np.ndarray], *, n_planted: int, n_bootstrap: int, n_permutations: int, seed: int
) -> Power:
    """Of the rule on `sample` with the covariates `held`."""
    if not (n_planted and n_bootstrap and n_permutations):
        return unknown_power("no effects were planted")
    if sample.subset != "all":
        return unknown_power(
            "effects are planted among all chunks alone: elsewhere the chunks that take part depend on importance"
        )
    if not len(sample) or not (scores := aligned(sample)).is_known:
        return unknown_power("no CoT has two chunks that differ in x and in y, so nothing can be planted")
    rng = np.random.default_rng(seed_for("planted effects", seed))
    strengths = _strengths(sample, scores, rng)
    if not strengths:
        return unknown_power(f"however y is arranged within CoTs, ρ there does not reach {SIZES[0]}".replace("-", "−"))
    rule = _Rule(sample, dict(held), scores, n_bootstrap, n_permutations, seed)
    orders = [
        _orders(scores, strength, rng.standard_normal((n_planted, len(sample)))) for strength in strengths.values()
    ]
    p = np.sort(rule.p(np.concatenate(orders)).reshape(len(strengths), n_planted), axis=1)
    found, needed = chance_is_rare(p).mean(1), p[:, math.ceil(OFTEN * n_planted) - 1]
    return Power(n_planted, tuple(strengths), tuple(found.tolist()), tuple(needed.tolist()))


def _orders(scores: Aligned, strength: float, noise: np.ndarray) -> np.ndarray:
    """(n_worlds, n): the chunk to which the k-th value goes, values and chunks both by CoT, and values ascending
    within.
    """
    x = scores.x / math.sqrt(scores.x @ scores.x / len(scores.x))
    wanted = math.sqrt(1 - strength**2) * noise - strength * x
    return np.argsort(scores.strata * 1e3 + wanted, axis=1)


def _arranged(values: np.ndarray, orders: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """(n_worlds, n): `values` (n,) given to the chunks of each world. `ascending` orders them by y within CoTs."""
    found = np.empty(orders.shape)
    np.put_along_axis(found, orders, np.broadcast_to(values[ascending], orders.shape), axis=1)
    return found


def _ascending(sample: Sample) -> np.ndarray:
    return np.lexsort((sample.y, sample.strata))


def _strengths(sample: Sample, scores: Aligned, rng: np.random.Generator) -> dict[float, float]:
    """Strength r for each size that an arrangement of y can reach."""
    noise, ascending = rng.standard_normal((_LADDER, len(sample))), _ascending(sample)
    reached = [
        float(replace(scores, y=_arranged(scores.y[0], _orders(scores, r, noise), ascending)).rho().mean())
        for r in _STRENGTHS
    ]
    falling = np.minimum.accumulate(reached)
    return {rho: float(np.interp(-rho, -falling, _STRENGTHS)) for rho in SIZES if falling[-1] <= rho <= falling[0]}


@dataclass(frozen=True)
class _Rule:
    """The rule of verdict.py about many worlds that differ in y's order within CoTs alone."""

    sample: Sample
    held: dict[str, np.ndarray]
    scores: Aligned
    n_bootstrap: int
    n_permutations: int
    seed: int

    def p(self, orders: np.ndarray) -> np.ndarray:
        """(n_worlds,): the p that decides; 1 where another condition does not hold,
        or the law would be a direct one."""
        sample, drawn = self.sample, {"n_permutations": self.n_permutations, "seed": self.seed}
        ascending = _ascending(sample)
        worlds = replace(self.scores, y=_arranged(self.scores.y[0], orders, ascending))
        dealt = worlds.permuted(**drawn)
        rho, p = worlds.rho(), dealt.p(worlds.y @ worlds.x, worlds.y)
        low, high = worlds.interval(n_bootstrap=self.n_bootstrap, seed=self.seed)
        holds = (rho < 0) & problems_agree(low, high, worlds.p_problems(), sample.n_problems)
        if (fixed := given(sample, self.held)) is not None:
            left_x = fixed.left(centred_ranks(sample.x))
            left = fixed.aligned(left_x, fixed.left(_arranged(centred_ranks(sample.y), orders, ascending)))
            if left.is_known:
                rest = left.permuted(**drawn)
                p_rest = rest.p(left.y @ left.x, left.y)
                holds &= outlives(left.rho(), p_rest, left.p_problems(), -1)
                p = np.maximum(p, p_rest)
        holds &= chance_is_rare(p)
        positive = _arranged(np.where(sample.y > 0, 1.0, 0.0), orders, ascending)
        effect = positive @ worlds.x
        doubtful = np.flatnonzero(holds & (effect > 0))
        if len(doubtful):
            holds[doubtful] &= parts_agree(effect[doubtful], dealt.p(effect[doubtful], positive[doubtful]), -1)
        values = _arranged(sample.y, orders, ascending)
        for world in np.flatnonzero(holds & _rises_among_positive(worlds, positive)):
            own = replace(sample, y=values[world]).only(positive[world] > 0)
            rank = association_of_sample(own, n_bootstrap=0, **drawn)
            holds[world] = parts_agree(rank.spearman - rank.null_mean, rank.p_permutation, -1)
        return np.where(holds, p, 1.0)


def _rises_among_positive(worlds: Aligned, positive: np.ndarray) -> np.ndarray:
    """(n_worlds,) of bool: whether y rises with x among its chunks above 0 as far as to be worth a permutation test at
    5 %.
    """
    starts = np.flatnonzero(np.diff(worlds.strata, prepend=-1))
    n, x, y, xx, yy, xy = (
        np.add.reduceat(positive * part, starts, axis=1)
        for part in (1.0, worlds.x, worlds.y, worlds.x**2, worlds.y**2, worlds.x * worlds.y)
    )
    many = np.maximum(n, 1)
    spread = (xx - x * x / many) * (yy - y * y / many) / np.maximum(n - 1, 1)
    return (xy - x * y / many).sum(1) > _WORTH_A_TEST * np.sqrt(np.maximum(spread.sum(1), 0))
