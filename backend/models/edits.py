"""Edits of the residual stream, exact and cheap: what every intervention (steering, patching, zeroing) goes through.

An edit is (layer, positions, function of the residual stream there). For one text:
1. `encode` runs the model once, plainly, and keeps every layer's keys and values and the residual stream at the layers
   asked for.
2. A batch of edits starts from the kept residual stream. Only layers above the edited one and only positions from the
   first edited one on can change, so only those are computed, one row of the batch for each edit.
3. All rows attend to the same unedited prefix: its keys and values are used where they lie, by one matrix product for
   all rows, and each row's own keys come on top of it. The two parts share one softmax.
4. The final norm is applied at the asked positions alone; so is the unembedding.

An edit that changes nothing gets the model's own values, bit for bit, because nothing is computed for it. Steps 2 and 3
hold for causal attention over the whole text. Elsewhere (sliding windows, capped attention, unknown families) each edit
is a plain forward pass of the whole text with a hook. Both work on a private copy that shares the model's weights: the
caller's model never carries a hook.

An edit may ask for what another model reads in the same tokens (`Edit.beside`), as the features of a crosscoder do,
which are of two models. That model is never edited. An edit at layer ℓ moves only what lies above ℓ: what either reads
at ℓ depends on the tokens alone.
"""

import contextlib
import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.models.attention import EDITS, MASKED, WITHOUT, Part, Watch, Without, attending
from backend.models.families import continues_prefix, equal, shares_prefix
from backend.models.layers import Layers, layers_of, private_copy, residual_of, with_residual
from backend.models.linear import LeanLinear, replace_linears
from backend.models.residuals import checked_tokens, recording

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from backend.models.loaded import HasModel, LoadedModel

_PLAIN_TOKENS = 4096  # tokens in one plain forward pass of several edits

OthersRead = Mapping[
    nn.Module, Mapping[int, torch.Tensor]
]  # model -> layer -> residual stream (n_rows, n_tokens, its d_model)
_NOBODY: OthersRead = {}


class EditError(AnchorscopeError):
    """An edit that cannot be made as asked. Nothing is ever skipped in silence."""


@dataclass(frozen=True)
class Edit:
    """At block `layer`'s output and at token `positions`, the residual stream h (n_positions, d_model) becomes
    `change(h)`.

    With `onward` it does so at every position after the last of these too, those that are generated among them. While
    generating, `change` is given some of its positions at a time, one row each, so it must treat each row by itself.

    With `beside`, another model, it becomes `change(h, other)`: `other` (n_positions, that model's d_model) is the
    residual stream at the same layer and positions of that model, unedited, reading the same tokens.
    """

    layer: int
    positions: tuple[int, ...]
    change: Callable[..., torch.Tensor]
    onward: bool = False
    beside: "LoadedModel | None" = None

    def positions_in(self, first: int, end: int) -> tuple[int, ...]:
        """Its positions among first … end − 1."""
        onward = range(max(self.positions) + 1, end) if self.onward and self.positions else ()
        return tuple(position for position in (*self.positions, *onward) if first <= position < end)

    def within(self, n_tokens: int) -> "Edit":
        """The same edit in a text of `n_tokens`, every position named."""
        if not self.onward or not self.positions:
            return self
        return replace(self, positions=(*self.positions, *range(max(self.positions) + 1, n_tokens)), onward=False)


def addition(layer: int, positions: Sequence[int], vector: torch.Tensor) -> Edit:
    """The edit h ← h + vector; `vector` is (d_model,), or (n_positions, d_model) for one each."""
    if vector.ndim == 2 and len(vector) != len(positions):
        raise EditError(f"{len(vector)} vectors were given for {len(positions)} positions.")

    def add(h: torch.Tensor) -> torch.Tensor:
        if vector.shape[-1] != h.shape[-1]:
            raise EditError(
                f"The vector has {vector.shape[-1]} values, but the residual stream at layer {layer} has {h.shape[-1]}."
            )
        if vector.ndim == 2 and len(vector) != len(h):
            raise EditError(
                f"{len(vector)} vectors, one for each position, cannot be added to {len(h)} positions at a time."
            )
        return h + vector.to(h)

    return Edit(layer, tuple(positions), add)


