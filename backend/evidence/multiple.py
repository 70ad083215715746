"""Many pairs are looked at, so some are striking by chance: Benjamini and Hochberg's q (1995) over the pairs of one subset.

Claiming every pair with q at most 0.05 makes at most one claim in twenty false on average, where the p are independent or rise together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from backend.evidence.verdict import Q_GRID
from backend.store.geometry_queries import IMPORTANCE


def with_q(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `associations`, in their order, with `q` over the rows of the same subset, and `verdict` none where q is above 0.05.

    A row without p has no q (None), and does not count among those looked at; nor does one whose x and y are not measured apart: what they
    share is in `shared`, and its verdict is none.
    """
    from scipy.stats import false_discovery_control

    done = [{**row, "q": None, "shared": shared(row)} for row in rows]
    for row in done:
        row["verdict"] = "none" if row["shared"] else row["verdict"]
    for subset in {row["subset"] for row in done}:
        own = [row for row in done if row["subset"] == subset and _known(row["p"]) and not row["shared"]]
        q = false_discovery_control([row["p"] for row in own], method="bh") if own else []
        for row, value in zip(own, q, strict=True):
            row["q"] = float(value)
            row["verdict"] = row["verdict"] if value <= Q_GRID else "none"
    return done


def shared(pair: Mapping[str, Any]) -> str:
    """What makes x and y of a pair depend on each other however the world is, so that no permutation is its null; else empty.

    `pair` has the columns that name a row of `associations`.
    """
    if pair["metric"].startswith("forced"):  # forced answers are a sample of their own
        return ""
    if pair["kind"] == "diff_in_means":  # anchors are chosen by a KL of these rollouts, which is large where few of them are dissimilar
        return "the direction was made from the same rollouts"
    return "both are measured on the same rollouts" if pair["x"] in IMPORTANCE else ""


def _known(p: float | None) -> bool:
    return p is not None and not math.isnan(p)
