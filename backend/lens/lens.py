"""Lenses: a lens turns a residual stream at a layer into log-probabilities of the next token.

1. A lens carries the stream h_ℓ to the coordinates of the last block's output: as it stands (`logit`), by an affine map
   h + W h + b (`tuned`, Belrose et al. 2023), or by the averaged Jacobian J h (`jacobian`, Gurnee et al. 2026).
2. The model's own final norm and head follow, once, with whatever caps, scales and biases they have.

Layer ℓ is the output of block ℓ before the final norm, so that the last layer of every lens is the model itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from backend.lens.kinds import LensError
from backend.models.layers import layers_of
from backend.models.linear import linear, packed

if TYPE_CHECKING:
    from backend.models.loaded import HasModel

Part = TypeVar("Part")

_BLOCK = 512  # tokens of the vocabulary at a time: with a strip of streams they fit the cache of a small machine
SUMMED = 8192  # tokens at a time whose sum is float32
_PACKED_BYTES = 1 << 28  # of a head that is copied


class Lens(Protocol):
    """One lens of one model."""

    @property
    def kind(self) -> str:
        """A name in LENSES (kinds.py)."""
        ...

    def carried(self, residual: torch.Tensor, layer: int) -> torch.Tensor:
        """The stream (…, d_model) at `layer` in the coordinates of the last block's output. The last layer's is itself.

        Raises LensError for a layer that the lens does not read.
        """
        ...

    def reads(self, layer: int) -> bool:
        """Whether it carries streams of this layer."""
        ...


@dataclass(frozen=True)
class LogitLens:
    kind = "logit"

    def carried(self, residual: torch.Tensor, layer: int) -> torch.Tensor:
        return residual

    def reads(self, layer: int) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class TunedLens:
    """h + W h + b; layers without a translator are read as they stand where `identity` names them."""

    n_layers: int
    translators: Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> W − I (d, d) and b (d,), float32
    identity: frozenset[int] = frozenset()  # layers where the fit gained nothing and the logit lens is kept
    kind = "tuned"

    def carried(self, residual: torch.Tensor, layer: int) -> torch.Tensor:
        if layer == self.n_layers - 1 or layer in self.identity:
            return residual
        weight, bias = _of_layer(self.translators, layer, "tuned lens")
        return residual + residual @ weight.T + bias

    def reads(self, layer: int) -> bool:
        return layer == self.n_layers - 1 or layer in self.identity or layer in self.translators


@dataclass(frozen=True, eq=False)
class JacobianLens:
    """J h, with J the averaged Jacobian of a layer (d, d), float32."""

    n_layers: int
    jacobians: Mapping[int, torch.Tensor]
    kind = "jacobian"

    def carried(self, residual: torch.Tensor, layer: int) -> torch.Tensor:
        if layer == self.n_layers - 1:
            return residual
        return residual @ _of_layer(self.jacobians, layer, "Jacobian lens").T

    def reads(self, layer: int) -> bool:
        return layer == self.n_layers - 1 or layer in self.jacobians


def _of_layer(parts: Mapping[int, Part], layer: int, what: str) -> Part:
    if layer not in parts:
        raise LensError(
            f"This {what} does not read layer {layer}; it reads {', '.join(map(str, sorted(parts)))} and the last one."
        )
    return parts[layer]


@dataclass(frozen=True)
class Expected:
    """What the mean of a place's logits is under a distribution over tokens: a product with the normed stream."""

    vector: torch.Tensor  # (n_places, d_normed) float64: Wᵀp
    constant: torch.Tensor  # (n_places,) float64: of the head's bias

    def logit(self, normed: torch.Tensor) -> torch.Tensor:
        """(n,) float64 of normed streams (n, d_normed), which go through the places again and again."""
        by_place = normed.double().view(-1, *self.vector.shape)
        return ((by_place * self.vector).sum(-1) + self.constant).flatten()


class Readout:
    """The model's own way from the last block's output to its log-probabilities: final norm, head, softmax."""

    def __init__(self, loaded: "HasModel") -> None:
        self._parts = layers_of(loaded.model)
        self._plain = self._parts.plain_unembedding
        self._packed: list[torch.Tensor] | None = None
        self.n_layers = len(self._parts.blocks)

    @property
    def is_plain(self) -> bool:
        """Whether logits are one matrix product, so that `some_logits` has them of a few tokens alone."""
        return self._plain is not None

    @property
    def n_blocks(self) -> int:
        """How many `blocks` there are."""
        assert self._plain is not None  # `is_plain`
        return -(-len(self._plain[1]) // _BLOCK)

    @torch.inference_mode()
    def logits(self, carried: torch.Tensor) -> torch.Tensor:
        """Logits (…, vocab_size) of streams (…, d_model) in the coordinates of the last block's output."""
        return self._parts.unembed(self._parts.final_norm(carried))

    @torch.inference_mode()
    def normed(self, carried: torch.Tensor) -> torch.Tensor:
        """The streams after the final norm, which `some_logits` and `unembedded` go on from."""
        return self._parts.final_norm(carried)

    @torch.inference_mode()
    def unembedded(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits (…, vocab_size) of normed streams, by the model's own head."""
        return self._parts.unembed(normed)

    @torch.inference_mode()
    def some_logits(self, normed: torch.Tensor, tokens: slice | list[int]) -> torch.Tensor:
        """Logits (n, n_tokens) of normed streams (n, d_normed) at some tokens, by the quick product: they differ from
        the head's by rounding.
        """
        assert self._plain is not None  # `is_plain`
        scale, weight, bias = self._plain
        found = linear(normed, weight[tokens], None if bias is None else bias[tokens])
        return found if scale == 1 else found.mul_(scale)

    @torch.inference_mode()
    def pack(self) -> None:
        """Lays the head's weight out for the products of `blocks`, as a copy, where that is not too large for one."""
        if self._plain is not None and self._plain[1].nbytes <= _PACKED_BYTES:
            self._packed = [packed(block) for block in self._plain[1].split(_BLOCK)]

    @torch.inference_mode()
    def blocks(self, normed: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """What `some_logits` gives of all tokens, block by block of the vocabulary, each with its first token."""
        assert self._plain is not None  # `is_plain`
        scale, weight, bias = self._plain
        for number, block in enumerate(self._packed or weight.split(_BLOCK)):
            start = number * _BLOCK
            found = linear(normed, block, None if bias is None else bias[start : start + _BLOCK])
            yield start, found if scale == 1 else found.mul_(scale)

    @torch.inference_mode()
    def expected(self, probability: torch.Tensor) -> Expected | None:
        """Of distributions (n_places, vocab_size); None where logits are no plain product."""
        if self._plain is None:
            return None
        scale, weight, bias = self._plain
        vector = torch.zeros(len(probability), weight.shape[1], dtype=torch.float64, device=weight.device)
        for some, block in zip(probability.split(SUMMED, -1), weight.split(SUMMED), strict=True):
            vector += some @ block
        constant = torch.zeros(len(probability), dtype=torch.float64, device=weight.device)
        if bias is not None:
            constant += (probability.double() * bias).sum(-1)
        return Expected(scale * vector, scale * constant)

    def log_probs(self, lens: Lens, residual: torch.Tensor, layer: int) -> torch.Tensor:
        """Log-probabilities (…, vocab_size), nats, of the next token as `lens` reads `residual` (…, d_model)."""
        return self.logits(lens.carried(residual, layer)).log_softmax(-1)
