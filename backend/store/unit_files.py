"""A study on disk: immutable unit files and the manifest that says which of them count.

1. A finished unit of work becomes one Parquet file a table: written under a temporary name, fsync, rename, fsync of the folder.
2. Then one line in `manifest.jsonl`, fsync. The line makes the unit exist; a file without a line never counts.
3. Work left to do is the units without a line: nothing else remembers progress. A line cut by a crash is dropped, its unit redone.
4. Lines are never rewritten. `retire` hides units that the study no longer asks for, `restore` brings them back, `lost` records files that
   were found damaged, so that their units are computed again.

One process writes at a time (a lock on the folder); any number read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.store.schema import SCHEMA_VERSION, TABLES

Rows = Sequence[Mapping[str, Any]] | pa.Table


class StudyBusy(AnchorscopeError):
    """Another process is writing to the study."""


class DamagedFile(AnchorscopeError):
    """A unit file is missing or does not hold what its manifest line says."""


@dataclass(frozen=True)
class UnitFile:
    """One table of one unit. `name` is relative to the study folder."""

    table: str
    name: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class UnitLine:
    """One line of the manifest: a finished unit, identified by `key` within its stage."""

    stage: str
    key: str
    files: tuple[UnitFile, ...]
    schema: int


@dataclass
class Ledger:
    """What the manifest says now: the units that count, in the order they were finished."""

    live: dict[tuple[str, str], UnitLine] = field(default_factory=dict)
    retired: dict[tuple[str, str], UnitLine] = field(default_factory=dict)

    def keys(self, stage: str) -> set[str]:
        return {key for of, key in self.live if of == stage}

    def apply(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "unit":
            files = tuple(UnitFile(**file) for file in record["files"])
            line = UnitLine(record["stage"], record["key"], files, record["schema"])
            self.retired.pop((line.stage, line.key), None)
            self.live[line.stage, line.key] = line
            return
        for key in record["keys"]:
            name = (record["stage"], key)
            source, target = (self.retired, self.live) if record["kind"] == "restore" else (self.live, self.retired)
            line = source.pop(name, None)
            if line is not None and record["kind"] != "lost":
                target[name] = line


class StudyFolder:
    """Paths and reading of one study; `writing()` gives the right to add to it."""

    def __init__(self, path: Path | str, *, manifest: str = "manifest.jsonl"):
        self.path = Path(path)
        self.manifest = self.path / manifest
        self.generations = self.path / "generations"
        self.pointer = self.path / "CURRENT"
        self.lock = self.path / "lock"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def ledger(self) -> Ledger:
        ledger = Ledger()
        if self.manifest.exists():
            for record in _whole_lines(self.manifest):
                ledger.apply(record)
        return ledger

    def read(self, file: UnitFile) -> pa.Table:
        """The rows of one unit file, checked against the sha256 of its manifest line. Raises DamagedFile."""
        path = self.path / file.name
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DamagedFile(f"{path} cannot be read ({error.strerror}); run the same command again to compute its unit anew.") from error
        if hashlib.sha256(raw).hexdigest() != file.sha256:
            raise DamagedFile(f"{path} is damaged: its sha256 is not the one in the manifest; run the same command again.")
        return pq.read_table(pa.BufferReader(raw), page_checksum_verification=True)

    def manifest_bytes(self) -> int:
        """Bytes of the manifest's whole lines. They only grow, so the number says whether anything was added."""
        return self.manifest.read_bytes().rfind(b"\n") + 1 if self.manifest.exists() else 0

    @contextlib.contextmanager
    def writing(self, command: str, *, wait: bool = False, patience: float = 0.0) -> Iterator["Writer"]:
        """The study, held by this process alone. Raises StudyBusy naming the holder, or waits for it when `wait`.

        `patience` is how many seconds pass in silence before either.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.lock, "a+", encoding="utf-8") as handle:
            _take_lock(handle, self, wait, patience)
            handle.seek(0)
            handle.truncate()
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": _now()}, handle)
            handle.flush()
            _drop_torn_line(self.manifest)
            try:
                yield Writer(self)
            finally:
                handle.seek(0)
                handle.truncate()
                handle.flush()

    def holder(self) -> dict[str, Any] | None:
        """Who is writing now (pid, host, command, since), or None."""
        if not self.lock.exists():
            return None
        with open(self.lock, encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder_record(handle)
            return None


class Writer:
    """Adds finished units to a study that this process holds."""

    def __init__(self, folder: StudyFolder):
        self.folder = folder
        self.ledger = folder.ledger()

    def add(self, stage: str, key: str, tables: Mapping[str, Rows], *, provenance: Mapping[str, Any] | None = None) -> None:
        """Make one finished unit part of the study; when this returns it survives a kill and a power cut. A unit of the same key counts
        until then: the new files stand beside its own.

        `tables` maps table names to rows (dicts or an Arrow table) with exactly the schema's columns; `provenance` travels in each
        file's metadata (model revision, dtype, seed, hash of the inputs).
        """
        files = [self._write(stage, key, name, rows, provenance or {}) for name, rows in tables.items()]
        self._append(
            {"kind": "unit", "stage": stage, "key": key, "schema": SCHEMA_VERSION, "at": _now(), "files": [vars(file) for file in files]}
        )

    def keep_only(self, stage: str, wanted: set[str]) -> tuple[int, int]:
        """Retire the stage's units outside `wanted` and restore retired ones inside it; returns (retired, restored)."""
        surplus = sorted(self.ledger.keys(stage) - wanted)
        back = sorted(key for of, key in self.ledger.retired if of == stage and key in wanted)
        if surplus:
            self._append({"kind": "retire", "stage": stage, "keys": surplus})
        if back:
            self._append({"kind": "restore", "stage": stage, "keys": back})
        return len(surplus), len(back)

    def forget(self, lines: Sequence[UnitLine]) -> None:
        """Record that the files of these units are damaged, so that the units are work to do again."""
        for line in lines:
            self._append({"kind": "lost", "stage": line.stage, "keys": [line.key]})

    def _write(self, stage: str, key: str, table: str, rows: Rows, provenance: Mapping[str, Any]) -> UnitFile:
        data = arrow_rows(table, rows)
        metadata = {"schema_version": SCHEMA_VERSION, "stage": stage, "key": key, **provenance}
        data = data.replace_schema_metadata({"anchorscope": json.dumps(metadata, sort_keys=True)})
        folder = self.folder.path / "units" / stage
        if not folder.exists():
            folder.mkdir(parents=True)
            _sync_folder(folder.parent)
        name = stable_id("u", stage, key)
        temporary = folder / f"{name}.{table}.tmp"
        try:
            pq.write_table(data, temporary, compression="zstd", write_page_checksum=True)
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            path = folder / f"{name}-{digest[:8]}.{table}.parquet"
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(folder)
        return UnitFile(table, path.relative_to(self.folder.path).as_posix(), digest, data.num_rows)

    def _append(self, record: Mapping[str, Any]) -> None:
        new = not self.folder.manifest.exists()
        with open(self.folder.manifest, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        if new:
            _sync_folder(self.folder.path)
        self.ledger.apply(record)


def arrow_rows(table: str, rows: Rows) -> pa.Table:
    """Rows as an Arrow table with exactly the schema's columns. Raises AnchorscopeError naming missing or unknown columns."""
    wanted = TABLES[table].arrow
    found = set(rows.column_names) if isinstance(rows, pa.Table) else {name for row in rows for name in row}
    if (isinstance(rows, pa.Table) or rows) and found != set(wanted.names):
        missing, unknown = sorted(set(wanted.names) - found), sorted(found - set(wanted.names))
        raise AnchorscopeError(f"rows for table {table}: missing columns {missing}, unknown columns {unknown}")
    if isinstance(rows, pa.Table):
        return rows.select(wanted.names).cast(wanted)
    try:
        return pa.table(
            {name: pa.array([row[name] for row in rows], wanted.field(name).type, from_pandas=True) for name in wanted.names}, schema=wanted
        )
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise AnchorscopeError(f"rows for table {table} do not fit its columns: {error}") from error


def _whole_lines(manifest: Path) -> Iterator[dict[str, Any]]:
    """Records of the manifest. The last line may be cut (no newline yet); any other unreadable line is damage."""
    raw = manifest.read_bytes()
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DamagedFile(
                f"{manifest}, line {number}: not a JSON record ({error}). Restore the file from a copy, or delete this "
                "line: its unit is then computed again."
            ) from error


def _drop_torn_line(manifest: Path) -> None:
    """Cut a last line that a crash left without its newline, so that the next line starts clean."""
    if not manifest.exists():
        return
    raw = manifest.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole != len(raw):
        with open(manifest, "r+b") as handle:
            handle.truncate(whole)
            os.fsync(handle.fileno())


def _take_lock(handle: Any, folder: StudyFolder, wait: bool, patience: float) -> None:
    announced, patient_until = False, time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < patient_until:
                time.sleep(0.01)
                continue
            by = _describe(_holder_record(handle))
            if not wait:
                raise StudyBusy(f"{folder.path} is being written by {by}. Wait for it, or add --wait to start when it is done.") from None
            if not announced:
                print(f"waiting: {folder.path} is being written by {by}", file=sys.stderr)
                announced = True
            time.sleep(0.5)


def _holder_record(handle: Any) -> dict[str, Any]:
    handle.seek(0)
    try:
        return json.load(handle)
    except ValueError:
        return {}


def _describe(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder['pid']} on {holder['host']} ({holder['command']}, since {holder['since']} UTC)"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