@dataclass(frozen=True)
class Edited:
    """What a batch of edits does to the last residual stream."""

    normed: torch.Tensor  # (n_edits, n_positions, d_model), after the final norm
    moved: torch.Tensor  # (n_edits, n_positions) bool; False: the unedited value, bit for bit
    rows: list[int]  # edits that move anything


@dataclass(frozen=True)
class Encoded:
    """One text as the unedited model reads it, ready to be edited.

    What was read does not change afterwards, so threads may share it.
    """

    token_ids: tuple[int, ...]
    normed: torch.Tensor  # (n_tokens, d_model), after the final norm
    is_shared_prefix: bool  # edits take the quick way; False: each is a plain forward pass
    parts: Layers = field(repr=False)
    _residuals: dict[int, torch.Tensor] = field(repr=False)  # layer -> (n_tokens, d_model)
    _keys_values: list[tuple[torch.Tensor, torch.Tensor]] = field(
        repr=False
    )  # by layer, each (n_key_heads, n_tokens, d_head)
    _rotary: Any = field(repr=False)  # cosines and sines, each (1, n_tokens, d_rotary); None where the model has none
    _embedded: torch.Tensor = field(repr=False)  # (n_tokens, d_model): what the first block was given; else empty
    _editor: "_Editor" = field(repr=False)
    _beside: "dict[_Editor, Encoded]" = field(default_factory=dict, repr=False)  # the same text as other models read it

    @property
    def layers(self) -> list[int]:
        """Layers at which edits can be made, in order."""
        return sorted(self._residuals)

    def residual(self, layer: int) -> torch.Tensor:
        """The unedited residual stream (n_tokens, d_model) at `layer`, which must be one of those the text was encoded
        with.
        """
        if layer not in self._residuals:
            raise EditError(f"Layer {layer} was not kept. The text was encoded with layers {self.layers}.")
        return self._residuals[layer]

    def beside(self, other: "LoadedModel", layers: Sequence[int]) -> "Encoded":
        """The same text as another model reads it, at least `layers` kept; read once for each model."""
        editor = editor_of(other)
        found = self._beside.get(editor)
        if found is None or not set(layers) <= set(found.layers):
            found = self._beside[editor] = editor.encode(
                self.token_ids, sorted({*layers, *(found.layers if found else ())})
            )
        return found

    @torch.inference_mode()
    def base_logits(self, positions: Sequence[int]) -> torch.Tensor:
        """The model's own logits (n_positions, vocab_size), bit for bit: the unembedding runs over the whole text, as
        in the model.
        """
        self._check_positions(positions)
        return self.parts.unembed(self.normed[None])[0, list(positions)]

    @torch.inference_mode()
    def logits(self, edits: Sequence["Edit | Sequence[Edit]"], positions: Sequence[int]) -> torch.Tensor:
        """Logits (n_edits, n_positions, vocab_size) after each edit (or group of edits made together),
        at `positions`."""
        edited = self.edited(edits, positions)
        logits = self.base_logits(positions).expand(len(edits), -1, -1).clone()
        if edited.rows:
            rows = torch.tensor(edited.rows, device=logits.device)
            changed = self.parts.unembed(edited.normed[rows])
            logits[rows] = torch.where(edited.moved[rows][..., None], changed, logits[rows])
        return logits

    @torch.inference_mode()
    def edited(self, edits: Sequence["Edit | Sequence[Edit]"], positions: Sequence[int]) -> Edited:
        """Normed last residual stream after each edit (or group of edits made together), at `positions`.

        Raises EditError for a layer or position that does not exist, and for a change that returns another shape or
        values that are not finite.
        """
        self._check_positions(positions)
        end = max(positions) + 1  # later tokens change nothing before them
        groups = [(group,) if isinstance(group, Edit) else group for group in edits]
        rows = [tuple(self._with_other_read(edit.within(end)) for edit in group) for group in groups]
        normed = self.normed[list(positions)].expand(len(rows), -1, -1).clone()
        asked, moved = torch.tensor(positions), torch.zeros(len(rows), len(positions), dtype=torch.bool)
        # Before a row's first edited position nothing moves; a row whose edits all give back what they were given does
        # not move at all.
        for i, (row, moving) in enumerate(zip(rows, self._move(rows), strict=True)):
            if moving:
                moved[i] = asked >= min(min(edit.positions) for edit in row)
        chosen = moved.any(dim=1).nonzero()[:, 0].tolist()
        moved = moved.to(normed.device)
        if chosen:
            which = torch.tensor(chosen, device=normed.device)
            compute = self._with_shared_prefix if self.is_shared_prefix else self._with_plain_forwards
            computed = compute([rows[i] for i in chosen], list(positions))
            normed[which] = torch.where(moved[which][..., None], computed, normed[which])
        return Edited(normed, moved, chosen)

    @torch.inference_mode()
    def recomputed(self, layer: int, positions: Sequence[int]) -> torch.Tensor:
        """Normed last residual stream (n_positions, d_model) computed again from `layer` on, the way edits are: it
        differs by rounding.
        """
        self._check_positions(positions)
        self.residual(layer)
        compute = self._with_shared_prefix if self.is_shared_prefix else self._with_plain_forwards
        return compute([(Edit(layer, (min(positions),), lambda h: h),)], list(positions))[0]

    @torch.inference_mode()
    def keys_values(self, edits: Sequence[Edit], n_tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """By layer, keys and values (n_key_heads, n_tokens, d_head) of the text's first `n_tokens` after the edits made
        together.

        What a continuation of those tokens attends to. Positions before the first edited one, and layers up to the
        edited one, have the unedited model's own. Only where `is_shared_prefix`.
        """
        if not self.is_shared_prefix or not 1 <= n_tokens <= len(self.token_ids):
            raise EditError(
                f"Keys and values of {n_tokens} of {len(self.token_ids)} tokens cannot be had from this model's"
                " encoding."
            )
        kept = [replace(edit, positions=edit.positions_in(0, n_tokens), onward=False) for edit in edits]
        own = [(keys[:, :n_tokens], values[:, :n_tokens]) for keys, values in self._keys_values]
        kept = [self._with_other_read(edit) for edit in kept if edit.positions]
        if not any(self._move([(edit,) for edit in kept])):
            return own
        first = min(min(edit.positions) for edit in kept)
        new: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._run_upper([tuple(kept)], first, n_tokens, new)
        return [
            (
                pair
                if layer not in new
                else (
                    torch.cat([pair[0][:, :first], new[layer][0][0]], 1),
                    torch.cat([pair[1][:, :first], new[layer][1][0]], 1),
                )
            )
            for layer, pair in enumerate(own)
        ]

    @torch.inference_mode()
    def attention(
        self, edits: Sequence[Edit], *, layer: int, keys: tuple[int, int], queries: tuple[int, int]
    ) -> torch.Tensor:
        """Attention (n_edits, n_layers − layer − 1) at every layer above `layer`, at which the edits are made: the sum
        of the weights to tokens [a, b) = `keys`, mean over the heads and over the tokens `queries`.

        Only where `is_shared_prefix`, and from tokens that all edits can move: from the first edited one on.
        """
        touched = [position for edit in edits for position in edit.positions]
        if not self.is_shared_prefix or {edit.layer for edit in edits} != {layer} or max(touched) > queries[0]:
            raise EditError(
                f"Attention from tokens {list(queries)} is had after edits at layer {layer} of tokens up to the first"
                " of them, in models that share a prefix."
            )
        watch = Watch(keys, queries)
        self._run_upper([(edit,) for edit in edits], min(touched), queries[1], watched=watch)
        return torch.stack([watch.by_layer[above].mean(-1) for above in sorted(watch.by_layer)], 1)

    @torch.inference_mode()
    def without(self, spans: Sequence[tuple[int, int]], part: Part, end: int) -> list[torch.Tensor]:
        """For each of `spans`, tokens [a, b) of the text, the normed last residual stream (end − b, d_model) of tokens
        b … end − 1, which in `part` do not attend to those of the span: the keys that are left share the weight. An
        empty span takes nothing away: the same is computed again.

        The residual stream must have been kept at the layer before the part's first one. Raises EditError for a family
        that has layers without an attention that could be taken away.
        """
        for a, b in spans:
            if not 0 <= a <= b < end <= len(self.token_ids):
                raise EditError(f"Attention to tokens [{a}, {b}) cannot be taken from those up to {end - 1}.")
        if not part.layers:
            return [self.normed[b:end] for _, b in spans]
        if not self.is_shared_prefix:
            return self._editor.masked(self.token_ids[:end], spans, part)
        first = part.layers.start
        entering = self.residual(first - 1) if first else self._embedded
        h = torch.cat([entering[b:end] for _, b in spans])[None]
        rotary = self._rotary and tuple(torch.cat([table[:, b:end] for _, b in spans], 1) for table in self._rotary)
        without = Without(spans, end, part, self._keys_values)
        for layer in range(first, len(self.parts.blocks)):
            block = self._editor.block(layer, WITHOUT)
            h = residual_of(block(h, attention_mask=None, position_embeddings=rotary, without=without))
        return list(self.parts.final_norm(h)[0].split([end - b for _, b in spans]))

    @torch.inference_mode()
    def continued(self, n_tokens: int, token_ids: Sequence[int], layers: Sequence[int]) -> dict[int, torch.Tensor]:
        """Residual stream (len(token_ids), d_model) at each of `layers` of other tokens that come after the text's
        first `n_tokens`.
        """
        self._check_positions([n_tokens - 1])
        if self.is_shared_prefix and self._editor.continues:
            own = [(keys[:, :n_tokens], values[:, :n_tokens]) for keys, values in self._keys_values]
            return self._editor.continuation(own, token_ids, layers)
        whole = self._editor.encode((*self.token_ids[:n_tokens], *token_ids), layers)
        return {layer: whole.residual(layer)[n_tokens:] for layer in layers}

    @torch.inference_mode()
    def branched(
        self, n_tokens: int, rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> list[dict[int, torch.Tensor]]:
        """What `continued` gives for each of `rows`, tokens that come after the text's first `n_tokens`: side by side
        where the model can be continued, so that what they share is read once.
        """
        self._check_positions([n_tokens - 1])
        if not (self.is_shared_prefix and self._editor.continues):
            return [self.continued(n_tokens, row, layers) for row in rows]
        longest = max(map(len, rows))
        padded = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]  # later tokens change nothing before them
        h, rotary = self._editor.embedded(padded, n_tokens)
        prefix = [(keys[:, :n_tokens], values[:, :n_tokens]) for keys, values in self._keys_values]
        streams: dict[int, torch.Tensor] = {}
        for layer in range(max(layers) + 1):
            block = self._editor.block(layer)
            h = residual_of(block(h, attention_mask=None, position_embeddings=rotary, prefix=prefix))
            if layer in layers:
                streams[layer] = h
        return [{layer: streams[layer][number, : len(row)] for layer in layers} for number, row in enumerate(rows)]

    def _with_other_read(self, edit: Edit) -> Edit:
        """The same edit, all positions named, of h alone: what the model beside reads there is filled in."""
        if edit.beside is None:
            return edit
        self._check_positions(edit.positions)
        self.residual(edit.layer)
        other = self.beside(edit.beside, [edit.layer]).residual(edit.layer)[list(edit.positions)]
        return Edit(edit.layer, edit.positions, lambda h: edit.change(h, other))

    def _move(self, rows: Sequence[tuple[Edit, ...]]) -> list[bool]:
        """Of each row, whether any of its edits changes what the unedited model has. Waits once for all of them."""
        finite, alike = _Finite(), []
        for edit in itertools.chain(*rows):
            self._check_positions(edit.positions)
            h = self.residual(edit.layer)[list(edit.positions)]
            alike.append((finite.changed(edit, h) == h).all())
        finite.require()
        answers = iter(torch.stack(alike).cpu().tolist() if alike else ())
        return [not all([next(answers) for _ in row]) for row in rows]

    def _check_positions(self, positions: Sequence[int]) -> None:
        n_tokens = len(self.token_ids)
        if len(positions) == 0 or len(set(positions)) != len(positions):
            raise EditError(f"Positions must be one or more different token indices, got {list(positions)}.")
        if not 0 <= min(positions) <= max(positions) < n_tokens:
            raise EditError(
                f"Positions run from {min(positions)} to {max(positions)}, but the text has tokens 0 to {n_tokens - 1}."
            )

    def _with_shared_prefix(self, rows: list[tuple[Edit, ...]], positions: list[int]) -> torch.Tensor:
        touched = [position for row in rows for edit in row for position in edit.positions]
        first = min(touched)
        h = self._run_upper(rows, first, max(*positions, *touched) + 1)
        # A position asked for before the window is not moved by any row: any value will do, it is replaced by the
        # unedited one.
        return self.parts.final_norm(h[:, [max(position - first, 0) for position in positions]])

    def _run_upper(
        self,
        rows: list[tuple[Edit, ...]],
        first: int,
        end: int,
        kept: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None,
        watched: Watch | None = None,
    ) -> torch.Tensor:
        """Last residual stream (n_rows, end − first, d_model) of tokens first … end − 1 after each row's edits.

        `kept`, where given, receives each recomputed layer's keys and values (n_rows, n_key_heads, end − first,
        d_head), `watched` each one's attention.
        """
        lowest = min(edit.layer for row in rows for edit in row)
        rotary = self._rotary and tuple(table[:, first:end] for table in self._rotary)
        prefix = [(keys[:, :first], values[:, :first]) for keys, values in self._keys_values]
        h = self.residual(lowest)[first:end].expand(len(rows), -1, -1).clone()
        finite = _Finite()
        for layer in range(lowest, len(self.parts.blocks)):
            if layer > lowest:
                block = self._editor.block(layer)
                noted = {"kept": kept, "watched": watched}
                h = residual_of(block(h, attention_mask=None, position_embeddings=rotary, prefix=prefix, **noted))
            _apply(rows, layer, h, first, finite)
        finite.require()
        return h

    def _with_plain_forwards(self, rows: list[tuple[Edit, ...]], positions: list[int]) -> torch.Tensor:
        per_pass = max(1, _PLAIN_TOKENS // len(self.token_ids))
        passes = [rows[i : i + per_pass] for i in range(0, len(rows), per_pass)]
        return torch.cat([self._editor.plain_forward(self.token_ids, some, positions) for some in passes])


def encode(loaded: "HasModel", token_ids: Sequence[int], *, layers: Sequence[int] | None = None) -> Encoded:
    """One plain forward pass of `token_ids`; edits can then be made at `layers` (all by default)."""
    editor = editor_of(loaded)
    return editor.encode(token_ids, range(len(editor.parts.blocks)) if layers is None else layers)


def editor_of(loaded: "HasModel") -> "_Editor":
    """The private copies of this model, made once."""
    with _EDITORS_LOCK:
        if loaded.model not in _EDITORS:
            _EDITORS[loaded.model] = _Editor(loaded.model)
        return _EDITORS[loaded.model]


def models_beside(edits: Iterable[Edit]) -> "dict[nn.Module, tuple[LoadedModel, set[int]]]":
    """The other models that edits ask for, each with the layers they ask for."""
    asked: dict[nn.Module, tuple[LoadedModel, set[int]]] = {}
    for edit in edits:
        if edit.beside is not None:
            asked.setdefault(edit.beside.model, (edit.beside, set()))[1].add(edit.layer)
    return asked


class _Finite:
    """Makes changes and notes, on their device, whether they are finite: asked once, for all of them."""

    def __init__(self) -> None:
        self._made: list[tuple[Edit, torch.Tensor]] = []

    def changed(self, edit: Edit, h: torch.Tensor, *other: torch.Tensor) -> torch.Tensor:
        """`edit.change(h, *other)`, or an EditError that says what is wrong with its shape."""
        new = edit.change(h, *other)
        if not isinstance(new, torch.Tensor) or new.shape != h.shape:
            got = tuple(new.shape) if isinstance(new, torch.Tensor) else type(new).__name__
            raise EditError(
                f"The edit at layer {edit.layer} returned {got}; the residual stream it was given is {tuple(h.shape)}."
            )
        self._made.append((edit, torch.isfinite(new).all()))
        return new.to(h.dtype)

    def require(self) -> None:
        """Raises EditError for the first change that is not finite. Waits for the device."""
        if not self._made:
            return
        for (edit, _), finite in zip(self._made, torch.stack([flag for _, flag in self._made]).cpu(), strict=True):
            if not finite:
                raise EditError(
                    f"The edit at layer {edit.layer}, positions {list(edit.positions)[:5]}, returned values that are"
                    " NaN or infinite."
                )


def _apply(rows: Sequence[tuple[Edit, ...]], layer: int, h: torch.Tensor, first: int, finite: _Finite) -> None:
    """Makes the rows' edits at `layer` in place in h (n_rows, n_tokens, d_model), whose tokens start at index `first`
    of the text.
    """
    for i, row in enumerate(rows):
        for edit in row:
            if edit.layer == layer:
                where = [position - first for position in edit.positions]
                h[i, where] = finite.changed(edit, h[i, where])


class _Editor:
    """The private copies of one model: `parts` for plain passes, and blocks whose attention takes a shared prefix."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self._config = model.config.get_text_config()
        self._model = private_copy(model).eval()
        self.parts = layers_of(self._model)
        self.continues = continues_prefix(self._config)
        self._blocks: dict[tuple[int, str], nn.Module] = {}
        self._lock = threading.RLock()  # hooks on the private copy belong to one forward pass at a time

    @functools.cached_property
    def cache_name(self) -> str | None:
        """Under which name the model takes transformers' cache; None where it takes none, or reads a text otherwise
        with it than whole.
        """
        from transformers import DynamicCache

        keywords = inspect.signature(self.parts.trunk.forward).parameters
        name = next((name for name in ("past_key_values", "cache_params") if name in keywords), None)
        if name is None:
            return None
        tokens = torch.arange(1, 7, device=self._model.device)[None]
        with torch.inference_mode(), self._lock:
            whole = self.parts.trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, -1:]
            try:
                cache = DynamicCache(config=self._model.config)
                self.parts.trunk(input_ids=tokens[:, :-1], **{name: cache}, use_cache=True)
                cache.reorder_cache(torch.zeros(2, dtype=torch.long, device=tokens.device))
                late = self.parts.trunk(
                    input_ids=tokens[:, -1:].expand(2, -1), **{name: cache}, use_cache=True
                ).last_hidden_state
            except (
                Exception
            ):  # a family with a cache of its own says so in many ways; it goes without, which is right and slow
                return None
        return name if equal(late, whole.expand_as(late)) else None

    @functools.cached_property
    def _configs(self) -> dict[str, Any]:
        return {way: attending(self._config, way) for way in (EDITS, WITHOUT)}

    def block(self, layer: int, way: str = EDITS) -> nn.Module:
        """Block `layer` with lean linear layers and an attention of ours."""
        with self._lock:
            if (layer, way) not in self._blocks:
                block = private_copy(self.parts.blocks[layer], config=self._configs[way])
                replace_linears(block, LeanLinear.over)
                self._blocks[layer, way] = block
            return self._blocks[layer, way]

    @functools.cached_property
    def _masked(self) -> Layers:
        """Of a copy of the model whose attention is under a mask of ours."""
        return layers_of(private_copy(self._model, config=attending(self._config, MASKED)))

    @torch.inference_mode()
    def masked(self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], part: Part) -> list[torch.Tensor]:
        """What `Encoded.without` gives, by forward passes of the whole text."""
        per_pass, found = max(1, _PLAIN_TOKENS // len(token_ids)), []
        tokens = checked_tokens(token_ids, self._model)
        for some in (spans[i : i + per_pass] for i in range(0, len(spans), per_pass)):
            without = Without(some, len(token_ids), part)
            trunk = self._masked.trunk
            normed = trunk(input_ids=tokens.expand(len(some), -1), use_cache=False, without=without).last_hidden_state
            if missing := sorted(set(part.layers) - without.reached):
                raise EditError(
                    f"Attention cannot be taken away in a model of the family {self._config.model_type}: layers"
                    f" {missing} have none that can be masked."
                )
            found += [row[b:] for row, (_, b) in zip(normed, some, strict=True)]
        return found

    def another_copy(self) -> "PreTrainedModel":
        """A private copy of the model, taken while no pass has its hooks there."""
        with self._lock:
            return private_copy(self._model)

    @torch.inference_mode()
    def encode(self, token_ids: Sequence[int], layers: Sequence[int]) -> Encoded:
        from transformers import DynamicCache

        tokens, quick = checked_tokens(token_ids, self._model), shares_prefix(self._config, len(token_ids))
        given: list[tuple[Any, Any]] = []
        with self._lock:
            handle = self.parts.blocks[0].register_forward_pre_hook(
                lambda _block, inputs, keywords: given.append((inputs, keywords.get("position_embeddings"))),
                with_kwargs=True,
            )
            try:
                with recording(self.parts.blocks, layers) as residuals:
                    cache = DynamicCache() if quick else None
                    caching = {} if cache is None else {"past_key_values": cache}
                    output = self.parts.trunk(input_ids=tokens, **caching, use_cache=quick)
            finally:
                handle.remove()
        return Encoded(
            token_ids=tuple(token_ids),
            normed=output.last_hidden_state[0],
            is_shared_prefix=quick,
            parts=self.parts,
            _residuals={layer: residuals[layer][0] for layer in layers},
            _keys_values=[] if cache is None else [(layer.keys[0], layer.values[0]) for layer in cache.layers],
            _rotary=given[0][1] if quick else None,
            _embedded=given[0][0][0][0] if quick else output.last_hidden_state[0, :0],
            _editor=self,
        )

    @functools.cached_property
    def _first_block(self) -> Layers:
        """Of a copy of the model with its first block alone."""
        own = layers_of(private_copy(self._model))
        del own.blocks[1:]
        return own

    @torch.inference_mode()
    def embedded(self, rows: Sequence[Sequence[int]], first: int) -> tuple[torch.Tensor, Any]:
        """What the first block is given of rows of tokens, all as long, that start at position `first`: the stream
        (n_rows, n_tokens, d_model), and the tables of rotation, None where the model has none.
        """
        given: list[tuple[torch.Tensor, Any]] = []
        tokens = torch.cat([checked_tokens(row, self._model) for row in rows])
        positions = torch.arange(first, first + tokens.shape[1], device=tokens.device)[None]
        with self._lock:
            handle = self._first_block.blocks[0].register_forward_pre_hook(
                lambda _block, inputs, keywords: given.append((inputs[0], keywords.get("position_embeddings"))),
                with_kwargs=True,
            )
            try:
                self._first_block.trunk(input_ids=tokens, position_ids=positions, use_cache=False)
            finally:
                handle.remove()
        return given[0]

    @torch.inference_mode()
    def continuation(
        self,
        keys_values: Sequence[tuple[torch.Tensor, torch.Tensor]],
        token_ids: Sequence[int],
        layers: Sequence[int],
    ) -> dict[int, torch.Tensor]:
        """Residual stream (len(token_ids), d_model) at each of `layers` of tokens that follow those of which
        `keys_values`, each (n_key_heads, n_tokens, d_head) by layer, were kept.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(keys_values):
            cache.update(keys[None], values[None], layer)
        tokens = checked_tokens(token_ids, self._model)
        with self._lock, recording(self.parts.blocks, layers) as residuals:
            self.parts.trunk(input_ids=tokens, past_key_values=cache, use_cache=True)
        return {layer: residuals[layer][0] for layer in layers}

    def plain_forward(
        self, token_ids: Sequence[int], rows: Sequence[tuple[Edit, ...]], positions: list[int]
    ) -> torch.Tensor:
        """Normed last residual stream (n_rows, n_positions, d_model) of a forward pass of the whole text, one batch row
        for each.
        """
        tokens = checked_tokens(token_ids, self._model).expand(len(rows), -1)
        with self._lock, editing(self.parts.blocks, rows, [0] * len(rows), tokens.shape[1]):
            return self.parts.trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, positions]

    @torch.inference_mode()
    def plain_logits(
        self,
        tokens: torch.Tensor,
        rows: Sequence[tuple[Edit, ...]],
        first: int,
        cache: Mapping[str, Any],
        others: OthersRead,
    ) -> torch.Tensor:
        """Logits (n_rows, vocab_size) after the last of `tokens` (n_rows, n_tokens), which start at position `first`;
        `cache`, under the name that the model takes it by, grows; without one nothing is remembered.
        """
        with self._lock, editing(self.parts.blocks, rows, [first] * len(rows), tokens.shape[1], others):
            normed = self.parts.trunk(input_ids=tokens, **cache, use_cache=bool(cache)).last_hidden_state[:, -1]
        return self.parts.unembed(normed)

    @torch.inference_mode()
    def plain_residuals(
        self, tokens: torch.Tensor, cache: Mapping[str, Any], layers: Sequence[int]
    ) -> dict[int, torch.Tensor]:
        """Residual streams (n_rows, n_tokens, d_model) at `layers` of unedited rows that `tokens` (n_rows, n_tokens)
        continue.
        """
        with self._lock, recording(self.parts.blocks, layers) as residuals:
            self.parts.trunk(input_ids=tokens, **cache, use_cache=bool(cache))
        return residuals


@contextlib.contextmanager
def editing(
    blocks: nn.ModuleList,
    rows: Sequence[tuple[Edit, ...]],
    firsts: Sequence[int],
    n_tokens: int,
    others: OthersRead = _NOBODY,
) -> Iterator[None]:
    """While open, a forward pass of `n_tokens` new tokens through `blocks` is edited: batch row i by `rows[i]`, from
    position `firsts[i]`.

    `others` holds what the models that edits ask for read in the same rows and tokens. Batch rows beyond those named
    are left alone. The blocks are the caller's own copy, and no other pass may use them meanwhile.
    """
    by_layer: dict[int, list[tuple[Edit, list[int], list[int]]]] = {}
    for i, (row, first) in enumerate(zip(rows, firsts, strict=True)):
        for edit in row:
            if not 0 <= edit.layer < len(blocks):
                raise EditError(f"Layer {edit.layer} does not exist: the model has layers 0 to {len(blocks) - 1}.")
            if where := [position - first for position in edit.positions_in(first, first + n_tokens)]:
                by_layer.setdefault(edit.layer, []).append((edit, [i] * len(where), where))
    if n_tokens == 1:  # token by token every change treats each row by itself: rows that share a change share one call
        by_layer = {layer: _joined(made) for layer, made in by_layer.items()}
    done: set[int] = set()
    finite = _Finite()

    def hook(layer: int) -> torch.utils.hooks.RemovableHandle:
        def edit_output(_block: nn.Module, _inputs: Any, output: Any) -> Any:
            h = residual_of(output).clone()
            for edit, which, where in by_layer[layer]:
                other = () if edit.beside is None else (others[edit.beside.model][layer][which, where],)
                h[which, where] = finite.changed(edit, h[which, where], *other)
            done.add(layer)
            return with_residual(output, h)

        return blocks[layer].register_forward_hook(edit_output)

    handles = [hook(layer) for layer in by_layer]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if done != set(by_layer):
        raise EditError(
            f"The edits at layers {sorted(set(by_layer) - done)} were not made: the forward pass did not reach them."
        )
    finite.require()


def _joined(made: list[tuple[Edit, list[int], list[int]]]) -> list[tuple[Edit, list[int], list[int]]]:
    """Edits that make one and the same change joined, unless a row has several, whose order counts."""
    if len({which[0] for _, which, _ in made}) < len(made):
        return made
    joined: dict[tuple[int, int], tuple[Edit, list[int], list[int]]] = {}
    for edit, which, where in made:
        kept = joined.setdefault((id(edit.change), id(edit.beside)), (edit, [], []))
        kept[1].extend(which)
        kept[2].extend(where)
    return list(joined.values())


_EDITORS: "weakref.WeakKeyDictionary[nn.Module, _Editor]" = weakref.WeakKeyDictionary()
_EDITORS_LOCK = threading.Lock()
