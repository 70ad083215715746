"""JSON written by others, read with care: every fault names the file, the place in it, and what was expected."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import AnchorscopeError, stands_for_another
from backend.schema.tables import TABLES

MAX_FILE_BYTES = 256 << 20


class ImportFormatError(AnchorscopeError):
    """Data that is not in the layout it should be in; nothing of it is imported."""


@dataclass(frozen=True)
class ImportedStudy:
    """Rows for the store.

    Every row has exactly the columns of its table in `backend.schema.tables.TABLES`; `run_id` is None.
    """

    name: str
    tables: dict[str, list[dict[str, Any]]]
    warnings: list[str]  # what had to be left out, in words


@dataclass(frozen=True)
class Part:
    """One CoT of a folder, with what is wanted to read it: what an import does, and does again, as a whole."""

    part_id: str  # the same wherever the folder lies
    name: str  # as people call it
    digest: Callable[[bool], str]  # of all that `read` reads, with rollouts or without, found without parsing it
    read: Callable[[bool], ImportedStudy]  # its rows, with its rollouts or without


def row(table: str, **known: Any) -> dict[str, Any]:
    """A row with exactly the table's columns; what is not known is None."""
    columns = TABLES[table].columns
    if unknown := known.keys() - columns.keys():
        raise ValueError(f"the table {table} has no column {', '.join(sorted(unknown))}")
    return {column: known.get(column) for column in columns}


def whole(found: ImportedStudy, name: str) -> ImportedStudy:
    """What an importer read as the part `name`.

    Raises ImportFormatError for rows that no study can hold: of an unknown table or column, without a part of their
    key, and chunks that are not the text of their CoT where they say that they stand.
    """
    for table, rows in found.tables.items():
        if table not in TABLES:
            raise ImportFormatError(f"{name}: its importer gives rows of {table!r}, which is no table of a study.")
        for one in rows:
            if one.keys() != TABLES[table].columns.keys():
                raise ImportFormatError(f"{name}: its importer gives a row of {table} without exactly its columns.")
            if unknown := [column for column in TABLES[table].key if one[column] is None]:
                raise ImportFormatError(f"{name}: its importer gives a row of {table} without {', '.join(unknown)}.")
    texts = {cot["cot_id"]: cot["text"] for cot in found.tables.get("cots", ())}
    for chunk in found.tables.get("chunks", ()):
        start, end, text = chunk["char_start"], chunk["char_end"], texts.get(chunk["cot_id"])
        if text is None or start is None or end is None or text[start:end] != chunk["text"]:
            raise ImportFormatError(
                f"{name}: its importer says that chunk {chunk['chunk_index']} stands at [{start}, {end}) of its CoT,"
                f" whose text there is another; expected {chunk['text']!r:.60}."
            )
    return found


def by_cots(tables: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str | None, dict[str, list[dict[str, Any]]]]:
    """The rows by the CoT they belong to, None for those of no CoT; models and problems are with each of their CoTs."""
    cots = {cot["cot_id"]: cot for cot in tables["cots"]}
    of_chunk = {chunk["chunk_id"]: chunk["cot_id"] for chunk in tables["chunks"]}
    found: dict[str | None, dict[str, list[dict[str, Any]]]] = {cot: {} for cot in cots}
    for table, rows in tables.items():
        for one in rows:
            if table in ("models", "problems", "problem_accuracy"):
                shared = "model_id" if table == "models" else "problem_id"
                owners = [cot for cot, known in cots.items() if known[shared] == one[shared]]
            else:
                chunk = one.get("source_chunk_id") or one.get("chunk_id")
                owners = [one.get("cot_id") or of_chunk.get(chunk)]
            for owner in owners or [None]:
                found.setdefault(owner, {}).setdefault(table, []).append(one)
    return found


@dataclass(frozen=True)
class Node:
    """A value in a JSON file together with its place, such as `[3].function_tags`."""

    value: Any
    file: Path
    place: str = ""

    def fault(self, expected: str, found: str | None = None) -> ImportFormatError:
        seen = found if found is not None else f"{type(self.value).__name__} {self.value!r:.60}"
        where = f"{self.file}, at {self.place or 'the top'}"
        return ImportFormatError(
            f"{where}: expected {expected}, found {seen}. Correct the file; nothing of its CoT was imported."
        )

    def __getitem__(self, key: str) -> "Node":
        if not isinstance(self.value, dict):
            raise self.fault(f"an object with the key {key!r}")
        if key not in self.value:
            raise self.fault(f"the key {key!r}", found=", ".join(map(repr, self.value)) or "no key")
        return Node(self.value[key], self.file, f"{self.place}.{key}".lstrip("."))

    def get(self, key: str) -> "Node | None":
        """None where the key is missing or null: both mean unknown."""
        if not isinstance(self.value, dict):
            raise self.fault(f"an object that may have the key {key!r}")
        return None if self.value.get(key) is None else self[key]

    def items(self) -> list["Node"]:
        if not isinstance(self.value, list):
            raise self.fault("a list")
        return [Node(item, self.file, f"{self.place}[{i}]") for i, item in enumerate(self.value)]

    def entries(self) -> dict[str, "Node"]:
        if not isinstance(self.value, dict):
            raise self.fault("an object")
        return {key: self[key] for key in self.value}

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fault("a text")
        try:
            self.value.encode()
        except UnicodeEncodeError as fault:
            raise self.fault("a text of Unicode characters", found="half of a surrogate pair") from fault
        return self.value

    def answer(self) -> str | None:
        """A text or a number, as text; None where it is null, empty or NaN: all mean that there is none."""
        if type(self.value) in (int, float) and math.isfinite(self.value):
            return str(int(self.value)) if self.value == int(self.value) else repr(self.value)
        if self.value is None or (isinstance(self.value, float) and math.isnan(self.value)):
            return None
        return self.text() or None

    def integer(self) -> int:
        if type(self.value) is not int:
            raise self.fault("a whole number")
        return self.value

    def number(self) -> float | None:
        """A finite number; NaN, which Python's json writes for unknown, is None."""
        if type(self.value) not in (int, float) or (isinstance(self.value, float) and math.isinf(self.value)):
            raise self.fault("a finite number")
        return None if isinstance(self.value, float) and math.isnan(self.value) else float(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.fault("true or false")
        return self.value


def read_json(path: Path) -> Node:
    """The file's content.

    Too large, not UTF-8, not JSON, nested too deeply, or a key twice in one object: an ImportFormatError.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise ImportFormatError(
                f"{path}: the key {twice!r} comes twice in one object; expected every key once. Remove one of them."
            )
        return found

    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImportFormatError(
                f"{path} has {size:,} bytes; files up to {MAX_FILE_BYTES:,} are read. Is it the right file?"
            )
        raw = path.read_bytes()
        if (placeholder := stands_for_another(raw[:64])) is not None:
            raise ImportFormatError(f"{path} {placeholder}")
        return Node(json.loads(raw.decode("utf-8-sig"), object_pairs_hook=unique), path)
    except json.JSONDecodeError as fault:
        raise ImportFormatError(
            f"{path}, line {fault.lineno}, column {fault.colno}: expected JSON, but {fault.msg}. "
            "Correct the file or fetch it again; nothing of its CoT was imported."
        ) from fault
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as fault:
        raise ImportFormatError(
            f"{path} cannot be read as JSON in UTF-8: {fault}. Fetch it again; nothing of its CoT was imported."
        ) from fault
