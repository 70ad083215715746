"""How far two models' residual streams at a layer are apart, on the same tokens, with intervals over problems.

- relative norm ‖b − a‖ / ‖a‖ at each token, then the mean; a: base, b: distilled
- debiased linear CKA (cka.py)
- principal angles between the subspaces of the k largest principal components of each (subspaces.py), and their mean
- KL between the distributions of the two logit lenses (lens_divergence.py), both ways

Each stands beside a control, what the base model alone gives (the same token in another problem; for angles the halves
of the problems), and a null, what is left where nothing is shared. Base against itself gives 0 (CKA: 1) exactly.
Intervals: problems are dealt into at most GROUPS groups, and one group at a time is left out (jackknife.py).
"""

import functools
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from backend.feature_geometry.cka import Pair, Products, unpaired
from backend.feature_geometry.divergence_kinds import ALL, COT, MEASURES, PROMPT
from backend.feature_geometry.partners import NONE, partners
from backend.feature_geometry.subspaces import principal_angles, random_angle, top_components
from backend.ids import seed_for
from backend.statistics.columns import known
from backend.statistics.intervals import Interval
from backend.statistics.jackknife import jackknife

GROUPS = 20  # of problems, at most
_HALVES = 4  # divisions of the problems into halves


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions that are compared, in one order: (n,) each, whole numbers from 0."""

    problems: np.ndarray
    tokens: np.ndarray
    is_prompt: np.ndarray  # bool
    seed: int

    @property
    def n(self) -> int:
        return len(self.problems)

    @cached_property
    def groups(self) -> np.ndarray:
        """(n,): problems in the order in which they come, dealt in turn."""
        _, first, number = np.unique(self.problems, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[number] % GROUPS

    @cached_property
    def of_kind(self) -> dict[str, np.ndarray]:
        """(n,) bool each, of the kinds that there are."""
        every = {ALL: np.ones(self.n, bool), PROMPT: self.is_prompt, COT: ~self.is_prompt}
        return {kind: chosen for kind, chosen in every.items() if chosen.any()}

    @cached_property
    def same_token(self) -> np.ndarray:
        """(n,): where the token stands in another problem; NONE where it does not."""
        return partners(self.tokens, self.problems, self._rng("same token"))

    @cached_property
    def any_token(self) -> np.ndarray:
        """(n,): any place of another problem."""
        return partners(np.zeros(self.n, int), self.problems, self._rng("any token"))

    def some(self, most: int) -> np.ndarray:
        """The indices of at most `most` positions, problems taking turns."""
        order = self._rng("some").permutation(self.n)
        turn = np.empty(self.n, int)
        for problem in np.unique(self.problems):
            own = order[self.problems[order] == problem]
            turn[own] = np.arange(len(own))
        return np.sort(order[np.argsort(turn[order], kind="stable")][:most])

    def only(self, chosen: np.ndarray) -> "Positions":
        return Positions(self.problems[chosen], self.tokens[chosen], self.is_prompt[chosen], self.seed)

    def _rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng(seed_for(self.seed, "divergence", what))


@dataclass(frozen=True, eq=False)
class Compared:
    """A number at each of some positions, of the two models, of control and null; NaN where there is none."""

    at: Positions
    values: np.ndarray
    control: np.ndarray
    null: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """A measure of the positions of one kind. Unknown is NaN."""

    value: float
    without: np.ndarray  # (n_groups,): without each group
    sizes: np.ndarray  # (n_groups,): positions in each
    n_problems: int
    control: float
    n_control: int
    null: float
    null_sd: float
    angles: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def _interval(self) -> Interval:
        if len(self.without) > 1 and (self.without == self.value).all():
            return Interval(self.value, self.value)  # nothing depends on the problem, not even by rounding
        return jackknife(self.value, self.without, self.sizes)

    def row(self, measure: str, kind: str) -> dict[str, Any]:
        """Columns of `divergence`."""
        of = MEASURES[measure]
        low, high = np.clip(self._interval, of.lowest, of.highest)
        numbers = {"value": self.value, "low": low, "high": high, "control": self.control, "null": self.null}
        return {
            "measure": measure,
            "positions": kind,
            **{name: known(float(number)) for name, number in (numbers | {"null_sd": self.null_sd}).items()},
            "n_control": self.n_control,
            "angles": self.angles.tolist() or None,
            "n_tokens": int(self.sizes.sum()),
            "n_problems": self.n_problems,
        }


def divergence(
    a: np.ndarray, b: np.ndarray, at: Positions, *, k: int, lenses: Mapping[str, Compared]
) -> Iterator[dict[str, Any]]:
    """Rows of base a and distilled b, (n, d) each, at the positions, with k components; `lenses` are KL, by measure."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = Compared(at, relative_norm(a, b), _paired(a, a, at.same_token), _paired(a, b, at.any_token))
    for measure, compared in {"relative_norm": norms, **lenses}.items():
        for kind in compared.at.of_kind:
            yield _mean(compared, kind).row(measure, kind)
    shift = a.mean(0)
    clouds = _Clouds(a - shift, b - shift, at, k)
    for kind in at.of_kind:
        yield clouds.cka(kind).row("cka", kind)
        yield clouds.angles(kind).row("principal_angle", kind)


