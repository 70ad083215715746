"""What can be said of a chunk's metric G (`fisher.py`) without choosing a direction: its size and shape, and steps of a
finite size.

1. Isotropic steepness tr(G)/2d: the mean of ½·zᵀGz over random unit probes z (Hutchinson), with its standard error.
2. Leading eigenpairs by a block Krylov method: a random block, multiplied by G again and again, every block kept
   orthonormal; G on what they span, then its eigenpairs, until ‖Gv − λv‖ is small against the largest λ or the products
   are used up.
3. Participation ratio (tr G)²/tr(G²). What the Krylov basis Q holds is exact, the rest is estimated with probes
   orthogonal to it (Hutch++): tr G = tr(QᵀGQ) + mean z′ᵀGz′ and tr G² = ‖GQ‖² + mean ‖Gz′‖² with z′ = (1 − QQᵀ)z. The
   square of tr G is taken over pairs of different probes, which keeps it unbiased; the error of the ratio is the
   jackknife's over the probes.
4. On-manifold: the mean of ½·vᵀGv over given tangents of the cloud of chunk activations; off-manifold: over as many
   random unit vectors orthogonal to all of them.
5. Finite steps along random directions, as published (`random_steps.py`).

Points 2, 3 and 5 cost more and are done for the chunks asked for. Sources: Hutchinson 1990; Meyer et al. 2021
(Hutch++); Musco and Musco 2015 (block Krylov).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.geometry import directions as make
from backend.geometry.fisher import LocalMetric, PredictionMetric
from backend.geometry.random_steps import EPSILONS, N_DIRECTIONS, Place, Steps, directional_kl, step_columns
from backend.geometry.sweep import SweepError, check_float32, check_steering, noise_floor, predicting_positions
from backend.ids import seed_for
from backend.models.edits import encode

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_TOLERANCE = 1e-3  # of ‖Gv − λv‖ / λ₁: products of a 30-layer model in float32 are good to 3e-4
_SPARE = 4  # vectors of a block beyond the eigenpairs asked for: they speed up the last ones
_MAX_BLOCKS = 8


@dataclass(frozen=True)
class LocalGeometry:
    """Rows of the tables `local_geometry` and `directions` (the eigen-directions)."""

    local_geometry: list[dict[str, Any]] = field(default_factory=list)
    directions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Spectrum:
    """What is known of a symmetric positive matrix G from its products with vectors."""

    eigenvalues: np.ndarray  # (n,) leading ones, largest first
    vectors: np.ndarray  # (n, d) unit rows
    residual: float  # largest ‖Gv − λv‖ / λ₁; NaN where G is 0
    basis: np.ndarray = field(repr=False)  # (m, d) orthonormal rows that G has been applied to
    images: np.ndarray = field(repr=False)  # (m, d) G·basis


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error; NaN where there are too few probes for either."""

    value: float
    error: float


def local_geometry_cot(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    *,
    layers: Sequence[int],
    positions: Sequence[str],
    unit: str,
    probes: int,
    seed: int,
    tangents: Mapping[tuple[str, int], np.ndarray],
    spectrum_of: Collection[str],
    n_eigen: int = 8,
    n_random: int = N_DIRECTIONS,
    epsilons: Sequence[float] = EPSILONS,
) -> LocalGeometry:
    """One row for each chunk × layer × position set of one text, and the eigen-directions of the chunks in
    `spectrum_of`.

    `tangents` maps (chunk id, layer) to orthonormal rows (n_tangents, d_model); without an entry, on- and off-manifold
    are unknown. Random numbers depend on `seed`, chunk, layer and position set alone. Raises SweepError for half
    precision, and for spans, position sets, units, numbers or tangents out of place.
    """
    check_float32(loaded)
    if probes < 1 or n_eigen < 1:
        raise SweepError(f"At least one probe and eigenpair is needed; got {probes} and {n_eigen}.")
    steps = Steps(unit, n_random, tuple(epsilons))
    encoded = encode(loaded, token_ids, layers=layers)
    for chunk_id, span in chunk_spans.items():
        check_steering(loaded, encoded, chunk_id, span, [], positions=positions, unit=unit)
    floors = noise_floor(
        loaded, token_ids, {chunk: span for chunk, span in chunk_spans.items() if chunk in spectrum_of}, encoded=encoded
    )
    found = LocalGeometry()
    for chunk_id, span in chunk_spans.items():
        predicting = predicting_positions(span)
        predictions = PredictionMetric(encoded, predicting) if predicting else None
        for layer in layers:
            metric = (
                None if predictions is None else LocalMetric(encoded, span, layer, unit=unit, predictions=predictions)
            )
            cloud = _checked_tangents(tangents.get((chunk_id, layer)), chunk_id, encoded.residual(layer).shape[-1])
            cheap = {} if metric is None else _cheap_columns(metric, cloud, positions, probes, (seed, chunk_id, layer))
            for position in positions:
                row = dict.fromkeys(_UNKNOWN) | {
                    "chunk_id": chunk_id,
                    "model_id": loaded.model_id,
                    "layer": layer,
                    "position": position,
                    "unit": unit,
                    "n_probes": probes,
                    "n_tokens": len(predicting),
                    "seed": seed,
                }
                found.local_geometry.append(row)
                if metric is None or predictions is None:
                    continue
                row |= cheap[position] | {"entropy": predictions.entropy}
                if chunk_id in spectrum_of:
                    spectrum, columns = _spectrum_columns(
                        metric, position, n_eigen, probes, (seed, chunk_id, layer, position)
                    )
                    known = directional_kl(loaded, encoded, Place(chunk_id, span, layer, position), steps, seed)
                    row |= columns | step_columns(known, steps, floors[chunk_id])
                    found.directions.extend(
                        direction.row()
                        for number, (value, vector) in enumerate(
                            zip(spectrum.eigenvalues, spectrum.vectors, strict=True), start=1
                        )
                        for direction in make.eigen(
                            vector,
                            number=number,
                            eigenvalue=float(value),
                            chunk=chunk_id,
                            model_id=loaded.model_id,
                            layer=layer,
                            position=position,
                        ).made
                    )
    return found


