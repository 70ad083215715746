"""Parallelograms among the rows of a dictionary: quadruples of features with b − a near d − c.

1. Rows are unit vectors. Dead ones do not take part, and of rows that are alike (cosine above 0.9) only the first does:
   two pairs of duplicates are a parallelogram of no interest.
2. Sides are differences of two rows: half of them of a row and one of its nearest neighbours, half of two rows drawn at
   random; at most so many as are asked for. All sides are matched with all others in blocks: memory grows with the
   number of sides, not with its square.
3. Every side keeps its best match: the side of four distinct rows with the least parallelogram loss.
4. Searching finds small losses anywhere, and two short sides make one by themselves. So each null is searched in the
   same way (`SEARCHED`): rows whose coordinates are shuffled, each coordinate among the rows; Gaussian rows of the same
   mean and covariance; and the rows' own sides against the same sides turned by one random rotation, which keeps all
   lengths and how sides lie among themselves, so that what the rows have beyond it is parallel sides, not short ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backend.feature_geometry.parallelograms import curve
from backend.ids import seed_for

SEARCHED = {  # by name: words
    "rows": "the dictionary's rows",
    "shuffled": "rows of shuffled coordinates",
    "covariance": "Gaussian rows of the same mean and covariance",
    "turned": "the rows' sides against themselves, turned at random",
}
ALIKE = 0.9  # a cosine from which rows count as duplicates
_NEIGHBOURS = 2  # of a row, with which it makes sides
_BLOCK = 512  # sides at a time


@dataclass(frozen=True, eq=False)
class Rows:
    """Unit rows that take part."""

    features: np.ndarray  # (n,) numbers in the dictionary
    vectors: np.ndarray  # (n, d) float32
    n_dead: int
    n_alike: int


@dataclass(frozen=True, eq=False)
class Sides:
    """Differences to − from of rows, by their places."""

    start: np.ndarray  # (m,)
    end: np.ndarray
    differences: np.ndarray  # (m, d) float32


@dataclass(frozen=True)
class Quadruple:
    """b − a against d − c, places of rows."""

    a: int
    b: int
    c: int
    d: int
    loss: float
    cosine: float  # of the two sides


@dataclass(frozen=True, eq=False)
class Found:
    """What one search gave."""

    best: np.ndarray  # (m,): least loss of each side; NaN where it has no match
    quadruples: tuple[Quadruple, ...]  # each once, least loss first

    @property
    def curve(self) -> np.ndarray:
        return curve(self.best[~np.isnan(self.best)])

    @property
    def median(self) -> float:
        return float(np.nanmedian(self.best)) if (~np.isnan(self.best)).any() else math.nan

    @property
    def smallest(self) -> float:
        return float(np.nanmin(self.best)) if (~np.isnan(self.best)).any() else math.nan


def usable(vectors: np.ndarray, dead: np.ndarray) -> Rows:
    """Rows (n, d) without dead ones (n,) and without all but the first of those that are alike."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    dead = dead | ~(norms > 0)
    alive = np.flatnonzero(~dead)
    unit = (vectors[alive] / norms[alive, None]).astype(np.float32)
    kept = np.ones(len(alive), dtype=bool)
    for start in range(0, len(alive), _BLOCK):
        alike = unit[start : start + _BLOCK] @ unit.T > ALIKE
        for place, others in enumerate(alike, start):
            if kept[place]:
                kept[place + 1 :] &= ~others[place + 1 :]
    return Rows(alive[kept], unit[kept], int(dead.sum()), int((~kept).sum()))


def search(name: str, vectors: np.ndarray, *, sides: int, keep: int, seed: int, draw: int = 0) -> Found:
    """The search of `SEARCHED` on unit rows (n, d), with at most `sides` sides, which the seed draws alike for every
    draw of a null.
    """
    rng = np.random.default_rng(seed_for("feature quadruples", name, seed, draw))
    match name:
        case "rows":
            own = _sides(vectors, sides, seed)
            return _matched(own, own.differences, keep)
        case "shuffled":
            shuffled = np.stack([rng.permutation(column) for column in vectors.T], axis=1)
            own = _sides(_unit(shuffled), sides, seed)
            return _matched(own, own.differences, keep)
        case "covariance":
            own = _sides(_unit(_gaussian(vectors, rng)), sides, seed)
            return _matched(own, own.differences, keep)
        case "turned":
            own = _sides(vectors, sides, seed)
            return _matched(own, own.differences @ _rotation(vectors.shape[1], rng), keep)
    raise ValueError(f"searched are {', '.join(SEARCHED)}, not {name!r}")


