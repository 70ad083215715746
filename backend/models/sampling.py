"""Rollouts by the thousand: continuations of shared prefixes, sampled exactly, each from random numbers of its own.

1. A sequence (prompt + CoT) is encoded once. A rollout continues `sequence[:prefix_length]`: it attends to the first
   `prefix_length - 1` keys and values of the one shared encoding, without a copy, and to a tail of its own that begins
   with the prefix's last token.
2. Rows of many chunks and CoTs make one batch; a row that ends leaves, and the next request takes its place.
3. Attention over shared keys is one matrix product for all rows of a sequence, with each row's length as a mask;
   attention over tails is one product for each page of 64 positions. Both are joined by the common maximum and sum of
   the softmax: exact, not approximate.
4. The next token is drawn by inverting the cumulative distribution of the nucleus at a uniform number that depends on
   the request's seed and the step alone.

**What a rollout depends on**: the model, its whole sequence, the parameters and its seed, and nothing else: not the
other rows, their number or order, nor whether the run was resumed. Random numbers are only half of that; sums in
another order give other last bits, and sooner or later another token. So no sum of a row runs over a length that other
rows determine: pages have a fixed size and are added in order, shared keys are always the whole sequence, and matrix
products get a multiple of 16 rows, from where on a row's result was found to be the same for every number of rows
(`test_sampling.py` checks it; products with 1 to 3 rows do differ).

transformers' own modules compute everything but attention, in a private copy of the model's module tree that shares its
weights. On a CPU the copy's linear layers are oneDNN's, in float32 and with weights packed once: more than twice as
fast as the default where MKL does not use AVX-512, for a second copy of the weights in memory.

A sequence may bear edits of the residual stream (`edits.Edit`): its keys and values are then those of the edited text,
and the edits that hold onward are made at every token generated from it, each row's own and no other's. Where an edit
asks for what another model reads, that model takes every token of the row too, before it, with a batch and a cache of
its own and by the same rules.

Families whose attention is more than softmax over all earlier positions (sliding windows, capped scores) and any family
not known here take the plain way: transformers' forward with its own cache, 16 rows of one prefix at a time. The API
and the promises are the same.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from backend.errors import AnchorscopeError
from backend.models.attention import ROLLOUTS, Group, Pages, attending
from backend.models.edits import Edit, Encoded, OthersRead, editing, editor_of, encode, models_beside
from backend.models.families import continues_prefix
from backend.models.layers import layers_of, private_copy
from backend.models.linear import PackedLinear, replace_linears
from backend.models.memory import within_memory
from backend.models.private import has_onednn, n_changes
from backend.models.residuals import recording

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

PAGE = 64  # positions of a tail that are attended to in one product
ROW_MULTIPLE = 16  # rows of a matrix product: see above
# rows whose logits exist at a time:
# blocks this small are reused by the allocator, larger ones are mapped anew each step
LOGIT_ROWS = 32
CANDIDATES = 64  # most probable tokens looked at before the whole vocabulary is sorted


class SamplingError(AnchorscopeError):
    """A request that cannot be sampled as asked."""


@dataclass(frozen=True)
class SamplingParameters:
    """Applied in this order, as transformers does: temperature, the top_k most probable tokens,
    then the top_p nucleus."""

    temperature: float  # logits are divided by it; 0 takes the most probable token
    top_p: float  # in (0, 1]: a token is kept while the mass of the more probable ones is below it; 1 keeps all
    max_new_tokens: int  # a row that reaches it ends with finish "cap"
    top_k: int = 0  # 0 is off

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise SamplingError(f"temperature is {self.temperature}, expected a number of 0 or more.")
        if not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p is {self.top_p}, expected a number above 0 and at most 1.")
        if self.max_new_tokens < 1 or self.top_k < 0:
            raise SamplingError(
                f"max_new_tokens is {self.max_new_tokens} (1 or more) and top_k {self.top_k} (0 or more)."
            )


@dataclass(frozen=True)
class SampleRequest:
    request_id: str
    sequence_id: str
    prefix_length: int  # tokens of the sequence that are kept, 1 to all
    seed: int  # in [0, 2**63), of this rollout alone


@dataclass(frozen=True)
class Sample:
    request_id: str
    token_ids: tuple[int, ...]  # sampled tokens, without the end token
    finish: str  # "eos", or "cap" where max_new_tokens cut it


def sample(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: Iterable[SampleRequest],
    parameters: SamplingParameters,
    *,
    edits: Mapping[str, Sequence[Edit]] | None = None,
    encoded: Mapping[str, Encoded] | None = None,
    rows: int = 128,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Sample]:
    """One Sample for each request, yielded as it ends, in no particular order.

    `sequences` maps ids to token ids (prompt + CoT); a rollout's last bits depend on its whole sequence, so pass the
    same one when a run is resumed. `edits` names, by sequence, edits made together on it and on what is generated from
    it: such a sequence is continued from its end. `encoded` may give, by sequence, an encoding of a text that begins
    with it, which is then not computed again. `rows` bounds the batch (memory and speed, never results); where memory
    is missing, half as many are tried, and that is said. `should_stop` is asked before every step; once it says yes the
    iterator ends and unfinished rollouts are dropped: ask for them again. Raises SamplingError for a request that does
    not fit its sequence or the model's positions, a request id given twice, and logits that are not finite; EditError
    for an edit that cannot be made.
    """
    for finished in sampled_in_steps(
        loaded, sequences, requests, parameters, edits=edits, encoded=encoded, rows=rows, should_stop=should_stop
    ):
        yield from finished


def sampled_in_steps(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: Iterable[SampleRequest],
    parameters: SamplingParameters,
    *,
    edits: Mapping[str, Sequence[Edit]] | None = None,
    encoded: Mapping[str, Encoded] | None = None,
    rows: int = 128,
    should_stop: Callable[[], bool] | None = None,
    drawn: Callable[[int], None] | None = None,
) -> Iterator[list[Sample]]:
    """As `sample`, but gives control back after every step, with the samples that ended in it, and after every
    sequence's encoding: for whoever has other things to do. `drawn` is told after each step how many rows drew a token
    in it.
    """
    requests = list(requests)
    edits, encoded = edits or {}, encoded or {}
    _check(loaded, sequences, requests, parameters, rows, edits)
    order = {sequence_id: place for place, sequence_id in enumerate(dict.fromkeys(r.sequence_id for r in requests))}
    requests.sort(
        key=lambda r: order[r.sequence_id]
    )  # rows of one sequence share matrix products and its encoding's lifetime
    way = _sample_shared if all(map(uses_shared_prefixes, _readers(loaded, edits))) else _sample_plainly
    told, stops = drawn or (lambda _: None), should_stop or (lambda: False)
    yield from within_memory(
        loaded.model,
        requests,
        rows,
        lambda left, rows: way(loaded, sequences, left, parameters, rows, stops, edits, encoded, told),
    )


def uses_shared_prefixes(loaded: "LoadedModel") -> bool:
    """Whether this model's rollouts share what they continue (`families.continues_prefix`)."""
    return continues_prefix(loaded.model.config)


