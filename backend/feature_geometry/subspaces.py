"""The subspace of a cloud's largest principal components, and the angles between two of them."""

import functools

import numpy as np

from backend.ids import seed_for

_DRAWS = 50  # pairs of random subspaces


def top_components(scatter: np.ndarray, k: int) -> np.ndarray:
    """(d, k), orthonormal: the eigenvectors of the k largest eigenvalues of a scatter matrix (d, d), k < d."""
    from scipy.sparse.linalg import eigsh

    start = np.cos(np.arange(len(scatter)) + 1.0)  # no draw: the same matrix has the same eigenvectors
    return np.asarray(eigsh(scatter, k=k, v0=start)[1])


def principal_angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(k,) degrees, rising, between the spans of two orthonormal bases (d, k); 0 exactly of equal bases.

    From cosines and sines together: cosines near 1 have lost small angles, sines near 1 large ones (Björck & Golub
    1973, Mathematics of Computation 27, 579).
    """
    if np.array_equal(one, other):
        return np.zeros(one.shape[1])
    shared = one.T @ other
    cosines = np.linalg.svd(shared, compute_uv=False)
    sines = np.linalg.svd(other - one @ shared, compute_uv=False)[::-1]
    return np.degrees(np.arctan2(sines, cosines))


@functools.lru_cache(maxsize=32)
def random_angle(d: int, k: int) -> tuple[float, float]:
    """Mean and standard deviation of the mean principal angle, degrees, of random subspaces of k of d dimensions."""
    rng = np.random.default_rng(seed_for("random subspaces", d, k))
    bases = [np.linalg.qr(rng.normal(size=(d, k)))[0] for _ in range(2 * _DRAWS)]
    means = [principal_angles(*pair).mean() for pair in zip(bases[::2], bases[1::2], strict=True)]
    return float(np.mean(means)), float(np.std(means, ddof=1))