_UNKNOWN = (
    "isotropic_steepness",
    "isotropic_se",
    "eigenvalues",
    "eigen_residual",
    "participation_ratio",
    "participation_se",
    "on_manifold_steepness",
    "off_manifold_steepness",
    "n_tangents",
    "epsilons",
    "random_kl",
    "random_cv",
    "n_random",
    "anisotropy_ratio",
    "n_below_floor",
    "noise_floor",
    "entropy",
)


def isotropic(steepness: np.ndarray) -> Estimate:
    """tr(G)/2d from ½·zᵀGz (n,) of independent unit probes z whose mean outer product is 1/d (as `unit_probes` are)."""
    n = len(steepness)
    return Estimate(float(np.mean(steepness)), float(np.std(steepness, ddof=1) / math.sqrt(n)) if n > 1 else math.nan)


def unit_probes(n: int, d: int, *key: Any) -> np.ndarray:
    """n vectors (n, d) of independent signs, length 1."""
    return (2.0 * _generator("probes", *key).integers(0, 2, (n, d)) - 1) / math.sqrt(d)


def leading_spectrum(product: Callable[[np.ndarray], np.ndarray], d: int, *, n: int, seed: int) -> Spectrum:
    """The `n` leading eigenpairs (fewer where d is smaller) of a symmetric positive d × d matrix, by products (m, d) →
    (m, d) with it.

    The sign of an eigenvector is the one that makes its largest coordinate positive.
    """
    block = np.random.default_rng(seed).standard_normal((min(n + _SPARE, d), d))
    basis, images = np.empty((0, d)), np.empty((0, d))
    for _ in range(_MAX_BLOCKS):
        block = _orthonormal(block, basis)
        if len(block):
            basis = np.concatenate([basis, block])
            images = np.concatenate([images, product(block)])
        inner = basis @ images.T
        values, mix = np.linalg.eigh((inner + inner.T) / 2)
        values, mix = values[::-1][:n], mix[:, ::-1][:, :n]
        vectors, moved = mix.T @ basis, mix.T @ images
        misses = moved - values[:, None] * vectors
        residual = float(np.linalg.norm(misses, axis=1).max() / values[0]) if values[0] > 0 else math.nan
        if not residual > _TOLERANCE or not len(block) or len(basis) == d:
            break
        block = images[-len(block) :]
    largest = np.abs(vectors).argmax(1)
    return Spectrum(
        values, vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None], residual, basis, images
    )


