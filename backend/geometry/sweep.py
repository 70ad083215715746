"""KL(β): what steering a chunk along a direction does to the model's predictions of that chunk.

1. The whole text goes through the model once (`encode`), unsteered and teacher-forced on its own tokens.
2. For a chunk with tokens [s, e), h ← h + β·size·v̂ at layer ℓ, at one position set: `anchor` is s−1, the token before
   the chunk; `chunk` is every t in [s−1, e−1), the tokens whose predictions are the chunk's. The size of a step, by
   unit: `rms` √(mean h_t²) (default), `norm` ‖h_t‖, `absolute` 1; h_t is the unsteered residual stream at the steered
   position.
3. KL(β) is the mean over t in [s−1, e−1) of KL( steered ‖ base ), full vocabulary, nats. All β and directions of a
   chunk share batches.
4. The curve is kept with the noise floor, the same KL for unsteered passes of other shapes, and with both fits.
Source: Dawes 2025, section 3 (steering one token by β times the RMS of its residual stream is its published code's
convention).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.errors import AnchorscopeError
from backend.geometry.directions import Direction
from backend.geometry.fits import quadratic_fit, square_fit
from backend.ids import stable_id
from backend.models.edits import Edit, Encoded, encode
from backend.models.interventions import UNITS, Intervention, swept_places
from backend.models.kl import BaseDistribution, base_distribution, kl_divergence

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

POSITIONS = swept_places()
BETAS = tuple(float(beta) for beta in range(-10, 11))  # Dawes 2025: [−10, 10], 21 points
_ROWS = 640  # tokens steered in one batch: large enough for full-speed matrix products, small enough for the cache
_PADDING = 7  # tokens appended for the noise floor; any number that changes the shapes will do
_LOGIT_ROWS = 32  # positions whose logits are held at once where the KL cannot be had without logits


class SweepError(AnchorscopeError):
    """A sweep that cannot be made as asked."""


@dataclass(frozen=True)
class SweepRows:
    """Rows of the tables `kl_curves` and `steepness`; both lists have one row a curve, in the same order."""

    kl_curves: list[dict[str, Any]] = field(default_factory=list)
    steepness: list[dict[str, Any]] = field(default_factory=list)


def sweep_cot(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    directions: Sequence[Direction],
    *,
    layers: Sequence[int],
    positions: Sequence[str] = POSITIONS,
    betas: Sequence[float] = BETAS,
    unit: str = "rms",
    known: Collection[str] = (),
) -> SweepRows:
    """Every curve of one text: each chunk × direction at `layers` that applies to it × position set.

    `chunk_spans` maps a chunk's id to its token span [s, e) in `token_ids` (prompt + CoT). A direction made from a
    chunk applies to that chunk, one without a chunk to all. Curves whose ids are `known` are left out.
    Raises SweepError for a direction of another model, or a layer without any direction.
    """
    check_float32(loaded)
    for layer in layers:
        if not any(direction.layer == layer for direction in directions):
            raise SweepError(
                f"No direction was given for layer {layer}. Make directions there, or leave the layer out."
            )
    encoded = encode(loaded, token_ids, layers=layers)
    floors = noise_floor(loaded, token_ids, chunk_spans, encoded=encoded)
    rows = SweepRows()
    for chunk_id, span in chunk_spans.items():
        chosen = [d for d in directions if d.layer in layers and d.chunk_id in (None, chunk_id)]
        swept = sweep_chunk(
            loaded,
            encoded,
            chunk_id,
            span,
            chosen,
            positions=positions,
            betas=betas,
            unit=unit,
            noise_floor=floors[chunk_id],
            known=known,
        )
        rows.kl_curves.extend(swept.kl_curves)
        rows.steepness.extend(swept.steepness)
    return rows


def sweep_chunk(
    loaded: "LoadedModel",
    encoded: Encoded,
    chunk_id: str,
    span: tuple[int, int],
    directions: Sequence[Direction],
    *,
    positions: Sequence[str] = POSITIONS,
    betas: Sequence[float] = BETAS,
    unit: str = "rms",
    noise_floor: float = math.nan,
    known: Collection[str] = (),
) -> SweepRows:
    """The curves of one chunk with tokens [s, e) = `span` in an encoded text, one for each direction and position set,
    but those whose ids are `known`.

    A chunk without tokens of its own has curves of unknown (None) KL. Raises SweepError where there is no token before
    the chunk.
    """
    wanted = [
        (direction, position)
        for direction in directions
        for position in positions
        if curve_columns(chunk_id, direction, position, unit)["curve_id"] not in known
    ]
    check_steering(loaded, encoded, chunk_id, span, directions, positions=positions, betas=betas, unit=unit)
    predicting = predicting_positions(span)
    if not predicting:
        curves = [[math.nan] * len(betas) for _ in wanted]
    else:
        base = Predictions(encoded, predicting)
        edits = [
            edit
            for direction, position in wanted
            for edit in steering_edits(encoded, span, direction, position, betas, unit)
        ]
        per_pass = max(1, _ROWS // len(predicting))
        means: list[float] = []
        for layer_edits in (edits[i : i + per_pass] for i in range(0, len(edits), per_pass)):
            means.extend(base.kl(layer_edits).mean(-1).cpu().tolist())
        curves = [means[i : i + len(betas)] for i in range(0, len(means), len(betas))]
    rows = SweepRows()
    for (direction, position), kl in zip(wanted, curves, strict=True):
        _add_rows(rows, chunk_id, direction, position, unit, betas, kl, noise_floor, len(predicting))
    return rows


def predicting_positions(span: tuple[int, int]) -> list[int]:
    """Positions whose predictions are the tokens of the chunk with token span [s, e): t in [s−1, e−1)."""
    return list(range(span[0] - 1, span[1] - 1))


def steering_edits(
    encoded: Encoded, span: tuple[int, int], direction: Direction, position: str, betas: Sequence[float], unit: str
) -> list[Edit]:
    """One edit for each β: h_t ← h_t + β·size(h_t)·v̂ at the position set. Raises SweepError for a direction of another
    width.

    In a pass that also steers lower layers, h_t is computed anew with them, so it differs from the stored one by
    rounding (1e-6 of the KL).
    """
    d_model = encoded.residual(direction.layer).shape[-1]
    if len(direction.vector) != d_model:
        raise SweepError(
            f"Direction {direction.direction_id} has {len(direction.vector)} values, but the residual stream has"
            f" {d_model}."
        )
    steering = Intervention((direction.layer,), position, "add", direction.vector, 0.0, unit)
    return [edit for beta in betas for edit in steering.with_beta(beta).edits(span, n_prompt=0)]


def curve_columns(chunk_id: str, direction: Direction, position: str, unit: str) -> dict[str, Any]:
    """What is being steered, with its id: the columns that `kl_curves`, `steepness` and `fisher` share."""
    return {
        "curve_id": stable_id("k", chunk_id, direction.direction_id, direction.layer, position, unit),
        "chunk_id": chunk_id,
        "direction_id": direction.direction_id,
        "kind": direction.kind,
        "model_id": direction.model_id,
        "layer": direction.layer,
        "position": position,
        "unit": unit,
    }


@torch.inference_mode()
def noise_floor(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    *,
    encoded: Encoded | None = None,
) -> dict[str, float]:
    """By chunk id, the KL from rounding alone, nats, mean over t in [s−1, e−1); NaN for a chunk without tokens.

    Two unsteered passes are compared with the base: one with tokens appended, which cannot change what stands before
    them, and one computed the way steered ones are, from the lowest layer kept in `encoded` (layer 0 without it). The
    floor is the larger mean of the two: a steered KL no larger means nothing.
    """
    check_float32(loaded)
    encoded = encoded or encode(loaded, token_ids, layers=[0])
    predicting = {chunk_id: _checked_span(encoded, chunk_id, span) for chunk_id, span in chunk_spans.items()}
    floors = dict.fromkeys(predicting, math.nan)
    every = sorted({position for positions in predicting.values() for position in positions})
    if not every:
        return floors
    padded = encode(loaded, [*token_ids, *[token_ids[-1]] * _PADDING], layers=[]).normed
    again = padded.clone()
    again[every] = encoded.recomputed(encoded.layers[0], every)
    for chunk_id, positions in predicting.items():
        if positions:
            unsteered = torch.stack([padded[positions], again[positions]])
            floors[chunk_id] = float(Predictions(encoded, positions).kl_of(unsteered).mean(-1).max())
    return floors


def check_float32(loaded: "LoadedModel") -> None:
    """Refuses models in half precision, whose rounding alone reads as a KL of about 1e-3."""
    dtype = next(loaded.model.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise SweepError(f"The model runs in {dtype}, whose rounding hides small KLs. Load it with dtype float32.")


def check_steering(
    loaded: "LoadedModel",
    encoded: Encoded,
    chunk_id: str,
    span: tuple[int, int],
    directions: Sequence[Direction],
    *,
    positions: Sequence[str],
    unit: str,
    betas: Sequence[float] = (),
) -> None:
    """Raises SweepError for what cannot be steered as asked: half precision, a span, unit, position, β or direction out
    of place.
    """
    check_float32(loaded)
    _checked_span(encoded, chunk_id, span)
    if unit not in UNITS or not set(positions) <= set(swept_places()):
        raise SweepError(
            f"Unit {unit!r} and positions {list(positions)}: units are {tuple(UNITS)}, positions {swept_places()}."
        )
    if not all(math.isfinite(beta) for beta in betas):
        raise SweepError(f"Every beta must be a number, got {list(betas)}.")
    for direction in directions:
        if direction.model_id != loaded.model_id:
            raise SweepError(
                f"Direction {direction.direction_id} is of model {direction.model_id}; {loaded.model_id} is being"
                " steered."
            )
        if direction.chunk_id not in (None, chunk_id):
            raise SweepError(
                f"Direction {direction.direction_id} was made from chunk {direction.chunk_id}; {chunk_id} is being"
                " steered."
            )


class Predictions:
    """The unsteered predictions at some positions of a text, and the KL of steered ones from them."""

    def __init__(self, encoded: Encoded, positions: list[int]) -> None:
        self._encoded, self._positions = encoded, positions
        self._distribution: BaseDistribution | None = None
        if (plain := encoded.parts.plain_unembedding) is not None:
            self._scale, weight, bias = plain
            bias = None if bias is None else bias * self._scale
            self._distribution = base_distribution(encoded.normed[positions] * self._scale, weight, bias)

    def kl(self, edits: Sequence[Edit | Sequence[Edit]]) -> torch.Tensor:
        """(n_edits, n_positions) float64, nats."""
        edited = self._encoded.edited(edits, self._positions)
        kl = torch.zeros(edited.moved.shape, dtype=torch.float64, device=edited.normed.device)
        if edited.rows:
            rows = torch.tensor(edited.rows, device=kl.device)
            kl[rows] = self.kl_of(edited.normed[rows])
        return kl

    @torch.inference_mode()
    def kl_of(self, normed: torch.Tensor) -> torch.Tensor:
        """(n_rows, n_positions) float64, nats, of normed last residuals (n_rows, n_positions, d_model)."""
        if self._distribution is not None:
            return self._distribution.kl(normed * self._scale)
        unembed, base = self._encoded.parts.unembed, self._encoded.normed[self._positions].expand_as(normed)
        pairs = zip(normed.flatten(0, 1).split(_LOGIT_ROWS), base.flatten(0, 1).split(_LOGIT_ROWS), strict=True)
        return torch.cat([kl_divergence(unembed(steered), unembed(unsteered)) for steered, unsteered in pairs]).view(
            normed.shape[:2]
        )


def _add_rows(
    rows: SweepRows,
    chunk_id: str,
    direction: Direction,
    position: str,
    unit: str,
    betas: Sequence[float],
    kl: list[float],
    floor: float,
    n_tokens: int,
) -> None:
    about = curve_columns(chunk_id, direction, position, unit)
    quadratic, square = quadratic_fit(betas, kl), square_fit(betas, kl)
    known = np.asarray(kl)[np.isfinite(kl)]
    rows.kl_curves.append(
        about
        | {
            "betas": [float(beta) for beta in betas],
            "kl": [_or_none(value) for value in kl],
            "noise_floor": _or_none(floor),
            "n_tokens": n_tokens,
        }
    )
    rows.steepness.append(
        about
        | {
            "steepness": _or_none(quadratic.steepness),
            "r2": _or_none(quadratic.r2),
            "amplitude": _or_none(square.amplitude),
            "amplitude_r2": _or_none(square.r2),
            "n_betas": len(known),
            "below_floor": None if not len(known) or math.isnan(floor) else bool((known <= floor).all()),
        }
    )


def _checked_span(encoded: Encoded, chunk_id: str, span: tuple[int, int]) -> list[int]:
    start, end = span
    if not 1 <= start <= end <= len(encoded.token_ids):
        raise SweepError(
            f"Chunk {chunk_id} has token span [{start}, {end}); it must lie in the text's {len(encoded.token_ids)}"
            " tokens, after the first."
        )
    return predicting_positions(span)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
