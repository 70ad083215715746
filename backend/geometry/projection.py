"""Latent maps: chunk activations of a layer placed in 2 or 3 dimensions, so that a person can look at them.

The method in steps, for each layer in ascending order:

1. Rows are sorted by chunk id, because UMAP's result depends on row order; what cannot be placed (non-finite or huge
   values) is refused.
2. PCA of the vectors gives `pca_3d`, the linear view.
3. UMAP (McInnes et al. 2018) gives `umap_2d` and `umap_3d`, from the exact nearest neighbours (matrix products, far
   faster than UMAP's own search below 4,096 rows) and started from the PCA layout. UMAP's own default start,
   eigenvectors of the neighbour graph, fails or falls back to random when the graph is small or in pieces; the linear
   layout always exists and keeps the large-scale order.
4. Each map is turned to agree with the layer before it on the chunks they share: UMAP by the best rotation or
   reflection (orthogonal Procrustes) and a shift, PCA by the sign of each component, so that its axes stay components.
   Alignment changes orientation only: every distance within a map is what it was.

Distances between far groups of a UMAP mean little; `trustworthiness` says what share of the neighbours seen are true
ones.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.schema.tables import TABLES

METRICS = ("cosine", "euclidean")
N_DIMENSIONS = {"umap_2d": 2, "umap_3d": 3, "pca_3d": 3}
SMALLEST_UMAP = 4  # with 3 chunks or fewer UMAP has no neighbourhood to keep
LARGEST_VALUE = 1e15  # UMAP squares in float32: a value of 1e20 becomes infinite and leaves NaN coordinates behind
MOST_FOR_TRUSTWORTHINESS = 10_000  # it holds a few n × n matrices: 10,000 chunks are about 2 GB
_BLOCK = 512  # rows of the distance matrix at a time


class ProjectionError(AnchorscopeError):
    """Activations that no map can be made of."""


@dataclass(frozen=True)
class LatentMap:
    model_id: str
    layer: int
    method: str  # umap_2d, umap_3d or pca_3d
    chunk_ids: tuple[str, ...]  # ascending
    coordinates: np.ndarray  # (n, 2) or (n, 3), float64
    seed: int
    parameters: dict[str, Any]
    trustworthiness: float | None  # in [0, 1]; None where n is too small, or above MOST_FOR_TRUSTWORTHINESS
    explained_variance: tuple[float, ...] | None  # PCA: share for each component; None for UMAP


@dataclass(frozen=True)
class SkippedMap:
    layer: int
    method: str
    reason: str


@dataclass(frozen=True)
class LatentMaps:
    maps: tuple[LatentMap, ...]  # by layer, then umap_2d, umap_3d, pca_3d
    skipped: tuple[SkippedMap, ...]

    def map_rows(self) -> pd.DataFrame:
        """The rows of the table `maps`."""
        rows = [
            (
                m.model_id,
                m.layer,
                m.method,
                len(m.chunk_ids),
                m.seed,
                json.dumps(m.parameters, sort_keys=True),
                m.trustworthiness,
                None if m.explained_variance is None else list(m.explained_variance),
            )
            for m in self.maps
        ]
        return pd.DataFrame(rows, columns=list(TABLES["maps"].columns)).astype({"trustworthiness": "float64"})

    def projection_rows(self) -> pd.DataFrame:
        """The rows of the table `projections`; z is NaN for two-dimensional maps."""
        columns = list(TABLES["projections"].columns)
        frames = [
            pd.DataFrame(
                {
                    "chunk_id": m.chunk_ids,
                    "model_id": m.model_id,
                    "layer": m.layer,
                    "method": m.method,
                    "x": m.coordinates[:, 0],
                    "y": m.coordinates[:, 1],
                    "z": m.coordinates[:, 2] if m.coordinates.shape[1] > 2 else np.nan,
                }
            )
            for m in self.maps
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


@dataclass(frozen=True)
class Neighbours:
    """Row i lists the neighbours of i, nearest first; column 0 is i itself at distance 0."""

    indices: np.ndarray  # (n, k) int
    distances: np.ndarray  # (n, k) float64


def latent_maps(
    activations: Mapping[int, tuple[Sequence[str], np.ndarray]],
    *,
    model_id: str,
    seed: int,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: str = "cosine",
) -> LatentMaps:
    """`umap_2d`, `umap_3d` and `pca_3d` of every layer; what cannot be made is listed in `skipped` with its reason.

    `activations[layer]` = (chunk ids, matrix (n, d_model)); row order changes nothing, and the same seed gives the same
    coordinates. `n_neighbors` counts the chunk itself and is cut to n − 1 where there are fewer chunks. `metric` is the
    distance of UMAP and of `trustworthiness`; PCA is Euclidean by nature. Raises ProjectionError for repeated ids,
    wrong shapes, and values that are not finite, beyond 1e15, or (for cosine) all zero, naming the layer and the chunk.
    """
    if metric not in METRICS:
        raise ProjectionError(f"there is no metric {metric!r} for a map; choose cosine or euclidean")
    if n_neighbors < 2:
        raise ProjectionError(f"n_neighbors is {n_neighbors}; a map needs at least 2, the chunk itself and one more")
    maps: list[LatentMap] = []
    skipped: list[SkippedMap] = []
    before: dict[str, LatentMap] = {}
    for layer in sorted(activations):
        chunk_ids, matrix = _checked(layer, *activations[layer], metric=metric)
        neighbours = (
            exact_neighbours(matrix, min(n_neighbors, len(matrix) - 1), metric)
            if len(matrix) >= SMALLEST_UMAP
            else None
        )
        for method, n_dimensions in N_DIMENSIONS.items():
            if reason := _impossible(method, matrix):
                skipped.append(SkippedMap(layer, method, reason))
                continue
            if method == "pca_3d":
                coordinates, explained_variance = _pca(matrix, n_dimensions)
                parameters: dict[str, Any] = {}
            else:
                assert neighbours is not None  # `_impossible` has seen to it
                coordinates = _umap(matrix, neighbours, n_dimensions, metric=metric, min_dist=min_dist, seed=seed)
                explained_variance = None
                parameters = {
                    "n_neighbors": neighbours.indices.shape[1],
                    "min_dist": min_dist,
                    "metric": metric,
                    "init": "pca",
                }
            if not np.isfinite(coordinates).all():
                raise ProjectionError(
                    f"{method} of layer {layer} has coordinates that are not finite; look at this layer's activations"
                )
            coordinates, alignment = _aligned(method, chunk_ids, coordinates, before.get(method))
            trust, k = _trustworthiness(matrix, coordinates, metric)
            parameters |= {
                "alignment": alignment,
                "trustworthiness_k": k,
                "trustworthiness_metric": metric,
                "versions": _versions(),
            }
            before[method] = LatentMap(
                model_id, layer, method, chunk_ids, coordinates, seed, parameters, trust, explained_variance
            )
            maps.append(before[method])
    return LatentMaps(tuple(maps), tuple(skipped))


def exact_neighbours(matrix: np.ndarray, k: int, metric: str) -> Neighbours:
    """The k nearest rows of every row of `matrix` (n, d), itself first, by an exact search; 1 <= k <= n.

    Candidates come from a float64 matrix product, compared to 12 digits, and their distances from the differences
    themselves, so that equal rows are at distance exactly 0 and ties go to the lower row number. Cosine distance is 1 −
    cosine, in [0, 2].
    """
    points = np.asarray(matrix, dtype=np.float64)
    points = (
        _unit_rows(points) if metric == "cosine" else points - points.mean(0)
    )  # centred: less cancellation in the product
    n = len(points)
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and the {n} rows there are, got {k}")
    squares = (points**2).sum(1)
    grid = max(float(squares.max()), np.finfo(np.float64).tiny) * 1e-12
    indices, distances = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        steps = np.rint((squares[rows, None] + squares - 2 * points[rows] @ points.T) / grid)
        steps[np.arange(len(rows)), rows] = -np.inf
        furthest = np.partition(steps, k - 1, axis=1)[:, k - 1]
        for row, own, limit in zip(rows, steps, furthest, strict=True):
            candidates = np.flatnonzero(own <= limit)
            nearest = np.sort(candidates[np.argsort(own[candidates], kind="stable")[:k]])
            exact = ((points[nearest] - points[row]) ** 2).sum(1)
            exact[nearest == row] = -1
            order = np.argsort(exact, kind="stable")
            indices[row], distances[row] = nearest[order], np.maximum(exact[order], 0)
    # For unit vectors the squared distance is twice the cosine distance.
    return Neighbours(indices, distances / 2 if metric == "cosine" else np.sqrt(distances))


def _checked(
    layer: int, chunk_ids: Sequence[str], matrix: np.ndarray, *, metric: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Ids and float64 rows in ascending order of id."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or len(chunk_ids) != len(matrix):
        raise ProjectionError(
            f"layer {layer}: {len(chunk_ids)} chunk ids and activations of shape {matrix.shape}; expected a row a chunk"
        )
    order = sorted(range(len(chunk_ids)), key=lambda i: chunk_ids[i])
    chunk_ids, matrix = tuple(chunk_ids[i] for i in order), matrix[order]
    for one, other in pairwise(chunk_ids):
        if one == other:
            raise ProjectionError(f"layer {layer}: chunk {one} occurs twice; expected one activation a chunk")
    largest = np.abs(matrix).max(axis=1, initial=0)
    for chunk, value in zip(chunk_ids, largest, strict=True):
        if not value <= LARGEST_VALUE:  # true for NaN also
            raise ProjectionError(
                f"layer {layer}: the activation of chunk {chunk} holds {value:g}; a map needs finite values below"
                f" {LARGEST_VALUE:g}. Compute the activations of this chunk again, in float32"
            )
        if metric == "cosine" and value == 0:
            raise ProjectionError(
                f"layer {layer}: the activation of chunk {chunk} is all zeros and has no cosine; compute it again or"
                " use metric euclidean"
            )
    return chunk_ids, matrix


def _impossible(method: str, matrix: np.ndarray) -> str | None:
    """Why this map cannot be made, or None."""
    least = 2 if method == "pca_3d" else SMALLEST_UMAP
    if len(matrix) < least:
        return f"there are {len(matrix)} chunks and {method} needs at least {least}"
    if (matrix == matrix[0]).all():
        return f"all {len(matrix)} activations are identical"
    return None


def _pca(matrix: np.ndarray, n_dimensions: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """Coordinates (n, n_dimensions) and the share of variance of each component.

    n chunks span n − 1 dimensions: what lies beyond is exactly 0. A component's sign makes its largest coordinate
    positive.
    """
    from sklearn.decomposition import PCA

    n_possible = min(n_dimensions, len(matrix) - 1, matrix.shape[1])
    pca = PCA(n_possible, svd_solver="covariance_eigh" if len(matrix) > matrix.shape[1] else "full")
    coordinates = np.zeros((len(matrix), n_dimensions))
    coordinates[:, :n_possible] = pca.fit_transform(matrix)
    largest = coordinates[np.abs(coordinates).argmax(axis=0), np.arange(n_dimensions)]
    shares = np.zeros(n_dimensions)
    shares[:n_possible] = pca.explained_variance_ratio_
    return coordinates * np.where(largest < 0, -1.0, 1.0), tuple(float(share) for share in shares)


def _umap(
    matrix: np.ndarray, neighbours: Neighbours, n_dimensions: int, *, metric: str, min_dist: float, seed: int
) -> np.ndarray:
    """UMAP's coordinates (n, n_dimensions), started from PCA within ±10 with a little seeded noise so that equal chunks
    can part.
    """
    import numba

    # Its OpenMP layer would set the threads of the whole process, torch's too: one for every core, until the process
    # ends. Said before UMAP is imported, which begins a layer.
    numba.config.THREADING_LAYER = "workqueue"
    import umap

    seed %= 2**32  # what numpy's legacy generator takes
    start, _ = _pca(_unit_rows(matrix) if metric == "cosine" else matrix, n_dimensions)
    # Rounded: the last bits of a decomposition differ with the number of BLAS threads, and the layout would amplify
    # them.
    start = np.round(10 * start / (np.abs(start).max() or 1.0), 3)
    start += np.random.default_rng(seed).normal(0, 1e-4, start.shape)
    fit = umap.UMAP(
        n_components=n_dimensions,
        n_neighbors=neighbours.indices.shape[1],
        min_dist=min_dist,
        metric=metric,
        random_state=seed,
        n_jobs=1,
        init=start.astype(np.float32),
        precomputed_knn=(neighbours.indices.astype(np.int32), neighbours.distances.astype(np.float32)),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")  # no search index: nothing is placed later
        return np.asarray(fit.fit_transform(matrix.astype(np.float32)), dtype=np.float64)


def _aligned(
    method: str, chunk_ids: tuple[str, ...], coordinates: np.ndarray, previous: LatentMap | None
) -> tuple[np.ndarray, dict[str, Any] | None]:
    """Coordinates turned to agree with the map before on the chunks both have, and how; None for the first map."""
    centred = coordinates - coordinates.mean(0)
    if previous is None:
        return centred, None
    index = {chunk: i for i, chunk in enumerate(previous.chunk_ids)}
    common = [(i, index[chunk]) for i, chunk in enumerate(chunk_ids) if chunk in index]
    if len(common) < 2:
        return centred, None
    here, there = (list(rows) for rows in zip(*common, strict=True))
    ours, theirs = coordinates[here], previous.coordinates[there]
    told = {"to_layer": previous.layer, "n_common": len(common)}
    if method == "pca_3d":
        agreement = ((ours - ours.mean(0)) * (theirs - theirs.mean(0))).sum(0)
        return centred * np.where(agreement < 0, -1.0, 1.0), told | {"kind": "signs"}
    left, _, right = np.linalg.svd((ours - ours.mean(0)).T @ (theirs - theirs.mean(0)))
    return (coordinates - ours.mean(0)) @ (left @ right) + theirs.mean(0), told | {
        "kind": "rotation or reflection, and shift"
    }


def _trustworthiness(matrix: np.ndarray, coordinates: np.ndarray, metric: str) -> tuple[float | None, int | None]:
    """The value and its k = min(12, largest k < n/2), both None where n is too small or too large.

    Source: Venna & Kaski (2001). 1 when each chunk's k neighbours on the map are among its k true ones.
    """
    from sklearn.manifold import trustworthiness

    k = min(12, (len(matrix) - 1) // 2)
    if k < 1 or len(matrix) > MOST_FOR_TRUSTWORTHINESS:
        return None, None
    return float(trustworthiness(matrix, coordinates, n_neighbors=k, metric=metric)), k


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    matrix = matrix / np.abs(matrix).max(axis=1, keepdims=True)  # so that no square leaves float64
    return matrix / np.sqrt((matrix**2).sum(axis=1, keepdims=True))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("umap-learn", "scikit-learn", "numpy", "numba")}
