"""Attention, as everything here that is not a plain forward pass computes it.

A block of transformers calls the attention function that its configuration names. Ours take part of their keys and
values from elsewhere, a prefix that was read once, and stand in one table, `WAYS`:
- EDITS: rows that continue one and the same prefix, several new tokens each (`edits.py`);
- TANGENTS: the same for one row, by operations that have derivatives, or by dual numbers (`tangents.py`);
- ROLLOUTS: rows that continue many prefixes, one new token each (`sampling`);
- NOTED: whole texts, whose weights are noted (`latent/recording.py`);
- WITHOUT: ends of one text read side by side, each without attention to some tokens before it (`influence`);
- MASKED: the same by the family's own attention under a mask, whatever it does beside a softmax;
- AVERAGED: a whole text by the family's own attention, whose mean weights between spans are noted (`influence`).
All but the last two are causal softmax attention over the whole text, exact; families that do anything else never come
there (`families.shares_prefix`).
"""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from backend.models.duals import Dual
from backend.models.linear import linear, product
from backend.models.private import use_attention


class Attends(Protocol):
    """A block's attention module, as transformers hands it over."""

    @property
    def layer_idx(self) -> int: ...


EDITS, TANGENTS, ROLLOUTS = "anchorscope_edits", "anchorscope_tangents", "anchorscope_rollouts"
NOTED, WITHOUT, MASKED = "anchorscope_noted", "anchorscope_without", "anchorscope_masked"
AVERAGED = "anchorscope_averaged"
_QUERIES = 256  # whose weights are held at once


