"""What a map of a lens can be coloured by, one entry each. Nothing here imports a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backend.lens.grid import Grid
from backend.registry import Registry


@dataclass(frozen=True)
class Quantity:
    name: str
    label: str
    unit: str | None
    meaning: str
    of_followed: bool  # of the token that is followed, not of the cell
    is_log: bool  # drawn as log10
    low_is_sure: bool  # the strong end of the scale is the low one
    most: Callable[[int], float]  # where the scale ends, by the size of the vocabulary: the same for every map
    of: Callable[[Grid, int], np.ndarray]  # (n_layers, n_places), by the number of the followed token

    def values(self, grid: Grid, followed: int = 0) -> np.ndarray:
        """(n_layers, n_places), as drawn: log10 where it is so; unknown is NaN."""
        found = self.of(grid, followed)
        return np.log10(found) if self.is_log else found


def _rank(grid: Grid, followed: int) -> np.ndarray:
    rank = grid.rank[followed].astype(float)
    return np.where(rank < 1, np.nan, rank)


QUANTITIES: Registry[Quantity] = Registry(
    "quantity",
    Quantity(
        "probability",
        "probability of the top token",
        None,
        "how sure the reading is of its likeliest token",
        False,
        False,
        False,
        lambda _: 1.0,
        lambda grid, _: grid.probability,
    ),
    Quantity(
        "entropy",
        "entropy",
        "nats",
        "entropy of the whole reading: 0 where one token has all the probability",
        False,
        False,
        True,
        math.log,
        lambda grid, _: grid.entropy,
    ),
    Quantity(
        "kl",
        "KL to the final layer",
        "nats",
        "KL(model ‖ lens): what is lost by reading here in place of at the end; 0 in the last row",
        False,
        False,
        True,
        math.log,
        lambda grid, _: grid.kl,
    ),
    Quantity(
        "rank",
        "rank of the followed token",
        "log₁₀",
        "how many tokens are at least as likely as the followed one: 1 where it is the top token",
        True,
        True,
        True,
        math.log10,
        _rank,
    ),
    Quantity(
        "followed",
        "probability of the followed token",
        None,
        "of the followed token at this layer and place",
        True,
        False,
        False,
        lambda _: 1.0,
        lambda grid, followed: np.exp(grid.log_prob[followed]),
    ),
)
