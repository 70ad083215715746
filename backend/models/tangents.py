"""Exact derivatives of the upper layers: how the last residual stream moves when the residual stream at some layer
does.

The map goes from the residual stream at layer ℓ, tokens first … end − 1 of one text, to the normed last residual stream
of those tokens.
1. Tokens before `first` do not move: their keys and values are those of the encoded text, as for edits (`edits.py`).
2. The map is the model's own blocks. Many tangents go through at once: what depends on the text alone (attention
   weights, activations, norms) is computed once for all of them. Forwards that is done by dual numbers (`duals.py`), or
   by torch's forward mode where a block does something they have no rule for; backwards by torch's reverse mode.
3. Products with weights, and with the prefix's keys and values, fold all tangents into the rows of one matrix product.
   oneDNN's, the fast ones on a CPU, know no derivatives; `_Product` states them.

That holds where edits share a prefix. Elsewhere the map is the whole text's plain forward pass with a row for each
tangent, by torch's two modes; where a block has an operation without a forward mode, forwards is the derivative of
backwards. The caller's model never carries a hook: both ways work on private copies that share its weights.
"""

import copy
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from backend.models.duals import Dual, NoRule, dual_attention, dual_linear
from backend.models.edits import EditError, Encoded
from backend.models.layers import layers_of, linear, private_copy, residual_of, weight_and_bias, with_residual

_ATTENTION = "anchorscope_tangents"
_ROWS = 640  # tokens moved in one batch, as in sweeps: large enough for full-speed products, small enough for the cache
_PLAIN_TOKENS = 4096  # tokens in one plain forward pass of several tangents


class UpperLayers:
    """The derivative J of the normed last residual stream by the residual stream at `layer`, both of tokens first … end
    − 1.
    """

    def __init__(self, encoded: Encoded, layer: int, *, first: int, end: int) -> None:
        if not 0 <= first < end <= len(encoded.token_ids):
            raise EditError(f"Tokens [{first}, {end}) were asked for, but the text has {len(encoded.token_ids)}.")
        self._copies = _copies_of(encoded._editor)
        with _exact():
            self._h = encoded.residual(layer)[first:end][
                None
            ].clone()  # a clone: tensors of inference mode carry no derivatives
            self._map = (self._shared_prefix if encoded.is_shared_prefix else self._plain)(encoded, layer, first, end)
        self._per_pass = max(1, _ROWS // (end - first) if encoded.is_shared_prefix else _PLAIN_TOKENS // end)
        self._has_rules = self._is_shared_prefix = encoded.is_shared_prefix
        self._has_forward_mode = True  # until an operation says that it has none
        self._normed = encoded.normed[first:end]
        self._pull: Callable[[torch.Tensor], torch.Tensor] | None = None

    def push(self, tangents: torch.Tensor) -> torch.Tensor:
        """J·t for each tangent t: (n, n_tokens, d_model) in and out."""

        def by_duals(some: torch.Tensor) -> torch.Tensor:
            return self._map(Dual.of(self._h, some)).rows[1:]

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
        """Jᵀ·u for each cotangent u (n, n_tokens, d_normed): (n, n_tokens, d_model)."""
        self._check(cotangents, self._normed)
        if not self._is_shared_prefix:
            return self._in_passes(self._transposed, cotangents)
        if self._pull is None:
            with _exact():
                self._pull = torch.func.vjp(self._map, self._h)[1]
        return self._in_passes(torch.func.vmap(lambda one: self._pull(one[None])[0][0]), cotangents)

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
            len(tangents), *self._normed.shape, dtype=tangents.dtype, device=tangents.device, requires_grad=True
        )
        return torch.autograd.grad((self._transposed(u) * tangents).sum(), u)[0]

    def _check(self, moves: torch.Tensor, like: torch.Tensor) -> None:
        if moves.shape[1:] != like.shape[-2:]:
            raise EditError(f"Moves of {tuple(like.shape[-2:])} (tokens, values) are needed, got {tuple(moves.shape)}.")

    def _in_passes(self, derivative: Callable[[torch.Tensor], torch.Tensor], moves: torch.Tensor) -> torch.Tensor:
        with _exact():
            return torch.cat([derivative(some.clone()) for some in moves.split(self._per_pass)])

    def _shared_prefix(
        self, encoded: Encoded, layer: int, first: int, end: int
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        rotary = encoded._rotary and tuple(table[:, first:end].clone() for table in encoded._rotary)
        prefix = [(keys[:, :first], values[:, :first]) for keys, values in encoded._keys_values]

        def upper(h: torch.Tensor) -> torch.Tensor:
            for above in range(layer + 1, len(encoded.parts.blocks)):
                h = residual_of(
                    self._copies.block(above)(h, attention_mask=None, position_embeddings=rotary, prefix=prefix)
                )
            return self._copies.final_norm(h)

        return upper

    def _plain(self, encoded: Encoded, layer: int, first: int, end: int) -> Callable[[torch.Tensor], torch.Tensor]:
        tokens = torch.tensor(
            [encoded.token_ids[:end]], device=self._h.device
        )  # later tokens change nothing before them

        def whole(h: torch.Tensor) -> torch.Tensor:  # a row for each tangent, all of the same text
            return self._copies.plain(tokens.expand(len(h), -1), layer, h, first)

        return whole


class _Copies:
    """Private copies of one model's parts that can be differentiated."""

    def __init__(self, editor: Any) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, differentiable_attention)
        parts = layers_of(editor.another_copy())
        self._trunk, self._plain_blocks, self.final_norm = parts.trunk, parts.blocks, parts.final_norm
        for module in self._trunk.modules():
            if hasattr(module, "config") and getattr(module.config, "_experts_implementation", None):
                module.config._experts_implementation = "eager"  # the only one that torch has a forward mode for
        self._config = copy.deepcopy(self._trunk.config.get_text_config())
        self._config._attn_implementation = _ATTENTION
        self._blocks: dict[int, nn.Module] = {}
        self._lock = threading.RLock()  # hooks on the copy belong to one forward pass at a time

    def block(self, layer: int) -> nn.Module:
        """Block `layer` with shared-prefix attention, whose products with weights are `_Product`s."""
        with self._lock:
            if layer not in self._blocks:
                block = private_copy(self._plain_blocks[layer], config=self._config)
                for part in list(block.modules()):
                    for name, child in part.named_children():
                        if (tensors := weight_and_bias(child)) is not None:
                            setattr(part, name, _Linear(*tensors))
                self._blocks[layer] = block
            return self._blocks[layer]

    def plain(self, tokens: torch.Tensor, layer: int, h: torch.Tensor, first: int) -> torch.Tensor:
        """Normed last residual stream (1, n, d_model) of a pass of `tokens` whose stream at `layer`, from token `first`
        on, is `h`.
        """

        def replace(_block: nn.Module, _inputs: Any, output: Any) -> Any:
            return with_residual(output, torch.cat([residual_of(output)[:, :first], h], 1))

        with self._lock:
            handle = self._plain_blocks[layer].register_forward_hook(replace)
            try:
                return self._trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, first:]
            finally:
                handle.remove()


