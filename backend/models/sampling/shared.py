"""Rows of many sequences in one batch, which share the keys and values of what they continue."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from backend.models.attention import ROLLOUTS, Group, Pages, attending
from backend.models.edits import Edit, Encoded, OthersRead, editing, encode, models_beside
from backend.models.layers import layers_of, private_copy
from backend.models.linear import PackedLinear, replace_linears
from backend.models.private import n_changes, onednn_computes_in
from backend.models.residuals import recording
from backend.models.sampling.draws import next_tokens, row_multiple, uniform
from backend.models.sampling.requests import Sample, SampleRequest, SamplingError, SamplingParameters, end_tokens

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

PAGE = 64  # positions of a tail that are attended to in one product
LOGIT_ROWS = 128  # whose logits exist at a time: the unembedding is read once for all of them
DRAWN_ROWS = 32  # of these, for which a token is drawn at a time: what that makes stays in the cache


@dataclass
class _Prefix:
    """Keys and values of one encoded sequence: for each layer (kv_heads, length, head_dim)."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int
    edits: tuple[Edit, ...] = ()


@dataclass
class _Row:
    request: SampleRequest
    token: int  # the next input
    tail_length: int = 0  # positions in its own pages
    n_read: int = 0  # of the tokens it is given
    pages: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)


@dataclass
class _Sharers:
    """The rows that share one prefix, as all layers see them."""

    prefix: _Prefix
    rows: Tensor  # indices of rows, repeated to a multiple of `multiple`
    n: int  # how many of them are not repetitions
    mask: Tensor  # (1, len(rows), 1, prefix length): 0 where a row may look, -inf elsewhere


class _Tails:
    """The batch's own keys and values, in pages; those in use are the first ones, so that no copy gathers them. There
    are half as many again whenever all are in use: what rows may write at most is far more than what they do write.
    """

    def __init__(self, n_layers: int, n_pages: int, shape: tuple[int, int], like: Tensor) -> None:
        kv_heads, head_dim = shape
        self.keys = [like.new_empty(n_pages, kv_heads, PAGE, head_dim) for _ in range(n_layers)]
        self.values = [like.new_empty(n_pages, kv_heads, PAGE, head_dim) for _ in range(n_layers)]
        self.mask = like.new_empty(n_pages, 1, 1, PAGE)
        self.owners: list[_Row] = []
        self.n_written = 0  # pages that were ever in use

    @property
    def n_pages(self) -> int:
        return len(self.mask)

    def _grow(self) -> None:
        n_pages = self.n_pages + self.n_pages // 2 + 1
        for stores in (self.keys, self.values):  # one layer at a time: no second copy of all of them
            for layer, store in enumerate(stores):
                stores[layer] = _longer(store, n_pages)
        self.mask = _longer(self.mask, n_pages)

    def add_page(self, row: _Row) -> None:
        page = len(self.owners)
        if page == self.n_pages:
            self._grow()
        self.mask[page] = -torch.inf
        if page == self.n_written:  # what a mask hides is still multiplied, and memory as it comes may hold NaN
            for store in itertools.chain(self.keys, self.values):
                store[page] = 0
            self.n_written += 1
        row.pages.append(page)
        self.owners.append(row)

    def free(self, row: _Row) -> None:
        for page in sorted(row.pages, reverse=True):
            last = len(self.owners) - 1
            if page != last:
                for store in itertools.chain(self.keys, self.values, [self.mask]):
                    store[page] = store[last]
                owner = self.owners[last]
                owner.pages[owner.pages.index(last)] = page
                self.owners[page] = owner
            self.owners.pop()


def _longer(store: Tensor, n_pages: int) -> Tensor:
    with torch.inference_mode(False):
        longer = store.new_empty(n_pages, *store.shape[1:])
    longer[: len(store)] = store
    return longer