def _sides(vectors: np.ndarray, most: int, seed: int) -> Sides:
    """Each pair of rows once."""
    n = len(vectors)
    rng = np.random.default_rng(seed_for("sides", seed, n, most))
    near = np.array(sorted({(min(i, j), max(i, j)) for i, j in _neighbours(vectors)}), dtype=np.int64).reshape(-1, 2)
    near = near[rng.permutation(len(near))[: most // 2]]
    drawn = rng.integers(n, size=(most - len(near), 2)) if n > 1 else np.empty((0, 2), dtype=np.int64)
    pairs = np.unique(np.concatenate([near, np.sort(drawn, axis=1)]), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    start, end = pairs.T
    return Sides(start, end, vectors[end] - vectors[start])


def _neighbours(vectors: np.ndarray) -> Iterator[tuple[int, int]]:
    k = min(_NEIGHBOURS, len(vectors) - 1)
    for start in range(0, len(vectors) if k > 0 else 0, _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        for place, others in enumerate(np.argpartition(cosines, -k, axis=1)[:, -k:].tolist(), start):
            yield from ((place, other) for other in others)


def _matched(sides: Sides, others: np.ndarray, keep: int) -> Found:
    """Every side with its best match among `others` (m, d), the differences of the same sides or those turned.

    Of a side, the loss is least where ‖other‖² − 2 |side · other| is, because four unit rows have one size.
    """
    squares = np.einsum("ij,ij->i", sides.differences, sides.differences)
    m = len(squares)
    partner, dots, found = np.zeros(m, dtype=np.int64), np.zeros(m), np.zeros(m, dtype=bool)
    touching = _touching(sides)
    for begin in range(0, m, _BLOCK):
        products = sides.differences[begin : begin + _BLOCK] @ others.T
        cost = np.abs(products)
        cost *= -2
        cost += squares
        for place in range(len(cost)):
            cost[place, touching[sides.start[begin + place]]] = np.inf
            cost[place, touching[sides.end[begin + place]]] = np.inf
        own, at = np.arange(len(cost)), cost.argmin(1)
        rows = slice(begin, begin + len(cost))
        partner[rows], dots[rows], found[rows] = at, products[own, at], np.isfinite(cost[own, at])
    both = (squares + squares[partner]).astype(np.float64)
    best = np.where(found, np.sqrt(np.maximum(both - 2 * np.abs(dots), 0)) / 2, np.nan)
    return Found(best, _quadruples(sides, squares.astype(np.float64), best, partner, np.sign(dots), keep))


def _touching(sides: Sides) -> list[np.ndarray]:
    """By row: the sides that begin or end there."""
    n = int(sides.end.max(initial=-1)) + 1
    at, side = np.concatenate([sides.start, sides.end]), np.tile(np.arange(len(sides.start)), 2)
    order = np.argsort(at, kind="stable")
    return np.split(side[order], np.searchsorted(at[order], np.arange(1, n)))


def _quadruples(
    sides: Sides, squares: np.ndarray, best: np.ndarray, partner: np.ndarray, sign: np.ndarray, keep: int
) -> tuple[Quadruple, ...]:
    found: dict[tuple[int, ...], Quadruple] = {}
    for one in np.argsort(best, kind="stable").tolist():
        if len(found) == keep or math.isnan(best[one]):
            break
        two = int(partner[one])
        a, b = int(sides.start[one]), int(sides.end[one])
        c, d = (sides.start, sides.end) if sign[one] > 0 else (sides.end, sides.start)
        size = math.sqrt(squares[one] * squares[two])
        cosine = (squares[one] + squares[two] - 4 * best[one] ** 2) / (2 * size) if size > 0 else math.nan
        quadruple = Quadruple(a, b, int(c[two]), int(d[two]), float(best[one]), float(cosine))
        found.setdefault(tuple(sorted((a, b, quadruple.c, quadruple.d))), quadruple)
    return tuple(found.values())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _gaussian(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    exact = vectors.astype(np.float64)
    centred = exact - exact.mean(0)
    spread, axes = np.linalg.eigh(centred.T @ centred / len(exact))
    drawn = rng.standard_normal(exact.shape) * np.sqrt(np.maximum(spread, 0))
    return exact.mean(0) + drawn @ axes.T


def _rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on the orthogonal matrices (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return (q * np.sign(np.diagonal(r))).astype(np.float32)
