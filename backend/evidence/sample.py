"""The chunks of one pair of measures that take part: both values known, in an order that depends on the values alone.

Two subsets. `all`: every chunk. `away_from_origin`: without the chunks whose sizes |x| and |y| are at or below the
median of both, the crowded corner of the scatter. Leaving that corner out makes any two measures fall together, related
or not: of the chunks with a small x only those with a large y are left. What that selection fakes is the contrast
between small and large x; among the chunks on one side of the median of x every value of y that is left may belong to
every chunk. So there y is permuted within CoT and side (a permutation that keeps the subset what it is, as in tests for
truncated data: Tsai 1990, Biometrika 77, 169), and the null is centred on what the selection alone gives.
"""

from dataclasses import dataclass, replace

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
    cots: np.ndarray  # likewise
    strata: (
        np.ndarray
    )  # number of the group within which y may be permuted: the CoT, away from the origin the CoT and side
    n_missing: int  # rows where x or y is unknown
    n_near: int  # rows left out for lying near the origin
    subset: str  # one of SUBSETS

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_problems(self) -> int:
        return int(self.problems[-1]) + 1 if len(self) else 0

    @property
    def n_cots(self) -> int:
        return int(self.cots[-1]) + 1 if len(self) else 0

    def only(self, chosen: np.ndarray) -> "Sample":
        """The chunks where `chosen`, (n,) of bool, is true."""
        return replace(
            self,
            rows=self.rows[chosen],
            x=self.x[chosen],
            y=self.y[chosen],
            problems=_numbered(self.problems[chosen]),
            cots=_numbered(self.cots[chosen]),
            strata=_numbered(self.strata[chosen]),
        )


def sample_of(frame: pd.DataFrame, subset: str = "all") -> Sample:
    """`frame` has `x`, `y`, `cot_id`, `problem_id`. The order of its rows changes nothing."""
    if subset not in SUBSETS:
        raise AnchorscopeError(f"the subsets are {', '.join(SUBSETS)}; got {subset}")
    if missing := [column for column in ("x", "y", "cot_id", "problem_id") if column not in frame.columns]:
        raise AnchorscopeError(
            f"an association needs the columns x, y, cot_id and problem_id; missing: {', '.join(missing)}"
        )
    x, y = (frame[column].to_numpy(dtype=np.float64, na_value=np.nan) for column in ("x", "y"))
    known = ~(np.isnan(x) | np.isnan(y))
    problems, cots = (pd.factorize(frame[column], sort=True)[0] for column in ("problem_id", "cot_id"))
    for column, codes in (("problem_id", problems), ("cot_id", cots)):
        if without := int((codes[known] < 0).sum()):
            raise AnchorscopeError(
                f"{without} chunks have no {column}; permutations are within CoTs and intervals over problems"
            )
    kept, side = known, np.zeros(len(x), dtype=bool)
    if subset == "away_from_origin" and known.any():
        side = np.abs(x) > np.median(np.abs(x[known]))
        kept = known & (side | (np.abs(y) > np.median(np.abs(y[known]))))
    order = np.lexsort((y, x, side, cots, problems))
    order = order[kept[order]]
    return Sample(
        rows=frame.iloc[order],
        x=x[order],
        y=y[order],
        problems=_numbered(problems[order]),
        cots=_numbered(problems[order], cots[order]),
        strata=_numbered(problems[order], cots[order], side[order]),
        n_missing=int((~known).sum()),
        n_near=int((known & ~kept).sum()),
        subset=subset,
    )


def _numbered(*sorted_codes: np.ndarray) -> np.ndarray:
    """0, 0, 1, …: one up wherever any of the codes, sorted by the first and then the next, changes."""
    changes = np.zeros(len(sorted_codes[0]), dtype=np.int64)
    for codes in sorted_codes:
        changes[1:] |= codes[1:] != codes[:-1]
    return np.cumsum(changes)