def relative_norm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,): ‖b − a‖ / ‖a‖; NaN where a is 0."""
    length = np.linalg.norm(a, axis=1)
    return np.divide(np.linalg.norm(b - a, axis=1), length, out=np.full(len(a), math.nan), where=length > 0)


def _paired(a: np.ndarray, b: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The relative norm of a with b at its partner; NaN without one."""
    return np.where(other == NONE, math.nan, relative_norm(a, b[other]))


def _mean(of: Compared, kind: str) -> Found:
    """Of the positions of a kind, each counted once."""
    chosen = of.at.of_kind[kind] & ~np.isnan(of.values)
    values, groups = of.values[chosen], of.at.groups[chosen]
    sizes, sums = np.bincount(groups), np.bincount(groups, values)
    there = sizes > 0
    left = len(values) - sizes[there]
    without = np.divide(values.sum() - sums[there], left, out=np.full(len(left), math.nan), where=left > 0)
    control, null = (one[of.at.of_kind[kind] & ~np.isnan(one)] for one in (of.control, of.null))
    return Found(
        _mean_of(values),
        without,
        sizes[there],
        len(np.unique(of.at.problems[chosen])),
        _mean_of(control),
        len(control),
        _mean_of(null),
        float(null.std(ddof=1) / math.sqrt(len(null))) if len(null) > 1 else math.nan,
    )


def _mean_of(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


class _Clouds:
    """CKA and principal angles of two clouds of points x (base) and y, (n, d) float64 each, by kind of position."""

    def __init__(self, x: np.ndarray, y: np.ndarray, at: Positions, k: int) -> None:
        self._at, self._k, self._d = at, k, x.shape[1]
        self._groups = np.unique(at.groups)
        self._whole = _by_kind(x, y, at)
        self._left: dict[str, list[tuple[float, float]]] = {kind: [] for kind in self._whole}
        self._sizes: dict[str, list[int]] = {kind: [] for kind in self._whole}
        self._halves: list[dict[str, Products]] = [{} for _ in range(_HALVES)]
        sides = _sides(len(self._groups), at.seed)
        for number, group in enumerate(self._groups):
            for kind, part in _by_kind(x, y, at, at.groups == group).items():
                left = self._whole[kind] - part
                self._left[kind].append((left.cka, float(_angles(left.xx, left.yy, k).mean())))
                self._sizes[kind].append(part.xx.n)
                for half, side in zip(self._halves, sides, strict=True):
                    if side[number]:
                        half[kind] = half[kind] + part.xx if kind in half else part.xx
        with_partner = at.same_token != NONE
        self._same = _by_kind(x[with_partner], x[at.same_token[with_partner]], at.only(with_partner))

    def cka(self, kind: str) -> Found:
        whole, same = self._whole[kind], self._same.get(kind)
        control = (math.nan, 0) if same is None else (same.cka, same.xy.n)
        return self._found(kind, whole.cka, 0, *control, unpaired(whole.xy.n))

    def angles(self, kind: str) -> Found:
        whole = self._whole[kind]
        halves = [half[kind] for half in self._halves if kind in half]
        control = [float(_angles(half, whole.xx - half, self._k).mean()) for half in halves]
        angles = _angles(whole.xx, whole.yy, self._k)
        known_control = _mean_of(np.array(control))
        n = 0 if math.isnan(known_control) else whole.xx.n
        found = self._found(kind, float(angles.mean()), 1, known_control, n, random_angle(self._d, self._k))
        return found if math.isnan(found.value) else replace(found, angles=angles)

    def _found(
        self, kind: str, value: float, column: int, control: float, n_control: int, null: tuple[float, float]
    ) -> Found:
        without = np.array([left[column] for left in self._left[kind]])
        problems = len(np.unique(self._at.problems[self._at.of_kind[kind]]))
        return Found(value, without, np.array(self._sizes[kind]), problems, control, n_control, *null)


def _by_kind(x: np.ndarray, y: np.ndarray, at: Positions, chosen: np.ndarray | None = None) -> dict[str, Pair]:
    """The sums of the chosen positions of each kind that there is; those of all are the sum of the others."""
    some = np.ones(at.n, bool) if chosen is None else chosen
    of = {kind: some & its for kind, its in at.of_kind.items() if kind != ALL}
    found = {kind: Pair.of(x[its], y[its]) for kind, its in of.items() if its.any()}
    return {ALL: functools.reduce(operator.add, found.values()), **found} if found else {}


def _angles(one: Products, other: Products, k: int) -> np.ndarray:
    """(k,) principal angles, degrees; NaN where there are too few points for so many components."""
    if min(one.n, other.n) <= k:
        return np.full(k, math.nan)
    return principal_angles(top_components(one.scatter, k), top_components(other.scatter, k))


def _sides(n_groups: int, seed: int) -> list[np.ndarray]:
    """Divisions of the groups into halves: (n_groups,) bool each; none of a single group."""
    rng = np.random.default_rng(seed_for(seed, "divergence", "halves"))
    draws = [rng.permutation(n_groups) < n_groups // 2 for _ in range(_HALVES)]
    return draws if n_groups > 1 else [np.zeros(n_groups, bool)] * _HALVES
