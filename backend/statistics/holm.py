"""Holm's adjusted p: of all cells of a map that are called significant, none is false more often than once in 1/α maps.

Source: Holm (1979), Scand. J. Stat. 6, 65. It holds whatever the cells share.
"""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p in the order given: the i-th smallest of m times m − i + 1, never below that of a smaller one, and at
    most 1. Unknown p (NaN) stay unknown and do not count among the m.
    """
    given = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0) if len(order) else []
    return adjusted
