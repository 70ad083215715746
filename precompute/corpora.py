"""Texts of named corpora: data sets of the model hub, streamed file by file, or folders of the same layout.

A corpus is Parquet or JSON-lines files, those under `data/` where there is such a folder. A record is its `text`, or
the turns of its `conversations` (`value`) or `messages` (`content`), one after another. Files take turns, record by
record: where each is of another kind, as in RedPajama's sample, all kinds are there from the start. Nothing of a
corpus is ever run, and no more is fetched than is asked for.

`name@revision` pins a commit or tag; without one the newest commit is taken, and noted.
"""

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow.parquet as pq

from backend.errors import AnchorscopeError

_TURNS = {"conversations": "value", "messages": "content"}
_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz")
_ROWS = 64  # of a Parquet file, read at once


class CorpusError(AnchorscopeError):
    """A corpus that cannot be reached, or that has no texts."""


@dataclass(frozen=True)
class Corpus:
    """Where its files are; `revision` is the commit on the hub, None of a folder."""

    name: str
    files: tuple[str, ...]
    system: fsspec.AbstractFileSystem
    revision: str | None


@dataclass(frozen=True)
class Collected:
    texts: list[str]
    revision: str | None


def collected(name: str, file: Path, *, n_tokens: int, count: Callable[[str], int], longest: int) -> Collected:
    """The first texts of a corpus that have so many tokens between them, by `count`, or all that it has; each is cut
    at `longest` characters.

    They are kept in `file`, whole or not at all, and read from there the next time. Raises CorpusError.
    """
    if not file.is_file():
        corpus, so_far = find(name), 0
        temporary = file.with_suffix(".tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as kept:
            kept.write(json.dumps({"corpus": name, "revision": corpus.revision}) + "\n")
            for text in texts_of(corpus):
                if so_far >= n_tokens:
                    break
                kept.write(json.dumps({"text": text[:longest]}) + "\n")
                so_far += count(text[:longest])
            kept.flush()
            os.fsync(kept.fileno())
        if not so_far:
            raise CorpusError(f"{name} has no texts: records with text, conversations or messages were expected.")
        os.replace(temporary, file)
    head, *lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return Collected([json.loads(line)["text"] for line in lines], json.loads(head)["revision"])


def find(name: str, *, endings: tuple[str, ...] = _ENDINGS) -> Corpus:
    """The corpus of that name on the hub, or in the folder. Raises CorpusError."""
    if (folder := Path(name)).is_dir():
        return _with_files(name, str(folder.resolve()), fsspec.filesystem("file"), None, endings)
    import httpx2
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import HFValidationError

    data_set, _, pinned = name.partition("@")
    try:
        revision = HfApi().dataset_info(data_set, revision=pinned or None).sha
        return _with_files(name, f"datasets/{data_set}@{revision}", HfFileSystem(), revision, endings)
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        raise CorpusError(
            f"The corpus {name} could not be reached on the model hub ({type(error).__name__}). Check the network and"
            " the spelling, or name a folder that has its files."
        ) from error


def _with_files(
    name: str, root: str, system: fsspec.AbstractFileSystem, revision: str | None, endings: tuple[str, ...]
) -> Corpus:
    found = sorted(path for path in system.find(root) if path.endswith(endings))
    inside = [path for path in found if f"{root}/data/" in path] or found
    if not inside:
        raise CorpusError(f"{name} has none of the files that are read: {', '.join(endings)}.")
    return Corpus(name, tuple(inside), system, revision)


def texts_of(corpus: Corpus) -> Iterator[str]:
    """Texts that are not empty, the files taking turns."""
    streams = [_records(corpus, path) for path in corpus.files]
    while streams:
        for stream in list(streams):
            record = next(stream, None)
            if record is None:
                streams.remove(stream)
            elif text := _text(record):
                yield text


def _text(record: dict[str, Any]) -> str:
    """Empty where the record has none."""
    if isinstance(text := record.get("text"), str):
        return text if text.strip() else ""
    for key, said in _TURNS.items():
        if isinstance(turns := record.get(key), list):
            return "\n\n".join(str(turn[said]) for turn in turns if isinstance(turn, dict) and turn.get(said))
    return ""


def _records(corpus: Corpus, path: str) -> Iterator[dict[str, Any]]:
    with reading(corpus, path) as file:
        yield from _of_parquet(file) if path.endswith(".parquet") else _of_lines(file, path)


@contextmanager
def reading(corpus: Corpus, path: str) -> Iterator[IO[bytes]]:
    """One of the corpus's files. Raises CorpusError where it cannot be read, or the hub is gone in the middle."""
    import httpx2

    try:
        with corpus.system.open(path, "rb") as file:
            yield file
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise CorpusError(f"{path} of the corpus {corpus.name} cannot be read ({error}).") from error


def _of_parquet(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    table = pq.ParquetFile(file)
    columns = [name for name in table.schema_arrow.names if name in ("text", *_TURNS)]
    if columns:
        for batch in table.iter_batches(_ROWS, columns=columns):
            yield from batch.to_pylist()


def _of_lines(file: IO[bytes], path: str) -> Iterator[dict[str, Any]]:
    lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
    for line in lines:
        if line.strip() and isinstance(record := json.loads(line), dict):
            yield record
