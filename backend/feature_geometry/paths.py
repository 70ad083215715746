"""The path of a chain of thought through the activations of its chunks, at one layer: how straight, how bent, how wide.

Of n ≥ 3 chunk activations x₁ … xₙ in reading order, with the steps vᵢ = xᵢ₊₁ − xᵢ:

- progress: ‖xₙ − x₁‖ / Σ‖vᵢ‖, net displacement over path length, in [0, 1]; 1 is straight. (Progress and curvature of
  reasoning traces: Jiang et al. 2026, arXiv:2603.10384, whose progress is a displacement.)
- curvature: mean turning angle between successive steps, radians, in [0, π]; 0 is straight (Henaff et al. 2019;
  Hosseini & Fedorenko 2023).
- effective dimension: participation ratio of the steps, (tr S)² / tr S² with S = Σ vᵢvᵢᵀ, about the origin; 1 is a
  line, n − 1 is a direction of its own for every step.

All three follow from n alone to a large part: longer paths have less progress and more dimensions, whatever they are
about. Two nulls have the same n. `shuffled`: the same chunks in random order (mean over draws). `walk`: random walks
whose steps are normal, with the covariance of all steps of the model at the layer (mean over draws). Independent points
in random order turn by 120° on average, and a walk by 90°.

Of each chunk: the length of the step into it; the angle between the step into it and the step out of it; the part of
the way that the step into it makes, its projection on xₙ − x₁ over ‖xₙ − x₁‖, which sums to 1 over the steps.

Everything is a function of the Gram matrix of the points, so that orders are dealt without looking at them again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backend.feature_geometry.kept import kept
from backend.ids import seed_for

MIN_CHUNKS = 3  # fewer have no turning angle
_ZERO = 1e-12  # of the squared size of the path: a shorter step has no direction


def path_measures(grams: np.ndarray) -> dict[str, np.ndarray]:
    """`progress`, `curvature`, `effective_dimension` of paths whose steps have the Gram matrices (…, n − 1, n − 1);
    each is (…,), NaN where there is no such number: no step at all, no two successive steps with directions.
    """
    squares = np.maximum(np.diagonal(grams, axis1=-2, axis2=-1), 0)
    total, lengths = squares.sum(-1), np.sqrt(squares)
    with np.errstate(invalid="ignore", divide="ignore"):
        net = np.sqrt(np.maximum(grams.sum((-2, -1)), 0))
        return {
            "progress": np.minimum(net / lengths.sum(-1), 1),
            "curvature": _mean_known(turning_angles(grams)),
            "effective_dimension": total**2 / (grams**2).sum((-2, -1)),
        }


def turning_angles(grams: np.ndarray) -> np.ndarray:
    """(…, n − 2): radians between successive steps; NaN beside a step of length 0."""
    squares = np.maximum(np.diagonal(grams, axis1=-2, axis2=-1), 0)
    moves = squares > _ZERO * squares.sum(-1, keepdims=True)
    known = moves[..., 1:] & moves[..., :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.diagonal(grams, 1, -2, -1) / np.sqrt(squares[..., 1:] * squares[..., :-1])
    return np.where(known, np.arccos(np.clip(np.where(known, cosines, 0), -1, 1)), np.nan)


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def step_grams(points: np.ndarray) -> np.ndarray:
    """(…, n − 1, n − 1) of the steps, from Gram matrices (…, n, n) of the points."""
    ends, starts = points[..., 1:, :], points[..., :-1, :]
    return ends[..., 1:] - ends[..., :-1] - starts[..., 1:] + starts[..., :-1]


def shuffled_measures(points: np.ndarray, n_draws: int, seed: int) -> dict[str, np.ndarray]:
    """`path_measures` of the points whose Gram matrix is (n, n), in `n_draws` random orders."""
    rng = np.random.default_rng(seed_for("shuffled path", seed))
    orders = rng.permuted(np.tile(np.arange(len(points)), (n_draws, 1)), axis=1)
    return path_measures(step_grams(points[orders[:, :, None], orders[:, None, :]]))


def walk_measures(eigenvalues: np.ndarray, n: int, n_draws: int, seed: int) -> dict[str, np.ndarray]:
    """`path_measures` of random walks of n points whose normal steps have a covariance of these eigenvalues."""
    rng = np.random.default_rng(seed_for("random walk", n, seed))
    steps = rng.standard_normal((n_draws, n - 1, len(eigenvalues))) * np.sqrt(eigenvalues)
    return path_measures(steps @ steps.transpose(0, 2, 1))


def step_spectrum(paths: Sequence[np.ndarray]) -> np.ndarray:
    """Eigenvalues (above rounding) of the covariance of all steps of the paths, each (n, d)."""
    steps = np.concatenate([np.diff(path, axis=0) for path in paths])
    values = np.linalg.eigvalsh(np.cov(steps.T))
    return values[values > 1e-12 * values[-1]]


def paths(
    cots: Mapping[str, tuple[Sequence[str], np.ndarray]], *, model_id: str, layer: int, n_draws: int, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of `paths` and `path_steps`. `cots` maps a CoT to its chunks' ids, in reading order, and their activations
    (n_chunks, d_model). CoTs of fewer than 3 chunks, or with an activation that is not finite, have no rows.
    """
    long = {
        cot: (ids, np.asarray(points, np.float64))
        for cot, (ids, points) in cots.items()
        if len(ids) >= MIN_CHUNKS and np.isfinite(points).all()
    }
    if not long:
        return {"paths": [], "path_steps": []}
    spectrum = step_spectrum([points for _, points in long.values()])
    about = {"model_id": model_id, "layer": layer}
    walks: dict[int, dict[str, float | None]] = {}
    rows, steps = [], []
    for cot, (ids, points) in long.items():
        n = len(ids)
        if n not in walks:
            walks[n] = _means("walk", walk_measures(spectrum, n, n_draws, seed))
        centred = points - points.mean(0)
        gram = centred @ centred.T
        own = step_grams(gram)
        shuffled = _means("shuffled", shuffled_measures(gram, n_draws, seed_for(seed, cot)))
        measured = {name: kept(float(value)) for name, value in path_measures(own).items()}
        rows.append({"cot_id": cot, **about, "n_chunks": n, **measured, **shuffled, **walks[n]})
        steps += [{"chunk_id": chunk, **about, **row} for chunk, row in zip(ids, step_rows(own), strict=True)]
    return {"paths": rows, "path_steps": steps}


def step_rows(grams: np.ndarray) -> list[dict[str, float | None]]:
    """Of each of the n chunks, from the Gram matrix (n − 1, n − 1) of the steps; unknown is None: the first chunk has
    no step into it, the first and the last no angle, and a path that ends where it began no way.
    """
    lengths = np.sqrt(np.maximum(np.diag(grams), 0))
    net = grams.sum()
    along = grams.sum(1) / net if net > _ZERO * np.trace(grams) else np.full(len(grams), math.nan)
    angles = np.concatenate([[math.nan], turning_angles(grams), [math.nan]])
    into = zip([math.nan, *lengths], [math.nan, *along], angles, strict=True)
    return [
        {"step_length": kept(length), "step_progress": kept(part), "turning_angle": kept(angle)}
        for length, part, angle in into
    ]


def _means(null: str, drawn: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    return {
        f"{null}_{name}": kept(float(values[known].mean())) if (known := ~np.isnan(values)).any() else None
        for name, values in drawn.items()
    }
