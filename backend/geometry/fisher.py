"""Fisher steepness: what an infinitely small step costs, exactly, instead of a parabola fitted through noisy KL values.

1. KL(β) of a chunk steered along v tends to β²·½·vᵀGv as β → 0. G = mean over t′ in [s−1, e−1) of J′ᵀ(diag p − p pᵀ)J′,
   where p is the unsteered prediction at t′ and J′ = ∂ logits at t′ / ∂ β·v. A step is size(h_t)·v at the steered
   positions t, so G holds the sizes.
2. The step is pushed through the upper layers exactly, many directions at once (`UpperLayers`), to the normed last
   residuals: Δn.
3. ½·vᵀGv is then the mean over t′ of half the variance of the logits' change W·Δn under p, taken about its mean, one
   block of the vocabulary at a time, summed in float64. Products G·v go back the same way: Jᵀ Wᵀ(p ∘ (y − ȳ)), y =
   W·Δn.
Source: Liang et al. 2019 (arXiv:1711.01530), Arvanitidis et al. 2021; the KL(β) it is the limit of is that of
`sweep.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.geometry.directions import Direction
from backend.geometry.sweep import SweepError, check_float32, check_steering, curve_columns, predicting_positions
from backend.models.edits import Encoded, encode
from backend.models.interventions import PLACES, UNITS
from backend.models.linear import linear
from backend.models.tangents import UpperLayers

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_BLOCK_VALUES = 400 * 2048  # values of one block of logits, as in `kl.py`: it stays in the cache
_STEPS = 64  # steps in flight at once; bounds memory, not results
_COVARIANCE_ROWS = 4096  # of the unembedding, in one float32 product
_LOGIT_ROWS = 32  # tokens whose logits are held at once where the unembedding is not a plain product


def fisher_cot(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    chunk_spans: Mapping[str, tuple[int, int]],
    directions: Sequence[Direction],
    *,
    layers: Sequence[int],
    positions: Sequence[str] = ("anchor",),
    unit: str = "rms",
    known: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Rows of the table `fisher` of one text: each chunk × direction at `layers` that applies to it × position set.

    Arguments are those of `sweep_cot`, and so are the errors (SweepError). A chunk without tokens has an unknown (None)
    steepness.
    """
    check_float32(loaded)
    for layer in layers:
        if not any(direction.layer == layer for direction in directions):
            raise SweepError(
                f"No direction was given for layer {layer}. Make directions there, or leave the layer out."
            )
    encoded = encode(loaded, token_ids, layers=layers)
    rows: list[dict[str, Any]] = []
    for chunk_id, span in chunk_spans.items():
        own = [
            direction
            for direction in directions
            if direction.layer in layers and direction.chunk_id in (None, chunk_id)
        ]
        check_steering(loaded, encoded, chunk_id, span, own, positions=positions, unit=unit)
        n_tokens = len(predicting_positions(span))
        predictions = PredictionMetric(encoded, predicting_positions(span)) if n_tokens else None
        for layer in layers:
            wanted = [
                (direction, position)
                for direction in own
                if direction.layer == layer
                for position in positions
                if curve_columns(chunk_id, direction, position, unit)["curve_id"] not in known
            ]
            steepness: Iterable[float | None] = [None] * len(wanted)
            if predictions is not None and wanted:
                metric = LocalMetric(encoded, span, layer, unit=unit, predictions=predictions)
                steepness = metric.steepness(
                    [direction.vector for direction, _ in wanted], [position for _, position in wanted]
                ).tolist()
            rows.extend(
                curve_columns(chunk_id, direction, position, unit) | {"fisher_steepness": value, "n_tokens": n_tokens}
                for (direction, position), value in zip(wanted, steepness, strict=True)
            )
    return rows