class _Layer:
    """What a block's attention gets in place of keys and values."""

    def __init__(self, batch: "SharedRows", index: int) -> None:
        self.batch, self.index = batch, index

    def read(self) -> tuple[Pages, list[Group]]:
        batch, tails, n_pages = self.batch, self.batch.tails, len(self.batch.tails.owners)
        pages = Pages(
            keys=tails.keys[self.index][:n_pages],
            values=tails.values[self.index][:n_pages],
            mask=tails.mask[:n_pages],
            rows=batch.page_rows,
            table=batch.page_table,
        )
        groups = [
            Group(one.prefix.keys[self.index], one.prefix.values[self.index], one.rows, one.n, one.mask)
            for one in batch.groups
        ]
        return pages, groups


class SharedRows:
    """The rows being sampled; also the cache that transformers' modules write their keys and values to.

    `add` rows that continue encoded sequences; then `step` draws for all of them, or `logits` lets the caller draw.
    """

    def __init__(
        self, loaded: "LoadedModel", parameters: SamplingParameters, rows: int, *, multiple: int | None = None
    ) -> None:
        """`rows` is the most there will be.

        `multiple`: rows are padded to one of it; left out, so that no row depends on how many there are; 1 is for
        batches whose rows are always as many.
        """
        self.multiple = row_multiple(loaded.model.dtype) if multiple is None else multiple
        self.loaded = loaded
        self.model, self.lock = rollout_copy(loaded.model)
        layers_of(loaded.model)  # looked for in the model itself: packed weights cannot be copied once more
        parts = layers_of(self.model)
        self.blocks, self.unembed = parts.blocks, parts.unembed
        self.source = loaded.model
        self.parameters = parameters
        self.ends = end_tokens(loaded)
        self.rows: list[_Row] = []
        self.prefixes: dict[str, _Prefix] = {}
        self._tails: _Tails | None = None  # made when the first sequence says how wide keys are
        self.layers = [_Layer(self, index) for index in range(loaded.n_layers)]
        self.groups: list[_Sharers] = []
        self.most_rows = rows
        self.others: dict[torch.nn.Module, SharedRows] = {}  # of models that edits ask for: the rows they ask for
        self.layers_asked: set[int] = (
            set()
        )  # by the model that these rows are beside: layers whose residual streams are kept
        self.residuals: dict[int, Tensor] = {}  # of the last step, at those layers: (n_rows and padding, 1, d_model)

    @property
    def tails(self) -> _Tails:
        if self._tails is None:
            raise SamplingError("rows were asked for before any sequence was encoded.")
        return self._tails

    @torch.inference_mode()
    def encode(
        self, sequence_id: str, token_ids: Sequence[int], edits: Sequence[Edit] = (), encoded: Encoded | None = None
    ) -> None:
        if edits or encoded is not None:
            if encoded is None:
                encoded = encode(self.loaded, token_ids, layers=sorted({edit.layer for edit in edits}))
            if encoded.token_ids[: len(token_ids)] != tuple(token_ids):
                raise SamplingError(f"the encoding given for {sequence_id!r} is of another text.")
            pairs = encoded.keys_values(edits, len(token_ids))
        else:
            cache = DynamicCache()
            self.source.base_model(input_ids=self._tensor([list(token_ids)]), past_key_values=cache, use_cache=True)
            pairs = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        if self._tails is None:
            n_heads, _, d_head = pairs[0][0].shape
            with torch.inference_mode(False):
                self._tails = _Tails(len(pairs), self.most_rows, (n_heads, d_head), next(self.source.parameters()))
        self.prefixes[sequence_id] = _Prefix(
            keys=[keys.contiguous() for keys, _ in pairs],
            values=[values.contiguous() for _, values in pairs],
            length=len(token_ids),
            edits=tuple(edits),
        )
        if encoded is None:  # no edits, so none that asks for another model
            return
        reaching = [edit for edit in edits if edit.onward or max(edit.positions, default=-1) >= len(token_ids) - 1]
        for model, (other, layers) in models_beside(reaching).items():
            if model not in self.others:
                self.others[model] = SharedRows(other, self.parameters, self.most_rows, multiple=self.multiple)
            self.others[model].layers_asked |= layers
            self.others[model].encode(sequence_id, token_ids, encoded=encoded.beside(other, sorted(layers)))

    def forget(self, sequence_ids: set[str]) -> None:
        for sequence_id in sequence_ids & self.prefixes.keys():
            del self.prefixes[sequence_id]
        for other in self.others.values():
            other.forget(sequence_ids)

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Gives each row its next token, drawn elsewhere, and answers with the logits (n_rows, vocabulary) of the one
        after it.
        """
        for row, token in zip(self.rows, tokens, strict=True):
            row.token = token
        hidden = self._forward()
        blocks = [self.unembed(hidden[start : start + LOGIT_ROWS]) for start in range(0, len(self.rows), LOGIT_ROWS)]
        return torch.cat(blocks)[: len(self.rows)]

    def add(self, request: SampleRequest, last_token: int) -> None:
        """A row that continues its encoded sequence; `last_token` is the last one of its prefix."""
        self.rows.append(_Row(request, last_token))
        for other in self.others.values():
            if request.sequence_id in other.prefixes:
                other.add(request, last_token)

    def drop(self, row: _Row) -> None:
        self.tails.free(row)
        self.rows.remove(row)
        for other in self.others.values():
            for own in [own for own in other.rows if own.request is row.request]:
                other.drop(own)

    def residuals_beside(self, rows: Sequence[_Row]) -> dict[int, Tensor]:
        """Residual streams (len(rows), 1, d_model) at `layers_asked` of the next token of `rows`, those of another
        model; NaN for a row that is not read here.
        """
        here = [index for index, row in enumerate(rows) if row.request.sequence_id in self.prefixes]
        if not here:
            return {}
        for own, index in zip(self.rows, here, strict=True):
            own.token = rows[index].token
        self._forward()
        found = {}
        for layer, read in self.residuals.items():
            found[layer] = read.new_full((len(rows), *read.shape[1:]), torch.nan)
            found[layer][here] = read[: len(here)]
        return found

    def _forward(self) -> Tensor:
        """Normed residual stream (n_rows and padding, d_model) of every row's next token,
        under its sequence's edits."""
        others: OthersRead = {model: other.residuals_beside(self.rows) for model, other in self.others.items()}
        self._place_tokens()
        padding = -len(self.rows) % self.multiple
        tokens = [row.token for row in self.rows] + [self.rows[0].token] * padding
        positions = [row.request.prefix_length - 2 + row.tail_length for row in self.rows]
        edits = [self.prefixes[row.request.sequence_id].edits for row in self.rows]
        asked = recording(self.blocks, sorted(self.layers_asked))
        with self.lock, editing(self.blocks, edits, positions, 1, others), asked as self.residuals:
            return self.model.base_model(
                input_ids=self._tensor(tokens)[:, None],
                position_ids=self._tensor(positions + positions[:1] * padding)[:, None],
                past_key_values=self,
                use_cache=True,
            ).last_hidden_state[:, 0]

    @torch.inference_mode()
    def step(self) -> list[Sample]:
        """Draws one token for every row that has read what it is given; the samples of the rows that end."""
        hidden = self._forward()
        drawn: list[int] = []
        for start in range(0, len(self.rows), LOGIT_ROWS):
            some = self.rows[start : start + LOGIT_ROWS]
            logits = self.unembed(hidden[start : start + LOGIT_ROWS])[: len(some)]
            uniforms = [uniform(row.request.seed, len(row.sampled)) for row in some]
            for first in range(0, len(some), DRAWN_ROWS):
                block = slice(first, first + DRAWN_ROWS)
                drawn += next_tokens(logits[block], uniforms[block], self.parameters)
        finished = []
        for row, token in zip(self.rows, drawn, strict=True):
            if row.n_read < len(row.request.given):
                row.token = row.request.given[row.n_read]
                row.n_read += 1
                continue
            row.token = token
            if token in self.ends:
                finished.append((row, "eos"))
            else:
                row.sampled.append(token)
                if len(row.sampled) == row.request.most(self.parameters):
                    finished.append((row, "cap"))
        for row, _ in finished:
            self.drop(row)
        return [Sample(row.request.request_id, tuple(row.sampled), finish) for row, finish in finished]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any) -> tuple[_Layer, _Layer]:
        """Called by each block with its new keys and values (rows, kv_heads, 1, head_dim)."""
        self.tails.keys[layer][self.write_pages, :, self.write_offsets] = keys[: len(self.rows), :, 0]
        self.tails.values[layer][self.write_pages, :, self.write_offsets] = values[: len(self.rows), :, 0]
        return self.layers[layer], self.layers[layer]

    def _place_tokens(self) -> None:
        """A place in the tails for every row's next token, and the index tensors that this step's layers share."""
        for row in self.rows:
            if row.tail_length % PAGE == 0:
                self.tails.add_page(row)
            row.tail_length += 1
        self.write_pages = self._tensor([row.pages[-1] for row in self.rows])
        self.write_offsets = self._tensor([(row.tail_length - 1) % PAGE for row in self.rows])
        self.tails.mask[self.write_pages, 0, 0, self.write_offsets] = 0
        row_of = {id(row): index for index, row in enumerate(self.rows)}
        self.page_rows = self._tensor([row_of[id(owner)] for owner in self.tails.owners])
        most, filler = max(len(row.pages) for row in self.rows), len(self.tails.owners)
        self.page_table = self._tensor([row.pages + [filler] * (most - len(row.pages)) for row in self.rows])
        members: dict[str, list[int]] = {}
        for index, row in enumerate(self.rows):
            members.setdefault(row.request.sequence_id, []).append(index)
        self.groups = [self._group(self.prefixes[sequence_id], indices) for sequence_id, indices in members.items()]

    def _group(self, prefix: _Prefix, indices: list[int]) -> _Sharers:
        padded = indices + indices[:1] * (-len(indices) % self.multiple)
        lengths = self._tensor([self.rows[index].request.prefix_length - 1 for index in padded])
        hidden = torch.arange(prefix.length, device=lengths.device) >= lengths[:, None]
        mask = torch.zeros_like(hidden, dtype=prefix.keys[0].dtype).masked_fill_(hidden, -torch.inf)
        return _Sharers(prefix, self._tensor(padded), len(indices), mask[None, :, None])

    def _tensor(self, numbers: list[Any]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.source.device)


