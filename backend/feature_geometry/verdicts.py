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
    """All rows of table `curves`, with `p`, the largest of the p of their nulls; `adjusted`, Holm's over the layers and
    models of a set; `is_better`, that the interval of Fourier less polynomial is above 0; and `is_shown`: adjusted ≤
    0.05, and better.
    """
    p = curves[[f"{null}_p" for null in NULLS]].astype(float).max(axis=1)
    adjusted = _adjusted(p, curves["curve"])
    better = curves["difference_low"].astype(float) > 0
    return curves.assign(p=p, adjusted=adjusted, is_better=better, is_shown=(adjusted <= ALPHA) & better)


def compared(outcomes: pd.DataFrame) -> pd.DataFrame:
    """All rows of table `path_outcomes`, with `adjusted`: Holm's p over the layers, models and measures of each
    comparison.
    """
    return outcomes.assign(adjusted=_adjusted(outcomes["p"].astype(float), outcomes["comparison"]))


def _adjusted(p: pd.Series, family: pd.Series) -> pd.Series:
    """Holm's p within each family."""
    found = pd.Series(np.nan, p.index)
    for _, rows in p.groupby(family):
        found[rows.index] = holm(rows.to_numpy())
    return found
