"""The cloud of chunk activations around each chunk: how many directions it extends in, how much it bends, how dense it
is.

1. Activations that are the same up to rounding (CoTs of one problem that begin with the same sentence) count as one
   point. Distances between points are Euclidean; each point's k nearest others are its neighbourhood.
2. Dimension, by scikit-dimension. Maximum likelihood (Levina and Bickel 2004): (k − 2) / Σ log(r_k / r_j) over the k
   distances, k − 2 rather than k − 1 because that is unbiased. TwoNN (Facco et al. 2017) of r₂/r₁ of the point and its
   k neighbours, the largest tenth counted as "at least that"; by likelihood, whose error at 31 ratios is less than the
   line fit's. r₁ and r₂ are the distances to each one's own two nearest in the whole cloud, so that the rim of the
   neighbourhood does not count as the rim of the cloud.
3. Curvature: a point's tangent space is spanned by the leading principal components of its k neighbours, centred on
   their mean. There are as many as the median of the cloud's maximum-likelihood dimensions, rounded, at least 1. The
   principal angles between it and the tangent spaces of the 5 nearest points are averaged. Flat is 0; sampling noise
   adds to it, and π/2 is nothing in common.
4. Density: log of 1 / r_k, with r_k in units of its median over the points.

All four are the same after a rotation or shift of the cloud, and all but the norm after it is scaled.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backend.geometry.directions import MANIFOLD_NEIGHBOURS, Neighbourhood

NEIGHBOURS = 30
MIN_NEIGHBOURS = 8  # fewer distances give a dimension with a standard error of 40 % and more
CURVATURE_NEIGHBOURS = 5
# of the RMS distance from the cloud's mean:
# activations nearer than that differ by rounding (about 1e-6), not in what was read
SAME = 1e-4
_BLOCK = 256  # points whose distances to all others are held at once


def neighbourhoods(
    activations: Mapping[str, np.ndarray], *, model_id: str, layer: int, k: int = NEIGHBOURS
) -> list[dict[str, Any]]:
    """Rows of the table `neighbourhoods`, one for each chunk of `activations` (chunk id -> (d_model,)), in its order.

    k is smaller where the cloud has fewer other points. With fewer than 8 neighbours dimension and curvature are None,
    with none so is the density. A chunk whose activation is not finite has None throughout, k 0, and is in nobody's
    neighbourhood.
    """
    ids = sorted(chunk for chunk, vector in activations.items() if np.isfinite(vector).all())
    about = {"model_id": model_id, "layer": layer, "n": len(ids)}
    measured = _measured(np.array([activations[chunk] for chunk in ids], np.float64), k) if ids else []
    known = dict(zip(ids, measured, strict=True))
    unknown = {"k": 0} | dict.fromkeys(("dimension_twonn", "dimension_mle", "curvature", "density", "residual_norm"))
    return [{"chunk_id": chunk, **about, **known.get(chunk, unknown)} for chunk in activations]


def around(
    activations: Mapping[str, np.ndarray],
    *,
    others: Mapping[str, np.ndarray] | None = None,
    k: int = MANIFOLD_NEIGHBOURS,
) -> Iterator[Neighbourhood]:
    """Of each chunk of `activations` the k nearest others (fewer in a smaller study), by Euclidean distance. Chunks of
    `others` have theirs among `activations` too, and are in nobody's neighbourhood.

    A chunk whose activation is not finite has none, and is in nobody's either.
    """
    ids = sorted(chunk for chunk, vector in activations.items() if np.isfinite(vector).all())
    cloud = np.array([activations[chunk] for chunk in ids], np.float64)
    if len(ids) > 1:
        for chunk, near in zip(ids, _nearest(cloud, min(k, len(ids) - 1))[1], strict=True):
            yield Neighbourhood.of(chunk, [ids[i] for i in near], cloud[near])
    for chunk, vector in (others or {}).items():
        if np.isfinite(vector).all() and ids:
            distances = np.linalg.norm(cloud - np.asarray(vector, np.float64), axis=1)
            near = np.argsort(distances, kind="stable")[:k]
            yield Neighbourhood.of(chunk, [ids[i] for i in near], cloud[near])


def tangent_spaces(
    activations: Mapping[str, np.ndarray],
    *,
    others: Mapping[str, np.ndarray] | None = None,
    k: int = MANIFOLD_NEIGHBOURS,
    n: int = 4,
) -> dict[str, np.ndarray]:
    """By chunk id, (n, d_model) float32, orthonormal: the directions `on_manifold` makes of it, components 1 to n.

    Missing where the activation is not finite, or the k nearest chunks vary along fewer than n directions.
    """
    return {
        found.chunk_id: found.principal[:n].astype(np.float32)
        for found in around(activations, others=others, k=k)
        if found.spans(n)
    }


def _measured(cloud: np.ndarray, k: int) -> list[dict[str, Any]]:
    """The measured columns of each activation (n, d_model)."""
    points, point_of = distinct(cloud)
    k = min(k, len(points) - 1)
    nothing = np.full(len(points), np.nan)
    columns: dict[str, np.ndarray] = dict.fromkeys(
        ("dimension_twonn", "dimension_mle", "curvature", "density"), nothing
    )
    if k >= 1:
        distances, nearest = _nearest(points, k)
        columns["density"] = np.log(np.median(distances[:, -1]) / distances[:, -1])
        if k >= MIN_NEIGHBOURS:
            columns |= _dimensions(points, distances, nearest)
            known = columns["dimension_mle"][np.isfinite(columns["dimension_mle"])]
            if len(known):
                columns["curvature"] = _curvature(points, nearest, max(1, round(float(np.median(known)))))
    norms = np.linalg.norm(cloud, axis=1)
    return [
        {"k": k, **{name: _or_none(values[point]) for name, values in columns.items()}, "residual_norm": float(norm)}
        for point, norm in zip(point_of, norms, strict=True)
    ]


def distinct(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different activations (n_points, d_model), and for each of the n the number of its own."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    limit = SAME * math.sqrt(((cloud - cloud.mean(0)) ** 2).sum(1).mean())
    pairs = [np.argwhere(squares <= limit**2) + np.array([start, 0]) for start, squares in _squared_distances(cloud)]
    left, right = np.concatenate(pairs).T
    _, point_of = connected_components(
        coo_array((np.ones(len(left)), (left, right)), shape=(len(cloud), len(cloud))), directed=False
    )
    _, first = np.unique(point_of, return_index=True)
    return cloud[first], point_of


def _nearest(cloud: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n, k), rising, to the k nearest others of each, and which they are, (n, k); the first named of equally
    near ones.
    """
    distances, nearest = np.empty((len(cloud), k)), np.empty((len(cloud), k), int)
    rounding = 1e-12 * ((cloud - cloud.mean(0)) ** 2).sum(1).max()
    for start, squares in _squared_distances(cloud):
        rows = np.arange(len(squares))[:, None]
        squares[rows[:, 0], start + rows[:, 0]] = np.inf
        # A few more than k, so that rounding of the squares costs none of the nearest; their distances are then taken
        # exactly.
        some = np.sort(np.argpartition(squares, min(k + 3, len(cloud) - 2))[:, : min(k + 4, len(cloud) - 1)])
        exact = np.linalg.norm(cloud[some] - cloud[start + rows], axis=-1)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        where = slice(start, start + len(squares))
        distances[where], nearest[where] = exact[rows, order], some[rows, order]
        # Where rounding may have hidden one that is as near as the k-th (many chunks that are nearly the same), all are
        # looked at.
        left_out = squares.copy()
        left_out[rows, some] = np.inf
        unsure = left_out.min(1) <= distances[where, -1] ** 2 + rounding
        for row in start + np.flatnonzero(unsure):
            every = np.linalg.norm(cloud - cloud[row], axis=1)
            every[row] = np.inf
            nearest[row] = np.argsort(every, kind="stable")[:k]
            distances[row] = every[nearest[row]]
    return distances, nearest


