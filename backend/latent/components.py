"""Principal components of latents: fitted on problems that are not scored, and where the scored ones lie on them."""

from dataclasses import dataclass

import numpy as np

N_COMPONENTS = 3


@dataclass(frozen=True, eq=False)
class Components:
    """Of vectors with d coordinates; float64."""

    mean: np.ndarray  # (d,)
    axes: np.ndarray  # (n_components, d), unit and orthogonal, the largest variance first
    share: np.ndarray  # (n_components,): of the variance of what they were fitted on
    n: int  # vectors

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """(…, n_components), of vectors (…, d)."""
        return (vectors.astype(np.float64) - self.mean) @ self.axes.T


def components(vectors: np.ndarray, n_components: int = N_COMPONENTS) -> Components:
    """Of vectors (n, d): at most `n_components`, and no more than they have. The sign of an axis is that of its largest
    coordinate, so that it does not change from run to run.
    """
    exact = vectors.astype(np.float64)
    mean = exact.mean(0)
    values, axes = np.linalg.eigh((exact - mean).T @ (exact - mean) / len(exact))
    order = values.argsort()[::-1][: min(n_components, len(exact) - 1, len(values))]
    found, total = axes[:, order].T, values.clip(min=0).sum()
    signs = np.sign(found[np.arange(len(found)), np.abs(found).argmax(1)])
    share = values[order].clip(min=0) / total if total > 0 else np.full(len(order), np.nan)
    return Components(mean, found * signs[:, None], share, len(exact))


def captured(fitted: Components, vectors: np.ndarray) -> np.ndarray:
    """(n_components,): the share of the variance of other vectors (n, d) about their mean that lies along each axis."""
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(0)
    total = (centred**2).sum()
    along = ((centred @ fitted.axes.T) ** 2).sum(0)
    return along / total if total > 0 else np.full(len(along), np.nan)


def between_steps(projected: np.ndarray) -> np.ndarray:
    """(n_components,): of the variance of projections (n, n_steps, n_components), the share between the steps' means: 1
    where a latent's place says nothing of its problem.
    """
    total = ((projected - projected.mean((0, 1))) ** 2).sum((0, 1))
    between = len(projected) * ((projected.mean(0) - projected.mean((0, 1))) ** 2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, between / total, np.nan)
