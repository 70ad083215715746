"""Derivatives of the last block's output by the residual stream at every layer, from one reverse pass.

1. At each layer a vector is added to the residual stream of all the positions that take part, the same at each: its
   derivative at 0 is the sum of the derivatives by the stream at these positions. So no gradient of a position is ever
   held, and all layers come from one pass.
2. The last block's output is summed over the same positions. A causal model lets a stream move itself and later ones
   alone, so that what is left is the sum over p ≤ p′.
3. Many cotangents go through one recorded forward pass at once (torch's vectorised reverse mode); products with weights
   fold them into the rows of one matrix product.

The passes go through a private copy, which shares the model's weights and alone carries hooks.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.linear import ProductLinear, replace_linears
from backend.models.loaded import HasModel
from backend.models.private import experts_one_by_one
from backend.models.residuals import ResidualError, checked_tokens

_COTANGENTS = 32  # in one reverse pass: with 128 tokens, rows enough for full-speed products


class Pullbacks:
    """Reverse passes of one model; made once for many texts."""

    def __init__(self, loaded: HasModel) -> None:
        model = private_copy(loaded.model)
        self._parts = layers_of(model)
        replace_linears(self._parts.trunk, ProductLinear.over)
        experts_one_by_one(self._parts.trunk)
        self._model = loaded.model
        self.n_layers, self.d_model = len(self._parts.blocks), self._parts.d_model
        self._lock = threading.RLock()  # hooks on the copy belong to one pass at a time

    @torch.enable_grad()
    def summed(
        self, token_ids: Sequence[int], cotangents: torch.Tensor, layers: Sequence[int], positions: range
    ) -> torch.Tensor:
        """Σ_{p ≤ p′} uᵀ ∂h_last,p′ / ∂h_ℓ,p over p, p′ in `positions`, for each of `layers` below the last and each
        cotangent u (n, d_model): (n_layers, n, d_model).
        """
        self._check(layers, positions, len(token_ids))
        if not layers:
            return cotangents.new_zeros((0, *cotangents.shape))
        tokens = checked_tokens(token_ids[: positions.stop], self._model)  # later ones move nothing that is summed
        weight = self._parts.trunk.get_input_embeddings().weight
        with torch.inference_mode(False), sdpa_kernel(SDPBackend.MATH):
            moves = [weight.new_zeros(self.d_model).requires_grad_() for _ in layers]
            cotangents = cotangents.to(weight).clone()
            with self._moved(dict(zip(layers, moves, strict=True)), positions) as streams:
                self._parts.trunk(input_ids=tokens, use_cache=False)
            target = streams[0][0, positions.start :].sum(0)
            some = cotangents.split(_COTANGENTS)
            found = [
                torch.autograd.grad(target, moves, one, is_grads_batched=True, retain_graph=number + 1 < len(some))
                for number, one in enumerate(some)
            ]
        return torch.stack([torch.cat(rows) for rows in zip(*found, strict=True)])

    def _check(self, layers: Sequence[int], positions: range, n_tokens: int) -> None:
        if wrong := [layer for layer in layers if not 0 <= layer < self.n_layers - 1]:
            raise ResidualError(
                f"Layer {wrong[0]} is not below the last one: derivatives can be had at layers 0 to"
                f" {self.n_layers - 2}."
            )
        if not 0 <= positions.start < positions.stop <= n_tokens or positions.step != 1:
            raise ResidualError(f"Positions {positions} were asked for, but the text has {n_tokens} tokens.")

    @contextmanager
    def _moved(self, moves: dict[int, torch.Tensor], positions: range) -> Iterator[list[torch.Tensor]]:
        """Inside, a pass adds each layer's vector at `positions`, and leaves the last block's output in the list."""
        streams: list[torch.Tensor] = []

        def add(move: torch.Tensor) -> Any:
            def hook(_block: nn.Module, _inputs: Any, output: Any) -> Any:
                h = residual_of(output)
                takes_part = h.new_zeros(h.shape[1], 1)
                takes_part[positions.start : positions.stop] = 1
                return with_residual(output, h + takes_part * move)

            return hook

        with self._lock:
            handles = [self._parts.blocks[layer].register_forward_hook(add(move)) for layer, move in moves.items()]
            handles.append(
                self._parts.blocks[-1].register_forward_hook(
                    lambda _block, _inputs, output: streams.append(residual_of(output))
                )
            )
            try:
                yield streams
            finally:
                for handle in handles:
                    handle.remove()
