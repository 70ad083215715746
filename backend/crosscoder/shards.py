"""Activations on disk: the residual streams of one or two models at one layer, on the same tokens, in memory-mapped
shards. Several layers, each in a folder of its own, are recorded in one pass of each model over a text; neighbours
that go on from the same place of another text share what comes before it (`reading`).

A shard holds whole texts and is written once: activations (n_tokens, n_models, width), and beside them for each token
the text, its place in it and its id. Its line in manifest.jsonl is written last, so a recording that was stopped goes
on after the last whole shard. The first token of a text is left out: its residual stream is an attention sink, far
longer than all others, and would own the loss.
"""

import functools
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id

if TYPE_CHECKING:
    from backend.crosscoder.reading import Tokens
    from backend.models.loaded import LoadedModel

DTYPES = ("float16", "float32")
_PROBE = "So 3 + 45 = 48.\n\nWait — naïve √2, \\boxed{\\frac{1}{2}}\t<b>日本語</b> 🙂 don't"


class ShardError(AnchorscopeError):
    """Texts that cannot be recorded, or shards that cannot be read."""


@dataclass(frozen=True)
class Text:
    """One text to read: `text_id` finds it again; special tokens stand in it as text. Of one that goes on from another
    only what begins at `start` or later is recorded: the rest is read for it, and is there already.
    """

    text_id: str
    text: str
    start: int = 0  # character
    ids: tuple[int, ...] | None = None  # its tokens, where a model wrote just these; None: as the tokenizer cuts it

    @property
    def digest(self) -> str:
        return stable_id("t", self.text) if self.ids is None else stable_id("t", self.text, self.ids)


def record(
    models: Sequence["LoadedModel"],
    texts: Iterable[Text],
    folders: Mapping[int, Path],
    *,
    dtype: str = "float16",
    tokens_a_shard: int = 65_536,
    max_tokens: int = 1024,
) -> Iterator[int]:
    """Records what is missing in `folders`, which are by layer: a text is read once for all layers that lack it. Yields
    the tokens recorded so far, those of all layers, after each text that was read. Texts are cut at `max_tokens`.

    Raises ShardError for tokenizers that differ, for a folder that holds other texts, models, another layer or dtype,
    for a text that changed since it was recorded, and for values that float16 cannot hold.
    """
    from backend.crosscoder.reading import Reader

    require_one_tokenizer(models)
    recordings = {
        layer: _Recording(folder, _about(models, layer, dtype, max_tokens), tokens_a_shard)
        for layer, folder in folders.items()
    }
    readers = functools.cache(lambda *layers: [Reader(one, layers) for one in models])
    for layers, some in _groups(models[0].tokenizer, texts, recordings, max_tokens):
        streams = [reader.streams([tokens for _, tokens in some]) for reader in readers(*layers)]
        for number, (text, tokens) in enumerate(some):
            for layer in layers:
                own = _side_by_side([stream[number][layer].cpu().numpy() for stream in streams])
                recordings[layer].add(text, own, tokens.ids[tokens.first :], tokens.first)
            yield sum(recording.n_tokens for recording in recordings.values())
    for recording in recordings.values():
        recording.flush()


def _groups(
    tokenizer: Any, texts: Iterable[Text], recordings: "Mapping[int, _Recording]", max_tokens: int
) -> "Iterator[tuple[tuple[int, ...], list[tuple[Text, Tokens]]]]":
    """Neighbours that the same layers lack, and whose tokens have a beginning in common: each other text is alone."""
    from backend.crosscoder.reading import Tokens

    def cuts() -> "Iterator[tuple[tuple[int, ...], tuple[Text, Tokens]]]":
        for text in texts:
            if lacking := tuple(layer for layer, one in recordings.items() if one.lacks(text)):
                ids, first = cut(tokenizer, text, max_tokens)
                if len(ids) > first:
                    yield lacking, (text, Tokens(tuple(ids), first))

    for (layers, _), some in itertools.groupby(cuts(), key=lambda one: (one[0], one[1][1].shared or one[1][0].text_id)):
        yield layers, [of_text for _, of_text in some]


def _about(models: Sequence["LoadedModel"], layer: int, dtype: str, max_tokens: int) -> dict[str, Any]:
    about = {
        "models": [
            {"name": one.name, "revision": one.revision, "dtype": one.dtype, "model_id": one.model_id} for one in models
        ],
        "layer": layer,
        "dtype": _known(dtype),
        "width": max(one.d_model for one in models),
        "max_tokens": max_tokens,
    }
    if len({one.d_model for one in models}) > 1:
        about["widths"] = [one.d_model for one in models]
    return about


