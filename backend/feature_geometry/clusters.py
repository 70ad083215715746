"""Directions that hang together: connected by pairs whose cosine lies above a threshold (single linkage).

The components at every threshold follow from a spanning forest of the pairs, strongest first: at most one pair fewer
than there are rows, whatever the number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

_HELD = 200_000  # pairs that wait until they are thinned


@dataclass(frozen=True)
class Pair:
    """Two rows by their numbers in the set, the smaller first."""

    a: int
    b: int
    cosine: float


class Links:
    """The spanning forest of pairs that come some at a time."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self._kept: tuple[np.ndarray, ...] = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._n_waiting = 0

    def add(self, i: np.ndarray, j: np.ndarray, cosine: np.ndarray) -> None:
        if len(i):
            self._waiting.append((i, j, cosine))
            self._n_waiting += len(i)
        if self._n_waiting > _HELD:
            self._thin()

    def forest(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows i and j of each of its pairs."""
        self._thin()
        return self._kept[0], self._kept[1]

    def _thin(self) -> None:
        if not self._waiting:
            return
        i, j, cosine = (np.concatenate(parts) for parts in zip(self._kept, *self._waiting, strict=True))
        # Ranks in place of cosines: a stored weight of 0 would be no pair, and ties are cut by the rows' numbers.
        order = np.lexsort((j, i, -cosine))
        i, j, cosine = i[order], j[order], cosine[order]
        weights = coo_array((np.arange(1, len(i) + 1, dtype=np.float64), (i, j)), shape=(self.n_rows, self.n_rows))
        kept = np.sort(minimum_spanning_tree(weights.tocsr()).data.astype(np.int64)) - 1
        self._kept, self._waiting, self._n_waiting = (i[kept], j[kept], cosine[kept]), [], 0


def clusters(links: Sequence[Pair], above: float) -> list[list[int]]:
    """Rows that are connected by links with a cosine above `above`, two or more at a time; the largest cluster first,
    each in rising order.
    """
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while (up := parent.setdefault(row, row)) != row:
            parent[row] = parent[up]
            row = parent[up]
        return row

    for link in links:
        if link.cosine > above:
            parent[root(link.a)] = root(link.b)
    found: dict[int, list[int]] = {}
    for row in sorted(parent):
        found.setdefault(root(row), []).append(row)
    return sorted(found.values(), key=lambda rows: (-len(rows), rows))