def sample_shared(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    rows: int,
    should_stop: Callable[[], bool],
    edits: Mapping[str, Sequence[Edit]],
    encoded: Mapping[str, Encoded],
    drawn: Callable[[int], None],
) -> Iterator[list[Sample]]:
    batch = SharedRows(loaded, parameters, min(rows, len(requests)))
    pending = iter(requests)
    upcoming = next(pending, None)
    while upcoming or batch.rows:
        while upcoming and len(batch.rows) < rows:
            if upcoming.sequence_id not in batch.prefixes:
                name = upcoming.sequence_id
                batch.encode(name, sequences[name], edits.get(name, ()), encoded.get(name))
                yield []  # an edited sequence may take seconds
            batch.add(upcoming, int(sequences[upcoming.sequence_id][upcoming.prefix_length - 1]))
            upcoming = next(pending, None)
        if should_stop():
            return
        n_rows, ended = len(batch.rows), batch.step()
        drawn(n_rows)
        yield ended
        needed = {row.request.sequence_id for row in batch.rows} | ({upcoming.sequence_id} if upcoming else set())
        batch.forget(batch.prefixes.keys() - needed)


# A private copy of the module tree

_copies: WeakKeyDictionary[Any, tuple[int, Any, threading.Lock]] = WeakKeyDictionary()


def rollout_copy(model: Any) -> tuple[Any, threading.Lock]:
    """The model's modules again, on the same weights, with shared-prefix attention; kept until the model goes or its
    weights change.

    With it the lock of whoever runs it: edits are hooks on it for the length of one forward pass.
    """
    version = n_changes(model)
    if model in _copies and _copies[model][0] == version:
        return _copies[model][1:]
    private = private_copy(model, config=attending(model.config, ROLLOUTS))
    weight = next(model.parameters())
    if weight.device.type == "cpu" and onednn_computes_in(weight.dtype):
        replace_linears(private, lambda child: PackedLinear(child) if type(child) is torch.nn.Linear else None)
    _copies[model] = (version, private, threading.Lock())
    return _copies[model][1:]
