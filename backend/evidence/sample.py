"""The chunks of one pair of measures that take part: both values known, in an order that depends on the values alone.

Two subsets. `all`: every chunk. `away_from_origin`: without the chunks at or below the median of both measures, the crowded corner of the
scatter. Leaving that corner out makes any two measures fall together, related or not: of the chunks with a small x only those with a large
y are left. What that selection fakes is the contrast between small and large x; among the chunks on one side of the median of x every
value of y that is left may belong to every chunk. So there y is permuted within CoT and side (a permutation that keeps the subset what it
is, as in tests for truncated data: Tsai 1990, Biometrika 77, 169), and the null is centred on what the selection alone gives.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError

SUBSETS = ("all", "away_from_origin")


@dataclass(frozen=True)
class Sample:
    """Chunks in ascending order of `problems` and, within them, of `strata`; every array is (n,)."""

    rows: pd.DataFrame  # the rows of the frame, all columns, in this order
    x: np.ndarray
    y: np.ndarray
    problems: np.ndarray  # number of the chunk's problem, 0-based
    strata: np.ndarray  # number of the group within which y may be permuted: the CoT, away from the origin the CoT and side
    n_problems: int
    n_cots: int
    n_missing: int  # rows where x or y is unknown
    n_near: int  # rows left out for lying near the origin

    def __len__(self) -> int:
        return len(self.x)


def sample_of(frame: pd.DataFrame, subset: str = "all") -> Sample:
    """`frame` has `x`, `y`, `cot_id`, `problem_id`. The order of its rows changes nothing."""
    if subset not in SUBSETS:
        raise AnchorscopeError(f"the subsets are {', '.join(SUBSETS)}; got {subset}")
    if missing := [column for column in ("x", "y", "cot_id", "problem_id") if column not in frame.columns]:
        raise AnchorscopeError(f"an association needs the columns x, y, cot_id and problem_id; missing: {', '.join(missing)}")
    known = frame[frame["x"].notna() & frame["y"].notna()].astype({"x": "float64", "y": "float64"})
    for column in ("problem_id", "cot_id"):
        if without := int(known[column].isna().sum()):
            raise AnchorscopeError(f"{without} chunks have no {column}; permutations are within CoTs and intervals over problems")
    right = known["x"] > known["x"].median()
    away = right | (known["y"] > known["y"].median())
    kept = known[away].assign(_side=right) if subset == "away_from_origin" else known.assign(_side=False)
    rows = kept.sort_values(["problem_id", "cot_id", "_side", "x", "y"])
    problems, names = pd.factorize(rows["problem_id"])
    strata = rows.groupby(["problem_id", "cot_id", "_side"], sort=True).ngroup().to_numpy()
    return Sample(
        rows=rows, x=rows["x"].to_numpy(), y=rows["y"].to_numpy(), problems=problems, strata=strata,
        n_problems=len(names), n_cots=rows["cot_id"].nunique(), n_missing=len(frame) - len(known), n_near=len(known) - len(rows),
    )
