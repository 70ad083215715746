"""How far decoder rows cluster: the share of their pairs that are nearer to a line than isotropic ones hardly ever are.

1. Rows of features that fire nowhere keep what they began with, and rows of one feature that was learned twice are a
   pair of cosine 1: both are left out (`distinct`), and both are counted.
2. Of the pairs that are left, the share with |cosine| above t, where isotropic pairs exceed t with a stated
   probability: that depends on the width alone, so that layers and models are compared at one *exceedance*, not at one
   t.
"""

from dataclasses import dataclass

import numpy as np

from backend.feature_geometry import exact_law
from backend.feature_geometry.cosine_tails import DUPLICATE, directions, tails

_BLOCK = 1024  # rows


@dataclass(frozen=True)
class Tail:
    threshold: float  # |cosine|
    n_rows: int
    n_pairs: int
    n_beyond: int

    @property
    def share(self) -> float | None:
        """Of the pairs; None where there are none."""
        return self.n_beyond / self.n_pairs if self.n_pairs else None


def distinct(rows: np.ndarray) -> np.ndarray:
    """(n,) whether each row is kept: not one whose cosine with an earlier kept row is above DUPLICATE."""
    unit = _unit(rows)
    kept = np.ones(len(unit), bool)
    for first in range(0, len(unit), _BLOCK):
        near = unit[first : first + _BLOCK] @ unit[: first + _BLOCK].T > DUPLICATE
        for inner in np.flatnonzero(np.tril(near, first - 1).any(1)):
            kept[first + inner] = not (near[inner, : first + inner] & kept[: first + inner]).any()
    return kept


def tail(rows: np.ndarray, exceedance: float) -> Tail:
    """Of all pairs of `rows` (n, width) that have a direction."""
    t, of = exact_law.threshold(exceedance, rows.shape[1]), directions(rows)
    n = len(of.units)
    return Tail(t, n, n * (n - 1) // 2, tails(of, {"beyond": t}).beyond["beyond"].n if n > 1 else 0)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
