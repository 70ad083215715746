"""The delete-a-group jackknife: an interval from leaving out one group (a problem) at a time.

It stands where the bootstrap may not: a group that is drawn twice puts the same points into a cloud twice, and a
nearest neighbour at distance 0, or a spectrum of fewer directions than points, is the draw's doing and not the data's.
Groups may differ in size (delete-m_j jackknife: Busing, Meijer & van der Leeden 1999, Statistics and Computing 9, 3).
"""

import math

import numpy as np

from backend.statistics.intervals import UNKNOWN, Interval


def jackknife(estimate: float, without: np.ndarray, sizes: np.ndarray, level: float = 0.95) -> Interval:
    """Interval around `estimate` from the statistic `without` each group, (n_groups,); `sizes` are theirs, in units.

    Student's t with n_groups − 1 degrees of freedom. NaN, NaN with fewer than two groups, or where anything is unknown.
    For a mean over groups of equal size it is the textbook interval of a mean of the groups' means.
    """
    error = standard_error(estimate, without, sizes)
    if math.isnan(error):
        return UNKNOWN
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(without) - 1)) * error
    return Interval(estimate - half, estimate + half)


def standard_error(estimate: float, without: np.ndarray, sizes: np.ndarray) -> float:
    """Of the same; NaN likewise."""
    without, sizes = np.asarray(without, np.float64), np.asarray(sizes, np.float64)
    if len(without) < 2 or not np.isfinite([estimate, *without]).all():
        return math.nan
    share = sizes / sizes.sum()
    pseudo = estimate / share - (1 / share - 1) * without
    centre = len(without) * estimate - ((1 - share) * without).sum()
    return float(np.sqrt(((pseudo - centre) ** 2 / (1 / share - 1)).mean()))