def participation_ratio(
    product: Callable[[np.ndarray], np.ndarray], spectrum: Spectrum, probes: np.ndarray
) -> Estimate:
    """(tr G)²/tr(G²) from the spectrum's basis and `probes` (n, d) as of `unit_probes`, independent of it; unknown for
    fewer than two.

    Where the basis spans the whole space there is nothing left to estimate, and the error is 0 but for rounding.
    """
    n, d = probes.shape
    if n < 2:
        return Estimate(math.nan, math.nan)
    rest = probes - (probes @ spectrum.basis.T) @ spectrum.basis
    images = product(rest)
    traces, squares = d * (rest * images).sum(1), d * np.square(images).sum(1)
    exact_trace, exact_square = float((spectrum.basis * spectrum.images).sum()), float(np.square(spectrum.images).sum())

    def ratio(some: np.ndarray) -> float:
        own, m = traces[some], int(some.sum())
        of_pairs = (own.sum() ** 2 - np.square(own).sum()) / (m * (m - 1))  # mean of t_i·t_j over i ≠ j
        return (exact_trace**2 + 2 * exact_trace * own.mean() + of_pairs) / (exact_square + squares[some].mean())

    every = np.ones(n, bool)
    if n < 3:
        return Estimate(float(ratio(every)), math.nan)
    without = np.array([ratio(np.arange(n) != left_out) for left_out in range(n)])
    return Estimate(float(ratio(every)), float(math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())))


def _cheap_columns(
    metric: LocalMetric, cloud: np.ndarray, positions: Sequence[str], probes: int, key: tuple[Any, ...]
) -> dict[str, dict[str, Any]]:
    """Isotropic and on/off-manifold columns by position set; every vector goes through the model in one batch."""
    d, n = metric.d_model, len(cloud)
    groups, vectors, where = [], [], []
    for position in positions:
        off = _off_manifold(cloud, *key, position)
        groups.append((probes, n, len(off)))
        vectors.append(np.concatenate([unit_probes(probes, d, *key, position), cloud, off]))
        where += [position] * len(vectors[-1])
    steepness = metric.steepness(np.concatenate(vectors), where)
    columns = {}
    for position, (n_probes, n_on, n_off) in zip(positions, groups, strict=True):
        own, steepness = np.split(steepness, [n_probes + n_on + n_off])
        of_probes, on, off = np.split(own, [n_probes, n_probes + n_on])
        found = isotropic(of_probes)
        columns[position] = {
            "isotropic_steepness": found.value,
            "isotropic_se": _or_none(found.error),
            "n_tangents": n_on or None,
            "on_manifold_steepness": float(on.mean()) if n_on else None,
            "off_manifold_steepness": float(off.mean()) if n_off else None,
        }
    return columns


def _spectrum_columns(
    metric: LocalMetric, position: str, n_eigen: int, probes: int, key: tuple[Any, ...]
) -> tuple[Spectrum, dict[str, Any]]:
    def product(vectors: np.ndarray) -> np.ndarray:
        return metric.products(vectors, position)

    spectrum = leading_spectrum(product, metric.d_model, n=n_eigen, seed=seed_for("spectrum", *key))
    ratio = participation_ratio(product, spectrum, unit_probes(probes, metric.d_model, "participation", *key))
    return spectrum, {
        "eigenvalues": spectrum.eigenvalues.tolist(),
        "eigen_residual": _or_none(spectrum.residual),
        "participation_ratio": _or_none(ratio.value),
        "participation_se": _or_none(ratio.error),
    }


def _checked_tangents(rows: np.ndarray | None, chunk_id: str, d_model: int) -> np.ndarray:
    """Orthonormal rows (n, d_model) in float64; none where there are none."""
    rows = np.empty((0, d_model)) if rows is None else np.asarray(rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] != d_model or not np.allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-4):
        raise SweepError(
            f"Tangents of chunk {chunk_id} must be orthonormal rows (n, {d_model}); got an array {rows.shape} that is"
            " not."
        )
    return rows


def _off_manifold(cloud: np.ndarray, *key: Any) -> np.ndarray:
    """As many random unit vectors as `cloud` (n, d) has rows, each orthogonal to all of them; none where they span
    everything.
    """
    n, d = cloud.shape
    if n == d:
        return np.empty((0, d))
    random = _generator("off the manifold", *key).standard_normal((n, d))
    random -= (random @ cloud.T) @ cloud
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def _orthonormal(block: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span what `block` (m, d) adds to the orthonormal rows of `basis`;
    fewer where it adds less."""
    length = float(np.linalg.norm(block))
    for _ in range(2):  # twice is enough (Kahan)
        block = block - (block @ basis.T) @ basis
        _, sizes, right = np.linalg.svd(block, full_matrices=False)
        block = right[sizes > 1e-10 * length] if length > 0 else right[:0]
        length = 1.0
    return block


def _generator(*key: Any) -> np.random.Generator:
    return np.random.default_rng(seed_for(*key))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
