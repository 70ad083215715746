"""What answers forced at the cap, and rollouts drawn later at one chunk, change: a metric with them, as it counts,
against it from the study's own rollouts and the answers that these gave.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.statistics.resampling import spearman


def given_alone(rollouts: pd.DataFrame) -> pd.DataFrame:
    """The study's own of the rollouts, with the answers that they gave. `rollouts` are rows of `Store.rollouts_of`."""
    own = rollouts[rollouts["added_id"].isna()]
    return own.assign(answer=own["given_answer"], is_correct=own["given_is_correct"])


def is_given_alone(rollouts: pd.DataFrame) -> bool:
    """Whether there are no others."""
    forced = rollouts["answer"].notna() & rollouts["given_answer"].isna()
    return not (forced | rollouts["added_id"].notna()).any()


@dataclass(frozen=True)
class Moves:
    """What they change over a study's chunks."""

    n: int  # chunks whose value is known both ways
    n_moved: int  # of them
    n_gained: int  # known only with them
    rho: float  # Spearman's, over the n; NaN where one side is constant
    largest: float  # the move of largest size, with − without; NaN where n = 0
    chunk_id: str | None  # of the largest move; None where nothing moved


def moves(found: pd.DataFrame) -> Moves:
    """The summary of rows of `Store.with_and_without`."""
    both = found[found["value"].notna() & found["without"].notna()]
    n_gained = int((found["value"].notna() & found["without"].isna()).sum())
    if both.empty:
        return Moves(0, 0, n_gained, math.nan, math.nan, None)
    value, without = (both[name].to_numpy(dtype=np.float64) for name in ("value", "without"))
    change = value - without
    at, n_moved = int(np.abs(change).argmax()), int((change != 0).sum())
    chunk = str(both["chunk_id"].iloc[at]) if n_moved else None
    return Moves(len(both), n_moved, n_gained, spearman(value, without), float(change[at]), chunk)
