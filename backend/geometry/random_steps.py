"""Finite steps along random directions, as published: KL(ε) of a chunk along directions uniform on the sphere.

1. Each chunk, layer and position set has directions of its own. The k-th one's seed follows from the chunk's and k, so
   that more directions, or other chunks beside it, change none.
2. Mean over the directions and coefficient of variation at each magnitude; at magnitude 1 each direction's own KL, of
   which the largest over the smallest is the anisotropy ratio. What lies at or below the noise floor is no ratio.
Source: Dawes 2025, section 3 (random directions, ε in [0, 10]). How unequal they are: `anisotropy.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.geometry import directions as make
from backend.geometry.sweep import (
    SweepError,
    check_float32,
    check_steering,
    noise_floor,
    predicting_positions,
    sweep_chunk,
)
from backend.ids import seed_for
from backend.models.edits import Encoded, encode

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

EPSILONS = tuple(10 ** (third / 3) for third in range(-6, 4))  # 0.01 to 10, three a decade, 1 among them
N_DIRECTIONS = 16  # Dawes 2025


@dataclass(frozen=True)
class Steps:
    """Which steps are made; magnitude 1 is taken whether or not it is among `epsilons`."""

    unit: str  # of the magnitudes
    n: int = N_DIRECTIONS
    epsilons: tuple[float, ...] = EPSILONS

    def __post_init__(self) -> None:
        if self.n < 1 or not all(math.isfinite(epsilon) for epsilon in self.epsilons):
            raise SweepError(
                f"At least one random direction is needed, and finite magnitudes; got {self.n} and"
                f" {list(self.epsilons)}."
            )


@dataclass(frozen=True)
class Place:
    """Where a chunk with tokens [s, e) = `span` is steered."""

    chunk_id: str
    span: tuple[int, int]
    layer: int
    position: str


def random_steps_cot(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    steps: Steps,
    *,
    layers: Sequence[int],
    positions: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `random_steps` of one text: one for each chunk × layer × position set.

    A chunk without tokens has unknown (None) KLs. Raises SweepError for half precision, and for spans, position sets or
    units out of place.
    """
    check_float32(loaded)
    encoded = encode(loaded, token_ids, layers=layers)
    for chunk_id, span in chunk_spans.items():
        check_steering(loaded, encoded, chunk_id, span, [], positions=positions, unit=steps.unit)
    floors = noise_floor(loaded, token_ids, chunk_spans, encoded=encoded)
    rows = []
    for chunk_id, span in chunk_spans.items():
        n_tokens = len(predicting_positions(span))
        for at in (Place(chunk_id, span, layer, position) for layer in layers for position in positions):
            known = directional_kl(loaded, encoded, at, steps, seed) if n_tokens else None
            measured = dict.fromkeys(_MEASURED) if known is None else step_columns(known, steps, floors[chunk_id])
            if known is not None:
                measured |= {"kl_at_1": known.at_1.tolist()}
            about = {"chunk_id": chunk_id, "model_id": loaded.model_id, "layer": at.layer, "position": at.position}
            rows.append(about | {"unit": steps.unit, "n_tokens": n_tokens, "seed": seed} | measured)
    return rows


@dataclass(frozen=True)
class DirectionalKL:
    """KL of one chunk along each random direction, nats."""

    kl: np.ndarray  # (n, n_epsilons)
    at_1: np.ndarray  # (n,) at magnitude 1


def directional_kl(loaded: "LoadedModel", encoded: Encoded, at: Place, steps: Steps, seed: int) -> DirectionalKL:
    """Of a chunk that has tokens. The directions follow from `seed`, chunk, layer, position set and their number."""
    d_model = encoded.residual(at.layer).shape[-1]
    own_seed = seed_for("random steps", seed, at.chunk_id, at.layer, at.position)
    random = make.random(steps.n, d_model, model_id=loaded.model_id, layer=at.layer, seed=own_seed).made
    betas = list(dict.fromkeys([*steps.epsilons, 1.0]))
    curves = sweep_chunk(
        loaded, encoded, at.chunk_id, at.span, random, positions=[at.position], betas=betas, unit=steps.unit
    ).kl_curves
    kl = np.array([curve["kl"] for curve in curves], np.float64)
    return DirectionalKL(kl[:, [betas.index(epsilon) for epsilon in steps.epsilons]], kl[:, betas.index(1.0)])


def step_columns(known: DirectionalKL, steps: Steps, floor: float) -> dict[str, Any]:
    """The columns that the tables `random_steps` and `local_geometry` share."""
    magnitudes = {"epsilons": [float(epsilon) for epsilon in steps.epsilons]}
    return finite_step_columns(known.kl, known.at_1, floor) | magnitudes


def finite_step_columns(kl: np.ndarray, kl_at_1: np.ndarray, floor: float) -> dict[str, Any]:
    """What KLs (n_random, n_epsilons) at each magnitude and (n_random,) at 1 say, given the noise floor: mean,
    variation, anisotropy.
    """
    mean = kl.mean(0)
    deviation = kl.std(0, ddof=1) if len(kl) > 1 else np.full(kl.shape[1], math.nan)
    below = int((kl_at_1 <= floor).sum())
    return {
        "random_kl": mean.tolist(),
        "random_cv": [_or_none(own / of) if of > floor else None for own, of in zip(deviation, mean, strict=True)],
        "n_random": len(kl),
        "n_below_floor": below,
        "noise_floor": _or_none(floor),
        "anisotropy_ratio": float(kl_at_1.max() / kl_at_1.min()) if below == 0 else None,
    }


_MEASURED = (
    "epsilons",
    "random_kl",
    "random_cv",
    "kl_at_1",
    "n_random",
    "n_below_floor",
    "noise_floor",
    "anisotropy_ratio",
)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
