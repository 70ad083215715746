"""What rows of shape, curves and paths come to beside their nulls: one rule for each, for pages and tests."""

import math

import numpy as np
import pandas as pd

from backend.statistics.holm import holm

ALPHA = 0.05
NULLS = ("smooth", "permuted", "digits")  # of a curve


def beyond(low: float, high: float, null: float, sd: float) -> int:
    """1 where the whole interval lies above what chance gives, the null's mean ± 2 standard deviations; −1 below; else
    0, and where anything is unknown.
    """
    if not all(map(math.isfinite, (low, high, null, sd))):
        return 0
    return int(low > null + 2 * sd) - int(high < null - 2 * sd)


def judged(curves: pd.DataFrame) -> pd.DataFrame:
    """All rows of table `curves`, with `p`, the largest of the p of their nulls; `adjusted`, Holm's over all rows with
    p; and `is_shown`: adjusted ≤ 0.05, and the Fourier fit better than the polynomial by an interval above 0.
    """
    p = curves[[f"{null}_p" for null in NULLS]].astype(float).max(axis=1)
    adjusted = holm(p.to_numpy())
    better = curves["difference_low"].astype(float).to_numpy() > 0
    return curves.assign(p=p, adjusted=adjusted, is_shown=np.nan_to_num(adjusted, nan=1) <= ALPHA).assign(
        is_better=better, is_shown=lambda rows: rows["is_shown"] & better
    )


def compared(outcomes: pd.DataFrame) -> pd.DataFrame:
    """All rows of table `path_outcomes`, with `adjusted`: Holm's p over the layers, models and measures of each
    comparison.
    """
    found = outcomes.assign(adjusted=np.nan)
    for _, rows in outcomes.groupby("comparison"):
        found.loc[rows.index, "adjusted"] = holm(rows["p"].astype(float).to_numpy())
    return found