def _readers(loaded: "LoadedModel", edits: Mapping[str, Sequence[Edit]]) -> "list[LoadedModel]":
    """The model and those that its edits ask for."""
    return [loaded, *(other for other, _ in models_beside(itertools.chain(*edits.values())).values())]


def prepare(loaded: "LoadedModel") -> None:
    """Makes now what the first sampling would make: the private copy with its packed weights, a second or so."""
    if uses_shared_prefixes(loaded):
        _private_copy(loaded.model)


def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) that draws token `step` of the rollout with this seed: 53 bits of a blake2b digest."""
    digest = hashlib.blake2b(seed.to_bytes(8, "little") + step.to_bytes(8, "little"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def next_tokens(logits: Tensor, uniforms: Sequence[float], parameters: SamplingParameters) -> list[int]:
    """One token for each row of `logits` (n, vocabulary), drawn at `uniforms` (n,).

    Tokens are ranked by falling probability; the answer is the first at which the cumulative probability of the kept
    ones exceeds uniform x their sum. Only the 64 most probable are ranked, unless they do not hold the nucleus: then
    the whole vocabulary of that row.
    """
    logits = logits.float()
    if parameters.temperature == 0:
        _refuse_nonfinite(logits.amax(-1))
        return logits.argmax(-1).cpu().tolist()
    scaled = logits / parameters.temperature
    n_candidates = min(max(CANDIDATES, parameters.top_k), scaled.shape[-1])
    values, ids = scaled.topk(n_candidates)
    _refuse_nonfinite(values[:, 0])
    if parameters.top_k:
        kth = values[:, min(parameters.top_k, n_candidates) - 1, None]
        probabilities = values.double().masked_fill(values < kth, -torch.inf).softmax(-1)
    else:
        probabilities = scaled.softmax(-1).gather(-1, ids).double()
    u = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
    places, is_open = _invert(probabilities, u, parameters.top_p)
    tokens = ids.gather(-1, places[:, None])[:, 0]
    if not parameters.top_k and n_candidates < scaled.shape[-1] and bool(is_open.any()):
        every, every_id = scaled[is_open].sort(dim=-1, descending=True, stable=True)
        places, _ = _invert(every.softmax(-1).double(), u[is_open], parameters.top_p)
        tokens[is_open] = every_id.gather(-1, places[:, None])[:, 0]
    return tokens.cpu().tolist()


def _invert(probabilities: Tensor, u: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Rank drawn in each row of falling probabilities (n, k),
    and whether ranks beyond k could have been drawn or kept."""
    mass = probabilities.cumsum(-1)
    kept = mass - probabilities < top_p
    kept[:, 0] = True
    n_kept = kept.sum(-1)
    if top_p < 1:
        target = u * mass.gather(-1, n_kept[:, None] - 1)[:, 0]
        is_open = mass[:, -1] < top_p
    else:  # all are kept and their sum is 1, so that a draw within the first k needs no more of them
        target = u
        is_open = mass[:, -1] <= u
    return torch.minimum((mass <= target[:, None]).sum(-1), n_kept - 1), is_open