class LocalMetric:
    """G of one chunk with tokens [s, e) = `span`, for steps made at `layer`; never written out, only applied to
    vectors.
    """

    def __init__(
        self,
        encoded: Encoded,
        span: tuple[int, int],
        layer: int,
        *,
        unit: str = "rms",
        predictions: "PredictionMetric | None" = None,
    ) -> None:
        window = predicting_positions(span)
        h = encoded.residual(layer)[window]
        self._dtype, self.d_model, self._n_tokens = h.dtype, h.shape[-1], len(window)
        self._span, self._first = span, window[0]
        self._sizes = UNITS[unit].size(h.double())  # (n_tokens, 1) float64
        self._upper = UpperLayers(encoded, layer, first=window[0], end=window[-1] + 1)
        self._predictions = predictions or PredictionMetric(encoded, window)

    def steepness(self, vectors: Sequence[np.ndarray] | np.ndarray, positions: Sequence[str]) -> np.ndarray:
        """½·vᵀGv, nats per unit β², (n,) float64, for each vector (d_model,) with its own position set.

        Raises SweepError.
        """
        found = [
            self._predictions.variance(self._upper.push(steps)).mean(-1) / 2
            for steps in self._steps(vectors, positions)
        ]
        return torch.cat(found).cpu().numpy()

    def products(self, vectors: Sequence[np.ndarray] | np.ndarray, position: str) -> np.ndarray:
        """G·v, (n, d_model) float64, for each vector (d_model,) at one position set. Raises SweepError."""
        where = self._where([position])
        found = []
        for steps in self._steps(vectors, [position] * len(vectors)):
            back = self._upper.pull(self._predictions.times(self._upper.push(steps)))
            found.append((back.double() * self._sizes * where).sum(1) / self._n_tokens)
        return torch.cat(found).cpu().numpy()

    def matrix(self, position: str) -> np.ndarray:
        """G itself, (d_model, d_model) float64, symmetric. Raises SweepError.

        It takes half of what as many `products` do: every coordinate is pushed once, and nothing is pulled back.
        """
        every = np.eye(self.d_model)
        if not self._predictions.is_plain:
            found = self.products(every, position)
        else:
            steps = self._steps(every, [position] * self.d_model)
            moves = torch.cat([self._upper.push(some) for some in steps])
            found = self._predictions.forms(moves).cpu().numpy() / self._n_tokens
        return (found + found.T) / 2

    def _steps(self, vectors: Sequence[np.ndarray] | np.ndarray, positions: Sequence[str]) -> Iterable[torch.Tensor]:
        """Steps size(h_t)·v (n, n_tokens, d_model), 0 where nothing is steered, some at a time."""
        for vector in vectors:
            if np.shape(vector) != (self.d_model,):
                raise SweepError(
                    f"A direction has shape {np.shape(vector)}, but the residual stream has {self.d_model} values."
                )
        exact = torch.from_numpy(np.asarray(vectors, np.float64)).to(self._sizes.device)
        for some, where in zip(exact.split(_STEPS), self._where(positions).split(_STEPS), strict=True):
            yield (self._sizes * where * some[:, None]).to(self._dtype)

    def _where(self, positions: Sequence[str]) -> torch.Tensor:
        """(n, n_tokens, 1) float64: 1 at the steered tokens of each position set,
        among those that predict the chunk."""
        masks = {}
        for position in set(positions):
            masks[position] = torch.zeros(self._n_tokens, 1, dtype=torch.float64, device=self._sizes.device)
            steered = PLACES[position].positions(self._span, 0)
            masks[position][[t - self._first for t in steered]] = 1
        return torch.stack([masks[position] for position in positions])


