"""Many pairs are looked at, so some are striking by chance: Benjamini and Hochberg's q (1995) over the pairs of one
subset.

Claiming every pair with q at most 0.05 makes at most one claim in twenty false on average, where the p are independent
or rise together. A law must show within CoTs both with and without the covariates held fixed, so the p that q is made
of is the larger of those two.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from backend.evidence.rows import evidence_of
from backend.evidence.rule import P_ALONE, Q_GRID, decisive_p
from backend.evidence.verdict import verdict
from backend.schema.tables import TABLES
from backend.store.geometry_columns import IMPORTANCE, columns_of

_KEY = TABLES["associations"].key


def judged(pairs: pd.DataFrame) -> pd.DataFrame:
    """The stored pairs (`Store.associations`) with `q`, `p_allowed`, `shared` and the verdict that q leaves of each:
    largest |ρ within CoTs| first, then those where chance is unknown, then unknown ρ.

    q is over all pairs of a subset in the study; pairs of two importance metrics are a family of their own. Nothing of
    it is stored, and so it is never older than the pairs. `shared` says why a pair is never claimed, and is empty for
    the others.
    """
    families = [rows.to_dict("records") for _, rows in pairs.groupby(pairs["x"].isin(columns_of(IMPORTANCE)))]
    found = pd.DataFrame(
        [row for rows in families for row in with_q(rows)], columns=[*pairs.columns, "shared", "q", "p_allowed"]
    )
    order = {"untested": found["p"].isna(), "size": -found["within"].astype(float).abs()}
    by_size = found.assign(**order).sort_values([*order, *_KEY], na_position="last").index
    return found.loc[by_size].reset_index(drop=True)


def with_q(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `associations`, in their order, with `q` over the rows of the same subset, and `verdict` none where q
    is above 0.05.

    `p_allowed` is what the p of q may be at most for the pair to be claimed among the others. A row without p has no q
    (None), and does not count among those looked at; nor does one that no rule of today has judged (its verdict stays
    unknown), nor one whose x and y are not measured apart: what they share is in `shared`, and its verdict is none.
    """
    from scipy.stats import false_discovery_control

    done = [{**row, "q": None, "p_allowed": None, "shared": shared(row)} for row in rows]
    for row in done:
        row["verdict"] = "none" if row["shared"] else _by_itself(row)
    for subset in {row["subset"] for row in done}:
        own = [
            row
            for row in done
            if row["subset"] == subset and _known(row["p"]) and _known(row["verdict"]) and not row["shared"]
        ]
        p = [decisive_p(row["p"], row["partial_p"]) for row in own]
        q = false_discovery_control(p, method="bh") if own else []
        for row, value, allowed in zip(own, q, _allowed(p), strict=True):
            row |= {"q": float(value), "p_allowed": min(P_ALONE, allowed)}
            row["verdict"] = row["verdict"] if value <= Q_GRID else "none"
    return done


def _allowed(p: Sequence[float]) -> list[float]:
    """For each p, the largest that it could be with q at most 0.05, the others being what they are."""
    import numpy as np

    ranks = np.arange(len(p))
    steps = Q_GRID * (ranks + 1) / max(len(p), 1)
    below = np.searchsorted(np.sort(p), steps, side="right")  # how many p lie at or below each step
    largest = np.flatnonzero(below - 1 >= ranks).max(
        initial=-1
    )  # step that the others reach where the pair itself lies below it
    above = np.maximum.accumulate(np.where(below >= ranks, ranks, -1))  # likewise, up to each step, where it lies above
    reached = [
        largest if largest >= 0 and value <= steps[largest] else above[np.searchsorted(steps, value) - 1] for value in p
    ]
    return [float(steps[step]) for step in reached]


def shared(pair: Mapping[str, Any]) -> str:
    """What makes x and y of a pair depend on each other however the world is, so that no permutation is its null; else
    empty.

    `pair` has the columns that name a row of `associations`.
    """
    if pair["metric"].startswith("forced"):  # forced answers are a sample of their own
        return ""
    of_rollouts = "the direction was made from the same rollouts"
    if (
        pair["kind"] == "diff_in_means"
    ):  # anchors are chosen by a KL of these rollouts, which is large where few of them are dissimilar
        return of_rollouts
    if pair["kind"] == "counterfactual":  # from the dissimilar ones
        return of_rollouts
    return "both are measured on the same rollouts" if pair["x"] in columns_of(IMPORTANCE) else ""


def _by_itself(row: Mapping[str, Any]) -> str | None:
    """The verdict of today's rule on the row's own numbers, whichever rule was there when it was stored; None where no
    rule over what happens within CoTs has judged it.
    """
    return verdict(evidence_of({**row, "q": None})) if _known(row["verdict"]) else None


def _known(value: float | str | None) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
