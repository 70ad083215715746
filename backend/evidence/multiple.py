"""Many pairs are looked at, so some are striking by chance: Benjamini and Hochberg's q (1995) over the pairs of one subset.

Claiming every pair with q at most 0.05 makes at most one claim in twenty false on average, where the p are independent or rise together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from backend.evidence.verdict import Q_GRID


def with_q(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `associations`, in their order, with `q` over the rows of the same subset, and `verdict` none where q is above 0.05.

    A row without p has no q (None), and does not count among those looked at.
    """
    from scipy.stats import false_discovery_control

    done = [{**row, "q": None} for row in rows]
    for subset in {row["subset"] for row in done}:
        own = [row for row in done if row["subset"] == subset and _known(row["p"])]
        q = false_discovery_control([row["p"] for row in own], method="bh") if own else []
        for row, value in zip(own, q, strict=True):
            row["q"] = float(value)
            row["verdict"] = row["verdict"] if value <= Q_GRID else "none"
    return done


def _known(p: float | None) -> bool:
    return p is not None and not math.isnan(p)
