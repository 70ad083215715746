"""Cosines of a vector with others, against what isotropic random vectors of the same width give.

Of a fixed vector and one uniform on the sphere in R^d, cos² is distributed as Beta(½, (d − 1)/2): nothing needs to be
drawn. Residual streams are not isotropic: two activations of one layer are alike for reasons that say nothing of
either.
"""

import math

import numpy as np
from scipy.stats import beta

LEVEL = 0.95


def cosines(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) float64, with each row of `others` (n, d); NaN for a row that is zero."""
    exact, rows = np.asarray(vector, np.float64), np.asarray(others, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = rows @ exact / (np.linalg.norm(rows, axis=-1) * np.linalg.norm(exact))
    return np.where(np.isfinite(found), np.clip(found, -1, 1), math.nan)


def random_bound(d: int, *, n: int = 1, level: float = LEVEL) -> float:
    """The |cosine| that the largest of `n` independent random vectors in R^d stays below with probability `level`."""
    return math.sqrt(float(beta.ppf(level ** (1 / n), 0.5, (d - 1) / 2)))


def random_p(cosine: float, d: int, *, n: int = 1) -> float:
    """Probability that the largest |cosine| of `n` independent random vectors in R^d is at least this one's."""
    one = float(beta.sf(min(cosine * cosine, 1.0), 0.5, (d - 1) / 2))
    return -math.expm1(n * math.log1p(-one)) if one < 1 else 1.0
