"""Rows that have only a covariance in common with a set of directions: what its tails would be if nothing but the
shape of the cloud made them.

Isotropic rows (`exact_law`) are the null of the published figures. But a cloud that is longer in some directions than
in others has heavier tails without any cluster in it: rows drawn from the Gaussian of its covariance show how much
heavier.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from backend.registry import Registry

_AT_ONCE = 1024  # rows


@dataclass(frozen=True)
class CovarianceNull:
    name: str
    label: str  # in a legend
    words: str  # of what Gaussian rows are drawn
    of_rows: bool  # moments of the set's own unit rows; else of the activations at its layer
    centred: bool  # mean 0; else the mean of what has the moments


NULLS: Registry[CovarianceNull] = Registry(
    "covariance-matched null",
    CovarianceNull(
        "rows", "Gaussian, moments of the rows", "N(μ, C), mean and covariance of the set's own unit rows", True, False
    ),
    CovarianceNull(
        "rows_centred", "Gaussian, covariance of the rows", "N(0, C), covariance of the set's own unit rows", True, True
    ),
    CovarianceNull(
        "activations",
        "Gaussian, covariance of activations",
        "N(0, C), covariance of the chunk activations at the layer",
        False,
        True,
    ),
)


@dataclass(frozen=True)
class Moments:
    mean: np.ndarray  # (d,)
    root: np.ndarray  # (d, d) float32: rootᵀ·root is the covariance


def moments(rows: np.ndarray) -> Moments:
    """Mean and covariance of the rows (n, d), in float64."""
    d = rows.shape[1]
    mean, square = rows.mean(0, dtype=np.float64), np.zeros((d, d))
    for at in range(0, len(rows), _AT_ONCE):
        own = rows[at : at + _AT_ONCE] - mean
        square += own.T @ own
    square /= len(rows)
    values, vectors = eigh(square, overwrite_a=True, check_finite=False)
    vectors *= np.sqrt(np.clip(values, 0, None))
    return Moments(mean, vectors.T.astype(np.float32))


def drawn(null: CovarianceNull, like: Moments, n: int, *, seed: int) -> np.ndarray:
    """(n, d) float32: rows of the Gaussian."""
    draw, d = np.random.default_rng(seed), len(like.mean)
    mean = np.float32(0) if null.centred else like.mean.astype(np.float32)
    rows = np.empty((n, d), np.float32)
    for at in range(0, n, _AT_ONCE):
        own = rows[at : at + _AT_ONCE]
        own[:] = draw.standard_normal(own.shape, dtype=np.float32) @ like.root + mean
    return rows