def _refuse_nonfinite(largest: Tensor) -> None:
    if not bool(torch.isfinite(largest).all()):
        raise SamplingError(
            "The model's logits are NaN or infinite, so nothing can be sampled. Load it in float32, or check its"
            " weights."
        )


def _check(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    rows: int,
    edits: Mapping[str, Sequence[Edit]],
) -> None:
    if rows < 1:
        raise SamplingError(f"rows is {rows}, expected 1 or more.")
    require_end(loaded)
    limits = [
        getattr(reader.model.config.get_text_config(), "max_position_embeddings", None)
        for reader in _readers(loaded, edits)
    ]
    limit = min((limit for limit in limits if limit is not None), default=None)
    seen = set()
    for request in requests:
        if request.request_id in seen:
            raise SamplingError(f"request id {request.request_id!r} is given twice.")
        seen.add(request.request_id)
        if request.sequence_id not in sequences:
            raise SamplingError(
                f"request {request.request_id!r} continues {request.sequence_id!r}, which is not among the sequences."
            )
        length = len(sequences[request.sequence_id])
        if not 1 <= request.prefix_length <= length:
            raise SamplingError(
                f"request {request.request_id!r} keeps {request.prefix_length} tokens of {request.sequence_id!r}, which"
                f" has {length}; expected 1 to all of them."
            )
        if edits.get(request.sequence_id) and request.prefix_length != length:
            raise SamplingError(
                f"request {request.request_id!r}: an edited sequence is continued from its end, {length} tokens."
            )
        if limit is not None and max(length, request.prefix_length + parameters.max_new_tokens) > limit:
            raise SamplingError(
                f"request {request.request_id!r}: a sequence of {length} tokens, continued from {request.prefix_length}"
                f" by up to {parameters.max_new_tokens}, does not fit the model's {limit} positions. Lower"
                " max_new_tokens or shorten the sequence."
            )


