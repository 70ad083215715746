"""Exact derivatives of the upper layers: how the last residual stream moves when the residual stream at some layer
does.

The map goes from the residual stream at layer ℓ, tokens first … end − 1 of one text, to the normed last residual stream
of those tokens; or, where that is asked for, to the last block's output, before the norm.
1. Tokens before `first` do not move: their keys and values are those of the encoded text, as for edits (`edits.py`).
2. The map is the model's own blocks. Many tangents go through at once: what depends on the text alone (attention
   weights, activations, norms) is computed once for all of them. Forwards that is done by dual numbers (`duals.py`), or
   by torch's forward mode where a block does something they have no rule for; backwards by torch's reverse mode.
3. Products with weights, and with the prefix's keys and values, fold all tangents into the rows of one matrix product.
   oneDNN's, the fast ones on a CPU, know no derivatives; `linear.Product` states them.

That holds where edits share a prefix. Elsewhere the map is the whole text's plain forward pass with a row for each
tangent, by torch's two modes; where a block has an operation without a forward mode, forwards is the derivative of
backwards. The caller's model never carries a hook: both ways work on private copies that share its weights.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from backend.models.attention import TANGENTS, attending
from backend.models.duals import Dual, NoRule, dual_linear
from backend.models.edits import EditError, Encoded
from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.linear import ProductLinear, replace_linears
from backend.models.private import experts_one_by_one

_ROWS = 640  # tokens moved in one batch, as in sweeps: large enough for full-speed products, small enough for the cache
_PLAIN_TOKENS = 4096  # tokens in one plain forward pass of several tangents


class UpperLayers:
    """The derivative J of the normed last residual stream by the residual stream at `layer`, both of tokens first … end
    − 1; of the last block's output where it is wanted `before_norm`.
    """

    def __init__(self, encoded: Encoded, layer: int, *, first: int, end: int, before_norm: bool = False) -> None:
        if not 0 <= first < end <= len(encoded.token_ids):
            raise EditError(f"Tokens [{first}, {end}) were asked for, but the text has {len(encoded.token_ids)}.")
        self._copies = _copies_of(encoded._editor)
        with _exact():
            self._h = encoded.residual(layer)[first:end][
                None
            ].clone()  # a clone: tensors of inference mode carry no derivatives
            way = self._shared_prefix if encoded.is_shared_prefix else self._plain
            self._map = way(encoded, layer, first, end, before_norm)
        self._per_pass = max(1, _ROWS // (end - first) if encoded.is_shared_prefix else _PLAIN_TOKENS // end)
        self._has_rules = self._is_shared_prefix = encoded.is_shared_prefix
        self._has_forward_mode = True  # until an operation says that it has none
        self._target = self._h[0] if before_norm else encoded.normed[first:end]  # a tensor of its shape
        self._pull: Callable[[torch.Tensor], torch.Tensor] | None = None

    def push(self, tangents: torch.Tensor) -> torch.Tensor:
        """J·t for each tangent t: (n, n_tokens, d_model) in and out."""

        def by_duals(some: torch.Tensor) -> torch.Tensor:
            return self._map(Dual.of(self._h, some)).as_subclass(torch.Tensor)[1:]

        def by_torch(some: torch.Tensor) -> torch.Tensor:
            return torch.func.vmap(lambda one: torch.func.jvp(self._map, (self._h,), (one[None],))[1][0])(some)

        def by_rows(some: torch.Tensor) -> torch.Tensor:
            return torch.func.jvp(self._map, (self._h.repeat(len(some), 1, 1),), (some,))[1]

        self._check(tangents, self._h)
        if self._has_rules:
            try:
                return self._in_passes(by_duals, tangents)
            except NoRule:
                self._has_rules = False
        if self._is_shared_prefix:
            return self._in_passes(by_torch, tangents)
        if self._has_forward_mode:
            try:
                return self._in_passes(by_rows, tangents)
            except RuntimeError:  # an operation that torch cannot differentiate forwards: it says so in many ways
                self._has_forward_mode = False
        return self._in_passes(self._transposed_twice, tangents)

    def pull(self, cotangents: torch.Tensor) -> torch.Tensor:
        """Jᵀ·u for each cotangent u (n, n_tokens, d_target): (n, n_tokens, d_model)."""
        self._check(cotangents, self._target)
        if not self._is_shared_prefix:
            return self._in_passes(self._transposed, cotangents)
        if self._pull is None:
            with _exact():
                self._pull = torch.func.vjp(self._map, self._h)[1]
        pull = self._pull
        return self._in_passes(torch.func.vmap(lambda one: pull(one[None])[0][0]), cotangents)

    @torch.enable_grad()
    def _transposed(self, cotangents: torch.Tensor) -> torch.Tensor:
        """Jᵀ·u by recording a pass with a row for each: any operation can do that,
        also those without a forward mode."""
        h = self._h.repeat(len(cotangents), 1, 1).requires_grad_()
        return torch.autograd.grad(self._map(h), h, cotangents, create_graph=cotangents.requires_grad)[0]

    @torch.enable_grad()
    def _transposed_twice(self, tangents: torch.Tensor) -> torch.Tensor:
        """J·t, as the derivative of tᵀJᵀ·u by u."""
        u = torch.zeros(
            len(tangents), *self._target.shape, dtype=tangents.dtype, device=tangents.device, requires_grad=True
        )
        return torch.autograd.grad((self._transposed(u) * tangents).sum(), u)[0]

    def _check(self, moves: torch.Tensor, like: torch.Tensor) -> None:
        if moves.shape[1:] != like.shape[-2:]:
            raise EditError(f"Moves of {tuple(like.shape[-2:])} (tokens, values) are needed, got {tuple(moves.shape)}.")

    def _in_passes(self, derivative: Callable[[torch.Tensor], torch.Tensor], moves: torch.Tensor) -> torch.Tensor:
        with _exact():
            return torch.cat([derivative(some.clone()) for some in moves.split(self._per_pass)])

    def _shared_prefix(
        self, encoded: Encoded, layer: int, first: int, end: int, before_norm: bool
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        rotary = encoded._rotary and tuple(table[:, first:end].clone() for table in encoded._rotary)
        prefix = [(keys[:, :first], values[:, :first]) for keys, values in encoded._keys_values]

        def upper(h: torch.Tensor) -> torch.Tensor:
            for above in range(layer + 1, len(encoded.parts.blocks)):
                h = residual_of(
                    self._copies.block(above)(h, attention_mask=None, position_embeddings=rotary, prefix=prefix)
                )
            return h if before_norm else self._copies.final_norm(h)

        return upper

    def _plain(
        self, encoded: Encoded, layer: int, first: int, end: int, before_norm: bool
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        tokens = torch.tensor(
            [encoded.token_ids[:end]], device=self._h.device
        )  # later tokens change nothing before them

        def whole(h: torch.Tensor) -> torch.Tensor:  # a row for each tangent, all of the same text
            normed, stream = self._copies.plain(tokens.expand(len(h), -1), layer, h, first)
            return stream if before_norm else normed

        return whole


class _Copies:
    """Private copies of one model's parts that can be differentiated."""

    def __init__(self, editor: Any) -> None:
        parts = layers_of(editor.another_copy())
        self._trunk, self._plain_blocks, self.final_norm = parts.trunk, parts.blocks, parts.final_norm
        experts_one_by_one(self._trunk)
        self._config = attending(self._trunk.config.get_text_config(), TANGENTS)
        self._blocks: dict[int, nn.Module] = {}
        self._lock = threading.RLock()  # hooks on the copy belong to one forward pass at a time

    def block(self, layer: int) -> nn.Module:
        """Block `layer` with shared-prefix attention, whose products with weights are `Product`s."""
        with self._lock:
            if layer not in self._blocks:
                block = private_copy(self._plain_blocks[layer], config=self._config)
                replace_linears(block, _Linear.over)
                self._blocks[layer] = block
            return self._blocks[layer]

    def plain(self, tokens: torch.Tensor, layer: int, h: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Normed last residual stream, and the stream before the norm, each (n, n_tokens, d), of a pass of `tokens`
        whose stream at `layer`, from token `first` on, is `h`.
        """
        streams: list[torch.Tensor] = []

        def replace(_block: nn.Module, _inputs: Any, output: Any) -> Any:
            return with_residual(output, torch.cat([residual_of(output)[:, :first], h], 1))

        def keep(_block: nn.Module, _inputs: Any, output: Any) -> None:
            streams.append(residual_of(output)[:, first:])

        with self._lock:
            handles = [
                self._plain_blocks[layer].register_forward_hook(replace),
                self._plain_blocks[-1].register_forward_hook(keep),  # after it, where both are on one block
            ]
            try:
                normed = self._trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, first:]
            finally:
                for handle in handles:
                    handle.remove()
        return normed, streams[0]


class _Linear(ProductLinear):
    """That takes dual numbers too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors
        return dual_linear(x, weight[0], bias) if isinstance(x, Dual) else super().forward(x)


@contextmanager
def _exact() -> Iterator[None]:
    """Derivatives by torch.func alone: outside inference mode, without recording for the caller, by attention that has
    derivatives.
    """
    with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _copies_of(editor: Any) -> _Copies:
    with _COPIES_LOCK:
        if editor not in _COPIES:
            _COPIES[editor] = _Copies(editor)
        return _COPIES[editor]


_COPIES: "weakref.WeakKeyDictionary[Any, _Copies]" = weakref.WeakKeyDictionary()
_COPIES_LOCK = threading.Lock()
