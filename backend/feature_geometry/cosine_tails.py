"""Cosines of all pairs of a set of directions, in its tails: counted block by block, without the whole Gram matrix.

1. Rows are normed in float64 and rounded to float32 once: these are the directions, and **the cosine of two of them is
   the float64 dot product** of what was rounded.
2. Products are made in float32, block by block of the lower triangle, and only what lies in the tails is looked at.
   A float32 product of d terms is off by at most γ_d = d·u / (1 − d·u), u = 2⁻²⁴, in any order of summation (Higham
   2002, section 3.1): where an edge of a bin or a threshold is nearer than that, the float64 dot product decides. So
   counts are those of float64, whatever the blocks, threads and kernels.
3. Beside counts: how many exceeding pairs each row is in, from which intervals follow (pairs share rows); some pairs of
   each bin, drawn by a hash of their two numbers, so that blocks do not matter; and the spanning forest of the pairs
   above LINKED, which holds all that single linkage can say at any threshold from there on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from backend.feature_geometry.clusters import Links, Pair, clusters
from backend.models.linear import linear

EDGES = np.linspace(0.1, 1.0, 46)  # of |cos|: the bins (0.10, 0.12], …, and a last one without an upper edge
N_BINS = len(EDGES) - 1
GROUPS = 16  # of rows, by their number: what is left out at a time where two sets are compared
LINKED = 0.3  # cosine above which pairs can be linked
DUPLICATE = 0.9
BLOCK = 1024  # rows and columns of a product
_CHUNK = 256  # pairs or rows that are held in float64 at once: few enough for the processor's cache


@dataclass(frozen=True)
class Directions:
    """Unit rows, and which of the rows they were."""

    units: np.ndarray  # (n, d) float32
    numbers: np.ndarray  # (n,) int64, rising: rows of the set, those without a direction left out
    n_zero: int  # rows of norm zero

    def only(self, kept: np.ndarray) -> "Directions":
        """Those at these places."""
        return Directions(self.units[kept], self.numbers[kept], self.n_zero)


@dataclass(frozen=True)
class Beyond:
    """Pairs with |cos| above one threshold."""

    threshold: float
    n: int
    n_negative: int
    degrees: np.ndarray  # (n_rows,): of each row, how many of them it is in
    touching: np.ndarray  # (GROUPS,): how many have a row of the group, one or both


@dataclass(frozen=True)
class Tails:
    n_rows: int
    d: int
    negative: np.ndarray  # (N_BINS,): pairs with −cos in each bin
    positive: np.ndarray  # (N_BINS,)
    beyond: Mapping[str, Beyond]
    group_rows: np.ndarray  # (GROUPS,): rows of each
    drawn: tuple[tuple[Pair, ...], ...] = ()  # of each signed bin, from −1 up to 1
    links: tuple[Pair, ...] = ()  # the spanning forest, strongest first

    @property
    def n_pairs(self) -> int:
        return self.n_rows * (self.n_rows - 1) // 2


def directions(rows: np.ndarray, *, given_away: bool = False) -> Directions:
    """The rows' directions; a row of zeros has none. float32 rows that are `given_away` become them in their place."""
    norms = np.empty(len(rows))
    for own in _slices(len(rows)):
        norms[own] = np.linalg.norm(rows[own].astype(np.float64), axis=1)
    numbers = np.flatnonzero(norms > 0)
    in_place = given_away and len(numbers) == len(rows)
    units = rows if in_place else np.empty((len(numbers), rows.shape[1]), np.float32)
    for own in _slices(len(numbers)):
        units[own] = rows[numbers[own]].astype(np.float64) / norms[numbers[own], None]
    return Directions(units, numbers, len(rows) - len(numbers))