@dataclass(frozen=True)
class Watch:
    """How much of their attention some tokens pay to others, noted layer by layer while a text is read."""

    keys: tuple[int, int]  # token span [a, b) that is attended to
    queries: tuple[int, int]  # token span of those that attend; all of them are computed anew
    by_layer: dict[int, torch.Tensor] = field(default_factory=dict)  # (n_rows, n_heads), mean over the queries

    def note(self, layer: int, query: torch.Tensor, key: torch.Tensor, prefix_keys: torch.Tensor) -> None:
        """Takes what `shared_prefix_attention` is given, the queries scaled. A query's weights sum to 1 over all tokens
        up to itself."""
        n_rows, n_key_heads, _, d_head = key.shape
        n_prefix, (first, end) = prefix_keys.shape[1], self.queries
        keys = torch.cat([prefix_keys.expand(n_rows, -1, -1, -1), key], 2).transpose(-1, -2)
        places = torch.arange(keys.shape[-1], device=key.device)
        total = query.new_zeros(n_rows, n_key_heads, query.shape[1] // n_key_heads)
        for start in range(first, end, _QUERIES):
            block = range(start, min(start + _QUERIES, end))
            asked = query[:, :, block.start - n_prefix : block.stop - n_prefix]
            scores = asked.reshape(n_rows, n_key_heads, -1, d_head) @ keys
            scores = scores.view(n_rows, n_key_heads, -1, len(block), keys.shape[-1])
            later = places > torch.tensor(block, device=key.device)[:, None]
            weights = scores.masked_fill_(later, -torch.inf).softmax(-1)
            total += weights[..., self.keys[0] : self.keys[1]].sum((-1, -2))
        self.by_layer[layer] = total.flatten(1) / (end - first)


def attending(config: Any, way: str) -> Any:
    """A copy of a model's configuration by which its blocks attend in one of WAYS."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(way, WAYS[way])
    if way in (MASKED, AVERAGED):
        AttentionMaskInterface.register(way, eager_mask)
    own = copy.deepcopy(config)
    use_attention(own, way)
    return own


def shared_prefix_attention(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    prefix: Sequence[tuple[torch.Tensor, torch.Tensor]],
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None,
    watched: Watch | None = None,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of rows that continue one and the same prefix, as transformers' attention functions are called.

    query (n_rows, n_heads, n_new, d_head), key and value (n_rows, n_key_heads, n_new, d_head); `prefix` holds, by
    layer, keys and values (n_key_heads, n_prefix, d_head) that all rows share. Gives (n_rows, n_new, n_heads, d_head).
    One softmax spans both parts. `kept` receives key and value under the layer's number, `watched` what it asks for.
    """
    if kept is not None:
        kept[module.layer_idx] = key, value
    prefix_keys, prefix_values = prefix[module.layer_idx]
    n_rows, n_heads, n_new, d_head = query.shape
    n_key_heads = key.shape[1]
    group = n_heads // n_key_heads
    scale = d_head**-0.5 if scaling is None else scaling
    if watched is not None:
        watched.note(module.layer_idx, query * scale, key, prefix_keys)
    queries = (query * scale).reshape(n_rows, n_key_heads, group * n_new, d_head).transpose(0, 1).contiguous()
    own = queries @ key.transpose(0, 1).transpose(-1, -2)  # (n_key_heads, n_rows, group·n_new, n_new)
    future = torch.ones(n_new, n_new, dtype=torch.bool, device=query.device).triu_(1)
    own.view(n_key_heads, n_rows, group, n_new, n_new).masked_fill_(future, -torch.inf)
    peak = own.amax(-1, keepdim=True)
    if prefix_keys.shape[1] == 0:
        weights = own.sub_(peak).exp_()
        mixed = (weights @ value.transpose(0, 1)).div_(weights.sum(-1, keepdim=True))
    else:
        flat = queries.view(n_key_heads, -1, d_head)
        heads = [linear(flat[i], prefix_keys[i]) for i in range(n_key_heads)]  # each (n_rows·group·n_new, n_prefix)
        peaks = [torch.maximum(head.amax(-1, keepdim=True), peak[i].view(-1, 1)) for i, head in enumerate(heads)]
        peak = torch.stack(peaks).view_as(peak)
        weights = own.sub_(peak).exp_()
        mixed, total = weights @ value.transpose(0, 1), weights.sum(-1, keepdim=True)
        for i, head in enumerate(heads):
            head.sub_(peaks[i]).exp_()
            total[i] += head.sum(-1, keepdim=True).view_as(total[i])
            mixed[i] += linear(head, prefix_values[i].t()).view_as(mixed[i])
        mixed.div_(total)
    mixed = mixed.view(n_key_heads, n_rows, group, n_new, d_head).permute(1, 3, 0, 2, 4)
    return mixed.reshape(n_rows, n_new, n_heads, d_head), None


def differentiable_attention(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    prefix: Sequence[tuple[torch.Tensor, torch.Tensor]],
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """What `shared_prefix_attention` computes, for one row, by operations that have derivatives; the prefix is
    constant.
    """
    prefix_keys, prefix_values = prefix[module.layer_idx]
    n_heads, n_new, d_head = query.shape[1:]
    n_key_heads = key.shape[1]
    scale = d_head**-0.5 if scaling is None else scaling
    if isinstance(query, Dual) and isinstance(key, Dual) and isinstance(value, Dual):
        return _dual_attention(query, key, value, prefix_keys, prefix_values, scale), None
    queries = (query * scale).reshape(n_key_heads, -1, d_head)  # (n_key_heads, group·n_new, d_head)
    future = torch.ones(n_new, n_new, dtype=torch.bool, device=query.device).triu_(1).repeat(n_heads // n_key_heads, 1)
    own = (queries @ key[0].transpose(-1, -2)).masked_fill(future, -torch.inf)
    peak = own.detach().amax(-1, keepdim=True)  # any shift gives the same weights: it is a constant to the derivative
    if prefix_keys.shape[1] == 0:
        weights = (own - peak).exp()
        mixed, total = weights @ value[0], weights.sum(-1, keepdim=True)
    else:
        before = product(queries, prefix_keys)
        peak = torch.maximum(before.detach().amax(-1, keepdim=True), peak)
        weights, before = (own - peak).exp(), (before - peak).exp()
        mixed = weights @ value[0] + product(before, prefix_values.transpose(-1, -2))
        total = weights.sum(-1, keepdim=True) + before.sum(-1, keepdim=True)
    mixed = (mixed / total).reshape(1, n_heads, n_new, d_head)
    return mixed.transpose(1, 2), None


def _dual_attention(
    query: Dual, key: Dual, value: Dual, prefix_keys: torch.Tensor, prefix_values: torch.Tensor, scale: float
) -> Dual:
    """Causal attention after a constant prefix, (1 + n, n_new, n_heads, d_head): shapes as in
    `shared_prefix_attention`.

    With weights w and scores s, the tangent of Σ w·v is Σ w·ds·v + Σ w·dv − (Σ w·ds)·Σ w·v.
    """
    k, v = key.rows.transpose(0, 1), value.rows.transpose(0, 1)  # (n_key_heads, 1 + n, n_new, d_head)
    n_key_heads, n_rows, n_new, d_head = k.shape
    q = (
        (query.rows * scale).reshape(n_rows, n_key_heads, -1, d_head).transpose(0, 1).contiguous()
    )  # (…, …, group·n_new, d_head)
    group = q.shape[2] // n_new
    own = q @ k[:, :1].transpose(-1, -2)
    own[:, 1:] += q[:, :1] @ k[:, 1:].transpose(-1, -2)
    future = torch.ones(n_new, n_new, dtype=torch.bool, device=q.device).triu_(1).repeat(group, 1)
    own[:, 0].masked_fill_(future, -torch.inf)
    before = [linear(q[i].flatten(0, 1), prefix_keys[i]).view(n_rows, group * n_new, -1) for i in range(n_key_heads)]
    n_prefix = prefix_keys.shape[1]
    for i, scores in enumerate(before):  # scores of the value become weights w, those of tangents w·ds
        weights = torch.cat([scores[0], own[i, 0]], -1).softmax(-1)
        scores[0], own[i, 0] = weights[:, :n_prefix], weights[:, n_prefix:]
        scores[1:] *= scores[0]
        own[i, 1:] *= own[i, 0]
    mixed = own @ v[:, :1]
    mixed[:, 1:] += own[:, :1] @ v[:, 1:]
    slope = own[:, 1:].sum(-1, keepdim=True)
    for i, weights in enumerate(before):
        if n_prefix:
            mixed[i] += linear(weights.flatten(0, 1), prefix_values[i].t()).view_as(mixed[i])
            slope[i] += weights[1:].sum(-1, keepdim=True)
    mixed[:, 1:] -= slope * mixed[:, :1]
    mixed = mixed.view(n_key_heads, n_rows, group, n_new, d_head).permute(1, 3, 0, 2, 4)
    return mixed.reshape(n_rows, n_new, n_key_heads * group, d_head).as_subclass(Dual)


class Written(Protocol):
    """What a block gets in place of keys and values while rollouts are written."""

    def read(self) -> tuple["Pages", Sequence["Group"]]: ...


@dataclass(frozen=True)
class Group:
    """Rows of a batch that continue one encoded text, each from somewhere in it."""

    keys: torch.Tensor  # (n_key_heads, n_prefix, d_head)
    values: torch.Tensor
    rows: torch.Tensor  # indices of rows, repeated until products have enough of them
    n: int  # how many of them are not repetitions
    mask: torch.Tensor  # (1, len(rows), 1, n_prefix): 0 where a row may look, -inf elsewhere


@dataclass(frozen=True)
class Pages:
    """What the rows of a batch have written themselves, in pages of a fixed size."""

    keys: torch.Tensor  # (n_pages, n_key_heads, page, d_head)
    values: torch.Tensor
    mask: torch.Tensor  # (n_pages, 1, 1, page): 0 where something is written, -inf elsewhere
    rows: torch.Tensor  # (n_pages,): whose each page is
    table: torch.Tensor  # (n_rows, most pages a row): a row's pages in order, filled up with n_pages, which is no page


def rollout_attention(
    module: Attends,
    query: torch.Tensor,
    key: "Written",
    value: "Written",
    attention_mask: None,
    *,
    scaling: float,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row: to the prefix of its group and to its own pages, one softmax over both.

    query (n_rows and padding, n_heads, 1, d_head). In place of keys and values stands what was written of them. No sum
    of a row runs over a length that other rows determine: pages are added in order, and a prefix is always the whole.
    """
    pages, groups = key.read()
    n, (_, n_key_heads, _, d_head) = len(pages.table), pages.keys.shape
    queries = (query[:n, :, 0] * scaling).view(n, n_key_heads, -1, d_head)
    per_head = queries.shape[2]
    page_scores = torch.matmul(queries[pages.rows], pages.keys.transpose(-1, -2)) + pages.mask
    largest = _with_filler(page_scores.amax(-1), -torch.inf)[pages.table].amax(1)  # (n, n_key_heads, per_head)
    scores = []
    for group in groups:
        shared = queries[group.rows].transpose(0, 1).reshape(n_key_heads, -1, d_head)
        found = torch.bmm(shared, group.keys.transpose(-1, -2)).view(n_key_heads, -1, per_head, group.keys.shape[1])
        found += group.mask
        scores.append(found)
        own = group.rows[: group.n]
        largest[own] = torch.maximum(largest[own], found.amax(-1).transpose(0, 1)[: group.n])

    weights = page_scores.sub_(largest[pages.rows][..., None]).exp_()
    page_sum = _with_filler(weights.sum(-1), 0.0)
    page_out = _with_filler(torch.matmul(weights, pages.values), 0.0)
    total, out = page_sum[pages.table[:, 0]], page_out[pages.table[:, 0]]
    for some in pages.table.T[1:]:  # in order, so that a row's sum does not depend on how many pages other rows have
        total, out = total + page_sum[some], out + page_out[some]
    for group, found in zip(groups, scores, strict=True):
        own = group.rows[: group.n]
        found.sub_(largest[group.rows].transpose(0, 1)[..., None]).exp_()
        attended = torch.bmm(found.view(n_key_heads, -1, group.keys.shape[1]), group.values)
        total[own] += found.sum(-1).transpose(0, 1)[: group.n]
        out[own] += attended.view(n_key_heads, -1, per_head, d_head).transpose(0, 1)[: group.n]
    answer = query.new_zeros(len(query), query.shape[1], d_head)
    answer[:n] = (out / total[..., None]).view(n, -1, d_head)
    return answer[:, None], None


def _with_filler(per_page: torch.Tensor, value: float) -> torch.Tensor:
    """One more page, the last, that page tables name where a row has no page."""
    return torch.cat([per_page, per_page.new_full((1, *per_page.shape[1:]), value)])


@dataclass(frozen=True)
class Noted:
    """The attention of a text's last tokens, noted layer by layer while the text is read."""

    n: int  # tokens
    by_layer: dict[int, torch.Tensor] = field(default_factory=dict)  # (n_rows, n_heads, n, n_tokens), rows sum to 1


def noted_attention(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    noted: Noted,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of rows of equal length, each a whole text, as transformers' attention functions are called."""
    n_new, d_head = query.shape[2:]
    scale = d_head**-0.5 if scaling is None else scaling
    group = query.shape[1] // key.shape[1]
    keys, values = (part.repeat_interleave(group, 1) for part in (key, value))
    future = torch.ones(n_new, n_new, dtype=torch.bool, device=query.device).triu_(1)
    weights = ((query * scale) @ keys.transpose(-1, -2)).masked_fill_(future, -torch.inf).softmax(-1)
    noted.by_layer[module.layer_idx] = weights[:, :, -noted.n :].clone()
    return (weights @ values).transpose(1, 2), None


@dataclass(frozen=True)
class Part:
    """The part of a model in which attention to some tokens is taken away."""

    layers: range
    heads: tuple[int, ...] | None = None  # query heads of these layers; None: all of them

    def at(self, layer: int, n_heads: int) -> list[int]:
        """The heads of a layer in which it is."""
        if layer not in self.layers:
            return []
        return list(range(n_heads) if self.heads is None else self.heads)


@dataclass(frozen=True)
class Without:
    """Readings of the end of one text, each without attention to the tokens [a, b) of its span in a part of the model:
    it begins at b. An empty span takes nothing away.
    """

    spans: Sequence[tuple[int, int]]
    end: int  # of the text, as far as it is read
    part: Part
    keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()  # by layer, each (n_key_heads, n_tokens, d_head)
    reached: set[int] = field(default_factory=set)  # layers that were asked

    def taken(self, layer: int, n_heads: int) -> list[int]:
        """The heads of a layer from which attention is taken away; notes that the layer asked."""
        self.reached.add(layer)
        return self.part.at(layer, n_heads)


def attention_without(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    without: Without,
    **_unused: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of the readings of `without`, their tokens one after the other in one row.

    Keys that are taken away take no part: they are not there, and the softmax is over the others.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    keys, values = without.keys_values[module.layer_idx]
    n_heads, n_key_heads = query.shape[1], key.shape[1]
    taken = without.taken(module.layer_idx, n_heads)
    mixed, first = torch.empty_like(query[0]), 0
    for a, b in without.spans:
        own = slice(first, first + without.end - b)
        asked, first = query[0, :, own] * scale, own.stop
        whole, cut = (
            [torch.cat([kept[:, :n], new[0, :, own]], 1) for kept, new in ((keys, key), (values, value))]
            for n in (b, a)
        )
        mixed[:, own] = _causal(asked, *(cut if len(taken) == n_heads else whole))
        for head in taken if len(taken) < n_heads else ():
            of = head * n_key_heads // n_heads
            mixed[head, own] = _causal(asked[head, None], cut[0][of, None], cut[1][of, None])[0]
    return mixed.transpose(0, 1)[None], None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(n_heads, n_new, d_head) of scaled queries, which are those of the last tokens of the keys (n_key_heads,
    n_tokens, d_head).
    """
    n_new, n_tokens = query.shape[1], key.shape[1]
    seen = torch.ones(n_new, n_tokens, dtype=torch.bool, device=query.device).tril_(n_tokens - n_new)
    return nn.functional.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=seen, scale=1.0, enable_gqa=True
    )[0]


def masked_attention(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    without: Without,
    **others: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The family's own attention over whole texts, a row for each reading of `without`, which masks its keys."""
    n_rows, n_heads, n_tokens, _ = query.shape
    if heads := without.taken(module.layer_idx, n_heads):
        attention_mask = attention_mask.expand(n_rows, n_heads, n_tokens, -1).clone()
        for row, (a, b) in enumerate(without.spans):
            attention_mask[row, heads, b:, a:b] = torch.finfo(attention_mask.dtype).min
    return _familys_own(module)(module, query, key, value, attention_mask, **others)


def _familys_own(module: Attends) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The attention function that stands beside the block in its family's file; it gives its weights too."""
    return sys.modules[type(module).__module__].eager_attention_forward


@dataclass(frozen=True)
class Means:
    """How much attention the tokens of each span of a text pay to a token of each, noted layer by layer."""

    spans: Sequence[tuple[int, int]]  # token spans [a, b), none over another
    by_layer: dict[int, torch.Tensor] = field(default_factory=dict)  # see `mean`

    def take(self, layer: int, start: int, weights: torch.Tensor) -> None:
        """Weights (n_heads, n, n_keys) of the n tokens from `start` on over all up to the last of them."""
        n_heads, _, n_keys = weights.shape
        span_of = torch.full((n_keys,), len(self.spans), device=weights.device)
        for number, (a, b) in enumerate(self.spans):
            span_of[a:b] = number
        blank = torch.zeros(n_heads, len(self.spans), len(self.spans) + 1, dtype=torch.float64, device=weights.device)
        sums = self.by_layer.setdefault(layer, blank)
        for number, (a, b) in enumerate(self.spans):
            own = weights[:, max(a - start, 0) : max(b - start, 0)]
            if own.shape[1]:
                sums[:, number].index_add_(1, span_of, own.sum(1, dtype=torch.float64))

    def mean(self, layer: int) -> torch.Tensor:
        """(n_heads, n_spans, n_spans) float64: mean over the tokens of the first span, which attend, and of the second;
        NaN of a span without tokens.
        """
        sums = self.by_layer[layer][..., :-1]
        n = torch.tensor([b - a for a, b in self.spans], dtype=torch.float64, device=sums.device)
        return sums / (n[:, None] * n)


def averaged_attention(
    module: Attends,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    means: Means,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The family's own attention over one whole text, some queries at a time, whose weights go to `means`."""
    own, n_tokens, mixed = _familys_own(module), query.shape[2], []
    for start in range(0, n_tokens, _QUERIES):
        end = min(start + _QUERIES, n_tokens)
        seen, mask = (part[:, :, :end] for part in (key, value)), attention_mask[..., start:end, :end]
        some, weights = own(module, query[:, :, start:end], *seen, mask, **others)
        means.take(module.layer_idx, start, weights[0])
        mixed.append(some)
    return torch.cat(mixed, 1), None


WAYS: Mapping[str, Callable[..., tuple[torch.Tensor, torch.Tensor | None]]] = {
    EDITS: shared_prefix_attention,
    TANGENTS: differentiable_attention,
    ROLLOUTS: rollout_attention,
    NOTED: noted_attention,
    WITHOUT: attention_without,
    MASKED: masked_attention,
    AVERAGED: averaged_attention,
}