class _Recording:
    """The folder of one layer, while it is written."""

    def __init__(self, folder: Path, about: dict[str, Any], tokens_a_shard: int) -> None:
        _begin(folder, about)
        lines = _lines(folder)
        self.n_tokens = sum(line["n_tokens"] for line in lines)
        self._folder, self._dtype, self._enough = folder, about["dtype"], tokens_a_shard
        self._done = {text: digest for line in lines for text, digest in line["texts"]}
        self._n_shards = len(lines)
        self._pending: list[_Part] = []

    def lacks(self, text: Text) -> bool:
        if text.text_id in self._done and self._done[text.text_id] != text.digest:
            raise ShardError(
                f"{self._folder}: text {text.text_id} is not the one that was recorded under this id. Record into a new"
                " folder."
            )
        return text.text_id not in self._done

    def add(self, text: Text, streams: np.ndarray, ids: Sequence[int], first: int) -> None:
        """What the models do at `ids`, whose first one is token `first` of the text; one that is given twice counts
        once.
        """
        if not self.lacks(text):
            return
        stored = streams.astype(self._dtype)
        if not np.isfinite(stored).all():
            largest = np.abs(streams).max()
            raise ShardError(
                f"Text {text.text_id} has activations up to {largest:.3g}, which {self._dtype} cannot hold. Use"
                " float32."
            )
        self._done[text.text_id] = text.digest
        self._pending.append(_Part(text, stored, ids, first))
        self.n_tokens += len(stored)
        if sum(len(part.activations) for part in self._pending) >= self._enough:
            self.flush()

    def flush(self) -> None:
        """Writes a shard of what no shard has."""
        if self._pending:
            _write(self._folder, self._n_shards, self._pending)
            self._n_shards, self._pending = self._n_shards + 1, []


@dataclass(frozen=True)
class _Part:
    """A text of a shard."""

    text: Text
    activations: np.ndarray
    ids: Sequence[int]
    first: int


def cut(tokenizer: Any, text: Text, max_tokens: int) -> tuple[list[int], int]:
    """Ids of a text's tokens, cut, and the number of the first that is recorded: no text's first one is."""
    if text.ids is not None:
        return list(text.ids[:max_tokens]), 1
    if not text.start:
        return tokenizer(text.text, add_special_tokens=False)["input_ids"][:max_tokens], 1
    told = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
    before = sum(start < text.start for start, _ in told["offset_mapping"])
    return told["input_ids"][:max_tokens], max(1, before)


def _side_by_side(streams: Sequence[np.ndarray]) -> np.ndarray:
    """(n_tokens, n_models, largest width) of each model's (n_tokens, its width): zeros beyond a model's own."""
    width = max(stream.shape[1] for stream in streams)
    return np.stack([np.pad(stream, ((0, 0), (0, width - stream.shape[1]))) for stream in streams], axis=1)


def recorded(folder: Path) -> set[str]:
    """Ids of the texts that `folder` has, be the recording finished or not."""
    return {text for line in _lines(folder) for text, _ in line["texts"]}


def require_one_tokenizer(models: Sequence["LoadedModel"]) -> None:
    """Raises ShardError unless all models cut text into the same tokens."""
    first = models[0]
    for other in models[1:]:
        same = first.tokenizer.get_vocab() == other.tokenizer.get_vocab() and all(
            first.tokenizer(text, add_special_tokens=False)["input_ids"]
            == other.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (_PROBE, _PROBE.upper(), _PROBE[::-1])
        )
        if not same:
            raise ShardError(
                f"{first.name} and {other.name} have different tokenizers, so they cannot read the same tokens."
                " Compare a model with another that was made from it."
            )


