"""The residual stream of a text as the model reads it, and its mean over chunks.

Layer ℓ is the output of block ℓ, so `hidden_states[ℓ+1]` of transformers for every block but the last, where
transformers gives the normed stream and this gives the stream itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.models.layers import layers_of, private_copy, residual_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from backend.models.loaded import LoadedModel


class ResidualError(AnchorscopeError):
    """A residual stream was asked for at a layer, token or span that does not exist, or is not finite."""


@dataclass(frozen=True)
class ChunkActivations:
    """Means over chunks; a chunk without tokens has NaN, never 0."""

    mean: torch.Tensor  # (n_chunks, d_model): mean residual stream over the chunk's tokens
    rms: (
        torch.Tensor
    )  # (n_chunks,): root mean square of the residual stream at a token, averaged over the chunk's tokens


def record_residuals(loaded: "LoadedModel", token_ids: Sequence[int], layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Residual stream (n_tokens, d_model) at each of `layers` (0-based blocks),
    from one forward pass of `token_ids`."""
    return ResidualReader(loaded, layers)(token_ids)


class ResidualReader:
    """What `record_residuals` gives, of many texts: the copy that has the blocks up to the last of `layers` is made
    once.
    """

    def __init__(self, loaded: "LoadedModel", layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self._model = loaded.model
        self._parts = layers_of(private_copy(loaded.model))
        _require_layers(self._parts.blocks, layers)
        del self._parts.blocks[max(layers, default=-1) + 1 :]  # of the copy: what lies above changes nothing below

    @torch.inference_mode()
    def __call__(self, token_ids: Sequence[int]) -> dict[int, torch.Tensor]:
        tokens = checked_tokens(token_ids, self._model)
        with recording(self._parts.blocks, self.layers) as residuals:
            self._parts.trunk(input_ids=tokens, use_cache=False)
        return {layer: residuals[layer][0] for layer in self.layers}


def chunk_activations(residual: torch.Tensor, spans: Sequence[tuple[int, int]]) -> ChunkActivations:
    """Means of `residual` (n_tokens, d_model) over token spans [start, end), summed in float64."""
    n_tokens, d_model = residual.shape
    mean = torch.full((len(spans), d_model), torch.nan, dtype=residual.dtype, device=residual.device)
    rms = torch.full((len(spans),), torch.nan, dtype=residual.dtype, device=residual.device)
    for i, (start, end) in enumerate(spans):
        if not 0 <= start <= end <= n_tokens:
            raise ResidualError(
                f"Chunk {i} has token span [{start}, {end}), outside the {n_tokens} tokens that were read."
            )
        if start < end:
            exact = residual[start:end].double()
            mean[i] = exact.mean(0)
            rms[i] = exact.square().mean(-1).sqrt().mean()
    return ChunkActivations(mean, rms)


@contextmanager
def recording(blocks: nn.ModuleList, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Inside, every forward pass leaves its residual streams (batch, n_tokens, d_model) in the dict it gives, by layer.

    Raises ResidualError for a layer that does not exist and, at the end, for one that no forward pass reached or that
    is not finite.
    """
    _require_layers(blocks, layers)
    residuals: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> torch.utils.hooks.RemovableHandle:
        return blocks[layer].register_forward_hook(
            lambda _block, _inputs, output: residuals.__setitem__(layer, residual_of(output))
        )

    handles = [keep(layer) for layer in set(layers)]
    try:
        yield residuals
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in residuals:
            raise ResidualError(f"No forward pass reached layer {layer} while its residual stream was being recorded.")
    if not layers:
        return
    extremes = torch.stack([torch.stack(residuals[layer].aminmax()) for layer in layers])
    for layer, finite in zip(layers, torch.isfinite(extremes).all(1).cpu().tolist(), strict=True):
        if not finite:
            raise ResidualError(f"The residual stream at layer {layer} has values that are NaN or infinite.")


def _require_layers(blocks: nn.ModuleList, layers: Sequence[int]) -> None:
    for layer in layers:
        if not 0 <= layer < len(blocks):
            raise ResidualError(f"Layer {layer} does not exist: the model has layers 0 to {len(blocks) - 1}.")


def checked_tokens(token_ids: Sequence[int], model: "PreTrainedModel") -> torch.Tensor:
    """Token ids (1, n_tokens) on the model's device; raises ResidualError for an empty text or an id outside the
    vocabulary.
    """
    n_ids = model.get_input_embeddings().weight.shape[0]
    if len(token_ids) == 0:
        raise ResidualError("There are no tokens to read.")
    if not 0 <= min(token_ids) <= max(token_ids) < n_ids:
        raise ResidualError(
            f"Token ids run from {min(token_ids)} to {max(token_ids)}, but the model knows 0 to {n_ids - 1}."
        )
    return torch.tensor([list(token_ids)], device=model.get_input_embeddings().weight.device)