class PredictionMetric:
    """diag p − p pᵀ of the unsteered predictions at some positions of a text,
    as seen from the normed last residuals."""

    @torch.inference_mode()
    def __init__(self, encoded: Encoded, positions: Sequence[int]) -> None:
        self._parts = encoded.parts
        self._normed = encoded.normed[list(positions)]
        self._p = self._parts.unembed(self._normed).softmax(-1)  # (n_positions, vocab_size)
        plain = self._parts.plain_unembedding
        self._scale = 1.0 if plain is None else plain[0]
        self._weight = None if plain is None else plain[1]
        if self._weight is not None:
            self._root = self._p.sqrt()
            self._mean_row = linear(
                self._p, self._weight.t()
            )  # (n_positions, d_model): mean row of the unembedding under p

    @property
    def is_plain(self) -> bool:
        """Whether logits are one matrix product, which `forms` counts on."""
        return self._weight is not None

    @torch.inference_mode()
    def forms(self, moves: torch.Tensor) -> torch.Tensor:
        """Sum over the positions of the covariances, under p, of the logits' changes for every two of the moves (n,
        n_positions, d_model) of the normed residuals: (n, n) float64.
        """
        total = torch.zeros(len(moves), len(moves), dtype=torch.float64, device=moves.device)
        for position in range(moves.shape[1]):
            own = (moves[:, position] * self._scale).double()
            total += own @ self._covariance(position) @ own.T
        return total

    def _covariance(self, position: int) -> torch.Tensor:
        """Covariance under p of the unembedding's rows, (d_model, d_model) float64."""
        assert self._weight is not None  # `is_plain`
        found = torch.zeros(self._weight.shape[1], self._weight.shape[1], dtype=torch.float64, device=self._p.device)
        mean = self._mean_row[position]
        for weight, root in zip(
            self._weight.split(_COVARIANCE_ROWS), self._root[position].split(_COVARIANCE_ROWS), strict=True
        ):
            rows = ((weight - mean) * root[:, None]).T.contiguous()
            found += linear(rows, rows)
        return found

    @property
    def entropy(self) -> float:
        """Mean over the positions of the predictions' entropy, nats."""
        return float(sum(torch.special.entr(p.double()).sum() for p in self._p) / len(self._p))

    @torch.inference_mode()
    def variance(self, moves: torch.Tensor) -> torch.Tensor:
        """Variance under p of the logits' change, (n, n_positions) float64, for moves of the normed residuals (n,
        n_positions, d_model).
        """
        total = torch.zeros(moves.shape[:2], dtype=torch.float64, device=moves.device)
        if self._weight is None:
            return torch.cat([self._p.mul(y.square_()).sum(-1, dtype=torch.float64) for y in self._centred(moves)])
        for block, y in self._blocks(self._weight, moves * self._scale):
            total += torch.linalg.vector_norm(y.mul_(self._root[:, block]), dim=-1).double().square_()
        return total

    @torch.inference_mode()
    def times(self, moves: torch.Tensor) -> torch.Tensor:
        """Wᵀ(p ∘ (y − ȳ)) (n, n_positions, d_model), y = W·moves the logits' change and ȳ its mean under p."""
        if self._weight is None:
            return torch.cat([self._transposed(y.mul_(self._p)) for y in self._centred(moves)])
        total = torch.zeros_like(moves)
        for block, y in self._blocks(self._weight, moves * self._scale):
            total += linear(y.mul_(self._p[:, block]).flatten(0, 1), self._weight[block].t()).view_as(moves)
        return total * self._scale

    def _blocks(self, weight: torch.Tensor, moves: torch.Tensor) -> Iterable[tuple[slice, torch.Tensor]]:
        """The logits' change less its mean, (n, n_positions, block), one block of the vocabulary after the other.

        An error in the mean (float32's 1e-7) enters the variance only squared.
        """
        flat = moves.flatten(0, 1)
        mean = (moves * self._mean_row).sum(-1, keepdim=True)
        width = min(len(weight), max(64, _BLOCK_VALUES // len(flat)))
        for start in range(0, len(weight), width):
            block = slice(start, start + width)
            yield block, linear(flat, weight[block]).view(*moves.shape[:2], -1).sub_(mean)

    def _centred(self, moves: torch.Tensor) -> Iterable[torch.Tensor]:
        """The logits' change less its mean (some, n_positions, vocab_size) through any unembedding, some moves at a
        time.
        """
        for some in moves.split(max(1, _LOGIT_ROWS // len(self._p))):
            with torch.inference_mode(False), torch.no_grad():
                normed = self._normed.clone()
                y = torch.func.vmap(
                    lambda move, normed=normed: torch.func.jvp(self._parts.unembed, (normed,), (move,))[1]
                )(some.clone())
            yield y - (self._p * y).sum(-1, keepdim=True)

    def _transposed(self, u: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(False), torch.no_grad():
            pull = torch.func.vjp(self._parts.unembed, self._normed.clone())[1]
            return torch.func.vmap(lambda one: pull(one)[0])(u.clone())