class Shards:
    """A finished recording, opened for reading. Rows are numbered through all shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.about: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ShardError(f"{folder} has no recorded activations ({error}).") from error
        self.lines = _lines(folder)
        self._parts = [self._open(f"{line['shard']}.npy", line) for line in self.lines]
        self._tokens = [self._open(f"{line['shard']}.tokens.npy", line) for line in self.lines]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self._first_texts = np.cumsum([0, *(len(line["texts"]) for line in self.lines)])
        if not len(self):
            raise ShardError(f"{folder} has no tokens yet.")

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def n_models(self) -> int:
        return len(self.about["models"])

    @property
    def width(self) -> int:
        """The largest of the models'; `activations` are zero beyond a model's own."""
        return self.about["width"]

    @property
    def widths(self) -> tuple[int, ...] | None:
        """Of each model, where they differ."""
        return tuple(self.about["widths"]) if "widths" in self.about else None

    def activations(self, rows: np.ndarray) -> np.ndarray:
        """(n, n_models, width) float32, unscaled, in the order of `rows`."""
        found = np.empty((len(rows), self.n_models, self.width), np.float32)
        for number, here in self._by_part(rows):
            found[here] = self._parts[number].mapped()[rows[here] - self._starts[number]]
        return found

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """(n, 3) int64: number of the text in `texts()`, place of the token in it, token id."""
        found = np.empty((len(rows), 3), np.int64)
        for number, here in self._by_part(rows):
            found[here] = self._tokens[number].mapped()[rows[here] - self._starts[number]]
            found[here, 0] += self._first_texts[number]
        return found

    def texts(self) -> list[str]:
        """Ids of the texts, in the order in which `tokens` numbers them."""
        return [text for line in self.lines for text, _ in line["texts"]]

    def tokens_by_text(self) -> dict[str, int]:
        """How many of each text are recorded."""
        parts = zip(self._tokens, self.lines, strict=True)
        counts = [np.bincount(part.mapped()[:, 0], minlength=len(line["texts"])) for part, line in parts]
        return dict(zip(self.texts(), np.concatenate(counts).tolist(), strict=True))

    def rows_of(self, text_id: str) -> np.ndarray:
        """Rows of one text, in its own order. Raises ShardError for a text that was not recorded."""
        for start, line, tokens in zip(self._starts, self.lines, self._tokens, strict=False):
            names = [text for text, _ in line["texts"]]
            if text_id in names:
                return start + np.flatnonzero(tokens.mapped()[:, 0] == names.index(text_id))
        raise ShardError(f"{self.folder} has no text {text_id}. Record it first.")

    def scale(self) -> np.ndarray:
        """(n_models,) by which activations are multiplied so that their mean norm is √width, each model's own; over
        all rows, in float64.
        """
        norms = np.zeros(self.n_models)
        for part in self._parts:
            norms += np.linalg.norm(np.asarray(part.mapped(), np.float64), axis=2).sum(0)
        return np.sqrt(self.widths or self.width) * len(self) / norms

    def batches(self, size: int, seed: int, *, skip: int = 0, n: int | None = None) -> Iterator[np.ndarray]:
        """Rows, without end: each pass in another order, whole batches only. `skip` batches were seen before. Of `n`
        places among chosen rows, where not all are learned from.
        """
        n = len(self) if n is None else n
        if size > n:
            raise ShardError(
                f"{self.folder} has {n:,} tokens, fewer than one batch of {size:,}. Record more, or ask for less."
            )
        yield from batches(n, size, seed, skip=skip)

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the shard, which of `rows` lie in it)."""
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(parts):
            yield int(number), np.flatnonzero(parts == number)

    def _open(self, name: str, line: dict[str, Any]) -> "_Array":
        try:
            array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ShardError(
                f"{self.folder / name} cannot be read ({error}). Delete the folder and record again."
            ) from error
        if len(array) != line["n_tokens"]:
            raise ShardError(
                f"{self.folder / name} has {len(array)} tokens, its manifest says {line['n_tokens']}. Record again."
            )
        return _Array(self.folder / name, array.dtype, array.shape, array.offset)


@dataclass(frozen=True)
class _Array:
    """An array in a file, mapped while it is looked at: a map holds a file open, a long recording has thousands, and a
    process may have a thousand.
    """

    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def __len__(self) -> int:
        return self.shape[0]

    def mapped(self) -> np.ndarray:
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


def batches(n: int, size: int, seed: int, *, skip: int = 0) -> Iterator[np.ndarray]:
    """Rising places of `size` among `n`, which is no less, without end: each pass in another order, whole batches only.
    `skip` batches were seen before.
    """
    a_pass = n // size
    for turn in range(skip // a_pass, 2**63):
        order = np.random.default_rng(seed_for("shards", seed, turn)).permutation(n)
        for batch in range(skip % a_pass if turn == skip // a_pass else 0, a_pass):
            yield np.sort(order[batch * size : (batch + 1) * size])


def _known(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ShardError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    return dtype


def _begin(folder: Path, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "about.json"
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if different := [key for key in about if found.get(key) != about[key]]:
            raise ShardError(f"{folder} was recorded with another {', '.join(different)}. Record into a new folder.")
        return
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(about, indent=1), encoding="utf-8")
    os.replace(temporary, file)


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The manifest; a last line that was cut off by a kill counts as not written."""
    file = folder / "manifest.jsonl"
    if not file.is_file():
        return []
    whole = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole]


def _write(folder: Path, number: int, parts: Sequence[_Part]) -> None:
    name = f"{number:06d}"
    tokens = np.concatenate(
        [
            np.stack(
                [np.full(len(part.ids), text), np.arange(part.first, part.first + len(part.ids)), part.ids], axis=1
            )
            for text, part in enumerate(parts)
        ]
    )
    activations = np.concatenate([part.activations for part in parts])
    for array_name, array in ((f"{name}.npy", activations), (f"{name}.tokens.npy", tokens.astype(np.int32))):
        with open(folder / (array_name + ".tmp"), "wb") as handle:
            np.save(handle, array, allow_pickle=False)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(folder / (array_name + ".tmp"), folder / array_name)
    line = {
        "shard": name,
        "n_tokens": len(activations),
        "texts": [[part.text.text_id, part.text.digest] for part in parts],
    }
    file = folder / "manifest.jsonl"
    kept = "".join(json.dumps(known) + "\n" for known in _lines(folder))
    temporary = file.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(kept + json.dumps(line) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)