def _squared_distances(cloud: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks (n_block, n) of the squared distances between all, each with the number of its first row."""
    centred = cloud - cloud.mean(0)
    squares = (centred**2).sum(1)
    for start in range(0, len(cloud), _BLOCK):
        block = slice(start, start + _BLOCK)
        yield start, np.maximum(squares[block, None] + squares - 2 * centred[block] @ centred.T, 0)


def _dimensions(points: np.ndarray, distances: np.ndarray, nearest: np.ndarray) -> dict[str, np.ndarray]:
    """Both dimensions of each point's neighbourhood, NaN where all distances are equal: in a simplex no number of
    directions fits.
    """
    from skdim.id import MLE, TwoNN  # takes seconds

    with np.errstate(divide="ignore", invalid="ignore"):
        mle = (
            MLE(unbiased=True)
            .fit(points, precomputed_knn_arrays=(distances, nearest), n_neighbors=nearest.shape[1])
            .dimension_pw_
        )
        own = np.concatenate([np.arange(len(points))[:, None], nearest], axis=1)
        twonn = np.array([TwoNN(dist=True, method="mle").fit(distances[around, :2]).dimension_ for around in own])
    return {
        "dimension_twonn": np.where(twonn > 0, twonn, np.nan),
        "dimension_mle": np.where(np.isfinite(mle), mle, np.nan),
    }


def _curvature(points: np.ndarray, nearest: np.ndarray, n_directions: int) -> np.ndarray:
    """Mean principal angle, radians, between each point's tangent space and those of the nearest; NaN where there is no
    such space.
    """
    k = nearest.shape[1]
    if n_directions >= k:
        return np.full(len(points), np.nan)
    # The space is Nᵀ·w, of the centred neighbours N (k, d_model): w (k, n_directions) alone is kept, whatever the width
    # of the model.
    weights = np.full((len(points), k, n_directions), np.nan)
    for block in _blocks(len(points)):
        near = _centred_neighbours(points, nearest[block])
        variance, vectors = np.linalg.eigh(near @ near.transpose(0, 2, 1))
        leading, vectors = variance[:, : -n_directions - 1 : -1], vectors[:, :, : -n_directions - 1 : -1]
        spans = leading[:, -1] > 1e-12 * leading[:, 0]
        weights[block][spans] = vectors[spans] / np.sqrt(leading[spans])[:, None]
    angles = np.full((len(points), min(CURVATURE_NEIGHBOURS, k)), np.nan)
    for block in _blocks(len(points)):
        near = _centred_neighbours(points, nearest[block])
        for number in range(angles.shape[1]):
            other = nearest[block, number]
            across = near @ _centred_neighbours(points, nearest[other]).transpose(0, 2, 1)
            overlap = weights[block].transpose(0, 2, 1) @ across @ weights[other]
            known = np.isfinite(overlap).all((1, 2))
            cosines = np.linalg.svd(overlap[known], compute_uv=False)
            angles[block, number][known] = np.arccos(np.clip(cosines, 0, 1)).mean(1)
    known = np.isfinite(angles)
    return np.where(known.any(1), np.where(known, angles, 0).sum(1) / np.maximum(known.sum(1), 1), np.nan)


def _centred_neighbours(points: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """(n, k, d_model): the neighbours of each, less their mean."""
    near = points[nearest]
    return near - near.mean(1, keepdims=True)


def _blocks(n: int, size: int = 64) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
