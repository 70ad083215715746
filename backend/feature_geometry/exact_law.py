"""Cosines of isotropic vectors, without drawing any: of two independent uniform unit vectors in R^d,

    P(|cos| > t) = I_{1−t²}((d − 1)/2, ½),

I the regularised incomplete beta function. A fixed threshold means something else at every width: 0.1 is exceeded by
1.6 % of the pairs at d = 576 and by 2 in 10⁹ at d = 3584. So widths are compared at the thresholds that equal shares
of isotropic pairs exceed (`threshold`).

Pairs that share a row are independent too, as long as rows are isotropic: counts of exceeding pairs have the variance
of independent ones, though triples of cosines are not independent.
"""

import numpy as np
from scipy.special import betainc, betaincinv

from backend.errors import AnchorscopeError


class TooNarrow(AnchorscopeError):
    """Vectors of fewer than two values have no angle that could vary."""


def exceedance(t: np.ndarray | float, d: int) -> np.ndarray:
    """P(|cos| > t) of two independent isotropic vectors in R^d."""
    _check(d)
    size = np.clip(np.abs(np.asarray(t, np.float64)), 0, 1)
    return betainc((d - 1) / 2, 0.5, (1 - size) * (1 + size))


def threshold(p: float, d: int) -> float:
    """The t that |cos| exceeds with probability `p`."""
    _check(d)
    if not 0 < p < 1:
        raise AnchorscopeError(f"A probability of exceedance lies between 0 and 1, found {p}.")
    return float(np.sqrt(1 - betaincinv((d - 1) / 2, 0.5, p)))


def expected_counts(edges: np.ndarray, d: int, n_pairs: int) -> np.ndarray:
    """Pairs with edges[k] < cos ≤ edges[k + 1], of `n_pairs` isotropic ones; edges rise, none is below 0."""
    return n_pairs * -np.diff(exceedance(edges, d)) / 2


def _check(d: int) -> None:
    if d < 2:
        raise TooNarrow(f"Directions of width {d} have no angles; at least 2 values are needed.")