def tails(
    of: Directions, thresholds: Mapping[str, float], *, drawn: int = 0, linked: bool = False, block: int = BLOCK
) -> Tails:
    """All pairs' cosines, binned, and counted beyond each threshold; `drawn` pairs of each bin at most."""
    edges = np.unique([*EDGES[:-1], *thresholds.values(), *([LINKED, DUPLICATE] if linked else [])])
    bin_of = (
        np.searchsorted(EDGES[:-1], edges, side="right") - 1
    )  # of what lies just above each edge; −1: below all bins
    counter = _Counter(of, thresholds, edges, bin_of)
    samples = _Samples(drawn) if drawn else None
    links = Links(len(of.units)) if linked else None
    for i, j, cosine, place in exceeding(of.units, edges, block=block):
        is_positive = cosine > 0
        counter.add(i, j, is_positive, place)
        if samples is not None:
            samples.add(i, j, is_positive, bin_of[place])
        if links is not None:
            near = cosine > LINKED
            links.add(i[near], j[near], cosine[near])
    return counter.result(
        drawn=samples.pairs(of) if samples else (),
        links=_pairs(of, *links.forest()) if links else (),
    )


def exceeding(
    units: np.ndarray, edges: np.ndarray, *, block: int = BLOCK
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(i, j, cosine, place) of the pairs i > j with |cos| above the first edge, some at a time: edges[place] is the
    last edge that it lies above, in float64.
    """
    off = error_bound(units.shape[1])
    fence = np.concatenate([[-np.inf], edges, [np.inf]])
    for top, left, product in _blocks(units, block):
        far = np.abs(product) > np.float32(edges[0] - off)
        if top == left:
            far = np.tril(far, -1)
        i, j = np.nonzero(far)
        cosine = product[far].astype(np.float64)
        sizes = np.abs(cosine)
        place = np.searchsorted(edges, sizes)
        near = (sizes - fence[place] <= off) | (fence[place + 1] - sizes <= off)
        i, j = i + top, j + left
        cosine[near] = exact(units, i[near], j[near])
        place[near] = np.searchsorted(edges, np.abs(cosine[near]))
        kept = place > 0
        found = (i, j, cosine, place) if kept.all() else (i[kept], j[kept], cosine[kept], place[kept])
        yield (*found[:3], found[3] - 1)


def exact(units: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The cosines of these pairs, in float64; what rounding leaves beyond 1 is 1."""
    found = np.empty(len(i))
    for own in _slices(len(i)):
        found[own] = (units[i[own]].astype(np.float64) * units[j[own]].astype(np.float64)).sum(1)
    return np.clip(found, -1, 1)


def _slices(n: int) -> Iterator[slice]:
    return (slice(at, at + _CHUNK) for at in range(0, n, _CHUNK))


def error_bound(d: int) -> float:
    """By how much a float32 dot product of unit rows of d values may be off, and a little for their own rounding."""
    share = d * 2.0**-24
    return 1.001 * share / (1 - share)


def duplicates(links: Sequence[Pair]) -> set[int]:
    """Rows that repeat an earlier one: of those connected by cosines above DUPLICATE, all but the first."""
    return {row for cluster in clusters(links, DUPLICATE) for row in cluster[1:]}


def _blocks(units: np.ndarray, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Products of rows `top` on with rows `left` on, over the lower triangle."""
    tensor = torch.from_numpy(units)
    for top in range(0, len(units), size):
        for left in range(0, top + 1, size):
            yield top, left, linear(tensor[top : top + size], tensor[left : left + size]).numpy()


def _pairs(of: Directions, i: np.ndarray, j: np.ndarray) -> tuple[Pair, ...]:
    """With the float64 cosine of each, the strongest first."""
    ends = np.sort(np.stack([of.numbers[i], of.numbers[j]]), axis=0)
    found = [Pair(int(a), int(b), float(cosine)) for a, b, cosine in zip(*ends, exact(of.units, i, j), strict=True)]
    return tuple(sorted(found, key=lambda pair: (-abs(pair.cosine), pair.a, pair.b)))


class _Counter:
    def __init__(self, of: Directions, thresholds: Mapping[str, float], edges: np.ndarray, bin_of: np.ndarray) -> None:
        self.of, self.thresholds, self.bin_of = of, thresholds, bin_of
        self.groups = of.numbers % GROUPS
        self.places = {name: int(np.searchsorted(edges, threshold)) for name, threshold in thresholds.items()}
        self.signed = np.zeros((2, len(edges)), np.int64)  # below 0, above 0: pairs just above each edge
        self.degrees = {name: np.zeros(len(of.units), np.int64) for name in thresholds}
        self.within = {name: np.zeros(GROUPS, np.int64) for name in thresholds}

    def add(self, i: np.ndarray, j: np.ndarray, is_positive: np.ndarray, place: np.ndarray) -> None:
        n_edges = self.signed.shape[1]
        self.signed += np.bincount(is_positive * n_edges + place, minlength=2 * n_edges).reshape(2, n_edges)
        for name, first in self.places.items():
            far = place >= first
            if not far.any():
                continue
            rows, columns = i[far], j[far]
            for ends in (rows, columns):
                start = int(ends.min())
                own = np.bincount(ends - start)
                self.degrees[name][start : start + len(own)] += own
            groups = self.groups[rows]
            self.within[name] += np.bincount(groups[groups == self.groups[columns]], minlength=GROUPS)

    def result(self, *, drawn: tuple[tuple[Pair, ...], ...], links: tuple[Pair, ...]) -> Tails:
        beyond = {}
        for name, first in self.places.items():
            ends = np.bincount(self.groups, weights=self.degrees[name], minlength=GROUPS).astype(np.int64)
            negative, positive = (int(side[first:].sum()) for side in self.signed)
            touching = ends - self.within[name]
            beyond[name] = Beyond(self.thresholds[name], negative + positive, negative, self.degrees[name], touching)
        sides = [np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64)]
        for side, counts in zip(sides, self.signed, strict=True):
            np.add.at(side, self.bin_of[self.bin_of >= 0], counts[self.bin_of >= 0])
        return Tails(
            n_rows=len(self.of.units),
            d=self.of.units.shape[1],
            negative=sides[0],
            positive=sides[1],
            beyond=beyond,
            group_rows=np.bincount(self.groups, minlength=GROUPS),
            drawn=drawn,
            links=links,
        )


@dataclass
class _Samples:
    """Of each signed bin the pairs with the smallest hashes: a random sample that no order of blocks changes."""

    most: int
    bins: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    ends: np.ndarray = field(default_factory=lambda: np.empty((2, 0), np.int64))
    bounds: np.ndarray = field(default_factory=lambda: np.full(2 * N_BINS, np.iinfo(np.uint64).max, np.uint64))

    def add(self, i: np.ndarray, j: np.ndarray, is_positive: np.ndarray, bins: np.ndarray) -> None:
        hashes = _hashes(i, j)
        place = np.where(is_positive, N_BINS + bins, N_BINS - 1 - bins)
        few = (bins >= 0) & (hashes <= self.bounds[np.where(bins >= 0, place, 0)])
        if not few.any():
            return
        self.bins = np.concatenate([self.bins, place[few]])
        self.hashes = np.concatenate([self.hashes, hashes[few]])
        self.ends = np.concatenate([self.ends, np.stack([i[few], j[few]])], axis=1)
        self._prune()

    def _prune(self) -> None:
        order = np.lexsort((self.ends[1], self.ends[0], self.hashes, self.bins))
        bins = self.bins[order]
        rank = np.arange(len(bins)) - np.searchsorted(bins, bins)
        order = order[rank < self.most]
        self.bins, self.hashes, self.ends = self.bins[order], self.hashes[order], self.ends[:, order]
        full, counts = np.unique(self.bins, return_counts=True)
        for place in full[counts == self.most]:
            self.bounds[place] = self.hashes[self.bins == place].max()

    def pairs(self, of: Directions) -> tuple[tuple[Pair, ...], ...]:
        return tuple(_pairs(of, *self.ends[:, self.bins == place]) for place in range(2 * N_BINS))


def _hashes(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """A number of each pair that looks random."""
    mixed = (i.astype(np.uint64) << np.uint64(32) | j.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