class _Linear(nn.Module):
    """A linear layer over somebody else's weights that can be differentiated by its input."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self._tensors = (weight[None], bias)  # in a tuple: they stay the model's parameters, not this module's

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors
        if isinstance(x, Dual):
            return dual_linear(x, weight[0], bias)
        y = _Product.apply(x.reshape(1, -1, x.shape[-1]), weight).reshape(*x.shape[:-1], weight.shape[1])
        return y if bias is None else y + bias


class _Product(torch.autograd.Function):
    """a (n_groups, n_rows, n_in) times constant weights (n_groups, n_out, n_in) transposed, group by group."""

    @staticmethod
    def forward(a: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        products = [linear(rows, own) for rows, own in zip(a, weight, strict=True)]
        return products[0][None] if len(products) == 1 else torch.stack(products)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        ctx.weight = inputs[
            1
        ]  # not saved for backward: weights of an encoded text are tensors of inference mode, and constants

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _constant: None) -> torch.Tensor:
        return _Product.apply(tangent, ctx.weight)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Product.apply(cotangent, ctx.weight.transpose(-1, -2)), None

    @staticmethod
    def vmap(
        _info: Any, in_dims: tuple[int | None, None], a: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        a = a.movedim(in_dims[0], 1)
        return _Product.apply(a.flatten(1, 2), weight).unflatten(1, a.shape[1:3]), 1


def differentiable_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    prefix: Sequence[tuple[torch.Tensor, torch.Tensor]],
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """What `edits.shared_prefix_attention` computes, for one row, by operations that have derivatives; the prefix is
    constant.
    """
    prefix_keys, prefix_values = prefix[module.layer_idx]
    n_heads, n_new, d_head = query.shape[1:]
    n_key_heads = key.shape[1]
    scale = d_head**-0.5 if scaling is None else scaling
    if isinstance(query, Dual):
        return dual_attention(query, key, value, prefix_keys, prefix_values, scale), None
    queries = (query * scale).reshape(n_key_heads, -1, d_head)  # (n_key_heads, group·n_new, d_head)
    future = torch.ones(n_new, n_new, dtype=torch.bool, device=query.device).triu_(1).repeat(n_heads // n_key_heads, 1)
    own = (queries @ key[0].transpose(-1, -2)).masked_fill(future, -torch.inf)
    peak = own.detach().amax(-1, keepdim=True)  # any shift gives the same weights: it is a constant to the derivative
    if prefix_keys.shape[1] == 0:
        weights = (own - peak).exp()
        mixed, total = weights @ value[0], weights.sum(-1, keepdim=True)
    else:
        before = _Product.apply(queries, prefix_keys)
        peak = torch.maximum(before.detach().amax(-1, keepdim=True), peak)
        weights, before = (own - peak).exp(), (before - peak).exp()
        mixed = weights @ value[0] + _Product.apply(before, prefix_values.transpose(-1, -2))
        total = weights.sum(-1, keepdim=True) + before.sum(-1, keepdim=True)
    mixed = (mixed / total).reshape(1, n_heads, n_new, d_head)
    return mixed.transpose(1, 2), None


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