def end_tokens(loaded: "LoadedModel") -> frozenset[int]:
    """Tokens with which this model ends what it writes."""
    configured = [
        getattr(one, "eos_token_id", None)
        for one in (loaded.model.generation_config, loaded.model.config.get_text_config())
    ]
    first = next((one for one in configured if one is not None), None)
    ends = first if isinstance(first, list) else [first]
    return frozenset(token for token in [*ends, loaded.tokenizer.eos_token_id] if token is not None)


def require_end(loaded: "LoadedModel") -> None:
    """Raises SamplingError for a model that can end nothing it writes: each text would be cut by the cap and look
    unfinished.
    """
    if not end_tokens(loaded):
        from backend.models.loaded import NO_END

        raise SamplingError(f"{loaded.name} has no end token. {NO_END}")


# The shared-prefix way


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
    pages: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)


@dataclass
class _Sharers:
    """The rows that share one prefix, as all layers see them."""

    prefix: _Prefix
    rows: Tensor  # indices of rows, repeated to a multiple of ROW_MULTIPLE
    n: int  # how many of them are not repetitions
    mask: Tensor  # (1, len(rows), 1, prefix length): 0 where a row may look, -inf elsewhere


class _Tails:
    """The batch's own keys and values, in pages; those in use are the first `n_pages`, so that no copy gathers them."""

    def __init__(self, n_layers: int, n_pages: int, shape: tuple[int, int], like: Tensor) -> None:
        kv_heads, head_dim = shape
        self.keys = [like.new_empty(n_pages, kv_heads, PAGE, head_dim) for _ in range(n_layers)]
        self.values = [like.new_empty(n_pages, kv_heads, PAGE, head_dim) for _ in range(n_layers)]
        self.mask = like.new_empty(n_pages, 1, 1, PAGE)
        self.owners: list[_Row] = []
        self.n_written = 0  # pages that were ever in use

    def add_page(self, row: _Row) -> None:
        page = len(self.owners)
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
        self, loaded: "LoadedModel", parameters: SamplingParameters, rows: int, *, multiple: int = ROW_MULTIPLE
    ) -> None:
        """`rows` is the most there will be.

        `multiple`: rows are padded to one of it; 1 is for batches whose rows are always as many.
        """
        self.multiple = multiple
        self.loaded = loaded
        self.model, self.lock = _private_copy(loaded.model)
        layers_of(loaded.model)  # looked for in the model itself: packed weights cannot be copied once more
        parts = layers_of(self.model)
        self.blocks, self.unembed = parts.blocks, parts.unembed
        self.source = loaded.model
        self.parameters = parameters
        self.ends = end_tokens(loaded)
        self.rows: list[_Row] = []
        self.prefixes: dict[str, _Prefix] = {}
        self.tails: _Tails | None = None  # made when the first sequence says how wide keys are
        self.layers = [_Layer(self, index) for index in range(loaded.n_layers)]
        self.groups: list[_Sharers] = []
        self.most_rows = rows
        self.others: dict[torch.nn.Module, SharedRows] = {}  # of models that edits ask for: the rows they ask for
        self.layers_asked: set[int] = (
            set()
        )  # by the model that these rows are beside: layers whose residual streams are kept
        self.residuals: dict[int, Tensor] = {}  # of the last step, at those layers: (n_rows and padding, 1, d_model)

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
        if self.tails is None:
            n_heads, _, d_head = pairs[0][0].shape
            n_pages = self.most_rows * -(-self.parameters.max_new_tokens // PAGE)
            with torch.inference_mode(False):
                self.tails = _Tails(len(pairs), n_pages, (n_heads, d_head), next(self.source.parameters()))
        self.prefixes[sequence_id] = _Prefix(
            keys=[keys.contiguous() for keys, _ in pairs],
            values=[values.contiguous() for _, values in pairs],
            length=len(token_ids),
            edits=tuple(edits),
        )
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
        here = [place for place, row in enumerate(rows) if row.request.sequence_id in self.prefixes]
        if not here:
            return {}
        for own, place in zip(self.rows, here, strict=True):
            own.token = rows[place].token
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
        places = [row.request.prefix_length - 2 + row.tail_length for row in self.rows]
        edits = [self.prefixes[row.request.sequence_id].edits for row in self.rows]
        asked = recording(self.blocks, sorted(self.layers_asked))
        with self.lock, editing(self.blocks, edits, places, 1, others), asked as self.residuals:
            return self.model.base_model(
                input_ids=self._tensor(tokens)[:, None],
                position_ids=self._tensor(places + places[:1] * padding)[:, None],
                past_key_values=self,
                use_cache=True,
            ).last_hidden_state[:, 0]

    @torch.inference_mode()
    def step(self) -> list[Sample]:
        """Draws one token for every row; the samples of the rows that end."""
        hidden = self._forward()
        drawn: list[int] = []
        for start in range(0, len(self.rows), LOGIT_ROWS):
            some = self.rows[start : start + LOGIT_ROWS]
            logits = self.unembed(hidden[start : start + LOGIT_ROWS])[: len(some)]
            drawn += next_tokens(logits, [uniform(row.request.seed, len(row.sampled)) for row in some], self.parameters)
        finished = []
        for row, token in zip(self.rows, drawn, strict=True):
            row.token = token
            if token in self.ends:
                finished.append((row, "eos"))
            else:
                row.sampled.append(token)
                if len(row.sampled) == self.parameters.max_new_tokens:
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
        place = {id(row): index for index, row in enumerate(self.rows)}
        self.page_rows = self._tensor([place[id(owner)] for owner in self.tails.owners])
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


def _sample_shared(
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


def _private_copy(model: Any) -> tuple[Any, threading.Lock]:
    """The model's modules again, on the same weights, with shared-prefix attention; kept until the model goes or its
    weights change.

    With it the lock of whoever runs it: edits are hooks on it for the length of one forward pass.
    """
    version = n_changes(model)
    if model in _copies and _copies[model][0] == version:
        return _copies[model][1:]
    private = private_copy(model, config=attending(model.config, ROLLOUTS))
    weight = next(model.parameters())
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn():
        replace_linears(private, lambda child: PackedLinear(child) if type(child) is torch.nn.Linear else None)
    _copies[model] = (version, private, threading.Lock())
    return _copies[model][1:]


# The plain way


def _sample_plainly(
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
    same_prefix: dict[tuple[str, int], list[SampleRequest]] = {}
    for request in requests:
        same_prefix.setdefault((request.sequence_id, request.prefix_length), []).append(request)
    for (sequence_id, length), alike in same_prefix.items():
        for start in range(0, len(alike), ROW_MULTIPLE):
            prefix = list(sequences[sequence_id][:length])
            stopped = yield from _continue_plainly(
                loaded,
                prefix,
                alike[start : start + ROW_MULTIPLE],
                parameters,
                should_stop,
                tuple(edits.get(sequence_id, ())),
                drawn,
            )
            if stopped:
                return


def _continue_plainly(
    loaded: "LoadedModel",
    prefix: list[int],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    should_stop: Callable[[], bool],
    edits: tuple[Edit, ...],
    drawn: Callable[[int], None],
) -> Iterator[list[Sample]]:
    """Always ROW_MULTIPLE rows, so that a row's numbers do not depend on how many are wanted.

    Its value is whether it was stopped.
    """
    ends = end_tokens(loaded)
    rows = PlainRows(loaded, prefix, [edits])
    sampled: list[list[int]] = [[] for _ in requests]
    live = list(range(len(requests)))
    inputs: list[int] = []
    while live:
        if should_stop():
            return True
        if inputs:
            logits = rows.logits(inputs)
        else:
            logits = rows.logits([prefix[-1]]).expand(ROW_MULTIPLE, -1)
            rows.repeat(ROW_MULTIPLE)
        tokens = next_tokens(logits[live], [uniform(requests[row].seed, len(sampled[row])) for row in live], parameters)
        drawn(len(tokens))
        inputs = [prefix[-1]] * ROW_MULTIPLE
        for row, token in zip(live, tokens, strict=True):
            inputs[row] = token
        finished = []
        for row, token in list(zip(live, tokens, strict=True)):
            if token not in ends:
                sampled[row].append(token)
                if len(sampled[row]) < parameters.max_new_tokens:
                    continue
            live.remove(row)
            finished.append(Sample(requests[row].request_id, tuple(sampled[row]), "eos" if token in ends else "cap"))
        yield finished
    return False


class PlainRows:
    """Rows that continue one and the same tokens, each under edits of its own, by transformers' forward pass and cache.

    A family that such a cache does not fit reads all of each row again at every token. Models that edits ask for read
    all rows too, each with a cache of its own.
    """

    def __init__(
        self, loaded: "LoadedModel", prefix: Sequence[int], edits: Sequence[Sequence[Edit]], *, again: bool = False
    ) -> None:
        """`again`: read everything anew at every token, because a model beside this one does."""
        self._editor = editor_of(loaded)
        self._edits = [tuple(own) for own in edits]
        asked = models_beside(itertools.chain(*self._edits))
        readers = [loaded, *(other for other, _ in asked.values())]
        again = again or any(editor_of(reader).cache_name is None for reader in readers)
        self._cache = {} if again else {self._editor.cache_name: DynamicCache(config=loaded.model.config)}
        self._read: list[list[int]] = []  # each row's tokens so far
        self._prefix, self._device = list(prefix), loaded.model.device
        self._others = {
            model: (PlainRows(other, prefix, (), again=again), layers) for model, (other, layers) in asked.items()
        }

    def repeat(self, n: int) -> None:
        """One row becomes `n` alike."""
        for cache in self._cache.values():
            cache.reorder_cache(torch.zeros(n, dtype=torch.long, device=self._device))  # what every kind of layer knows
        self._edits, self._read = self._edits * n, [list(row) for row in self._read * n]
        for other, _ in self._others.values():
            other.repeat(n)

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Logits (n_rows, vocabulary) after one more token in each row; the first call takes the last token of the
        prefix.
        """
        first, new = self._unread(tokens)
        others = {model: other.residuals(tokens, layers) for model, (other, layers) in self._others.items()}
        return self._editor.plain_logits(new, self._edits, first, self._cache, others)

    def residuals(self, tokens: Sequence[int], layers: Iterable[int]) -> dict[int, Tensor]:
        """Instead of logits, the residual streams (n_rows, n_tokens, d_model) of all tokens that are new to these
        unedited rows.
        """
        return self._editor.plain_residuals(self._unread(tokens)[1], self._cache, sorted(layers))

    def _unread(self, tokens: Sequence[int]) -> tuple[int, Tensor]:
        """Position of the first token that is to be read now, and each row's tokens (n_rows, n_tokens) from there up to
        `tokens`.
        """
        if not self._read:
            self._read = [self._prefix[:-1] for _ in tokens]
            first = 0
        else:
            first = len(self._read[0]) if self._cache else 0
        for row, token in zip(self._read, tokens, strict=True):
            row.append(token)
        return first, torch.tensor([row[first:] for row in self._read], device=self._device)
