"""A study on disk: immutable unit files and the manifest that says which of them count.

1. A finished unit of work becomes one Parquet file a table: written under a temporary name, fsync, rename, fsync of the
   folder.
2. Then one line in `manifest.jsonl`, fsync. The line makes the unit exist; a file without a line never counts.
3. Work left to do is the units without a line: nothing else remembers progress. A line cut by a crash is dropped, its
   unit redone.
4. Lines are never rewritten. `retire` hides units that the study no longer asks for, `restore` brings them back. `lost`
   records files that were read and found damaged, or that alone are missing, so that their units are computed again;
   where their files are whole again before that (a backup, a disk that is back), `found` makes them count as before.
5. A file that cannot be read is not damaged. Whatever the system says (no permission, a disk that is gone, a fault of
   the drive, a folder where not one of the files is), the work stops with a sentence and nothing is recorded.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from backend import faults
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.plain import plain_line
from backend.schema.tables import SCHEMA_VERSION, TABLES
from backend.store.state import parsed, record

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table


class StudyBusy(AnchorscopeError):
    """Another process is writing to the study."""


class DamagedFile(AnchorscopeError):
    """A unit file was read and does not hold what its manifest line says, or is no longer where others of the study
    are.
    """


class MissingFile(DamagedFile):
    """A unit file is no longer there, though others of the study are."""


class UnreadableFile(AnchorscopeError):
    """The machine does not let unit files be read: nothing is known of them, and nothing is recorded."""


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
    rule: int = 1  # of its stage, when it was computed


@dataclass
class Holder:
    """Who is writing to a study."""

    pid: int
    host: str
    command: str
    since: str  # UTC


@dataclass
class Ledger:
    """What the manifest says now: the units that count, in the order they were finished."""

    live: dict[tuple[str, str], UnitLine] = field(default_factory=dict)
    retired: dict[tuple[str, str], UnitLine] = field(default_factory=dict)
    lost: dict[tuple[str, str], UnitLine] = field(
        default_factory=dict
    )  # work to do again, unless their files come back

    def keys(self, stage: str) -> set[str]:
        return {key for of, key in self.live if of == stage}

    def rules(self) -> dict[str, int]:
        """By stage, the oldest rule that made a unit which counts."""
        found: dict[str, int] = {}
        for line in self.live.values():
            found[line.stage] = min(line.rule, found.get(line.stage, line.rule))
        return found

    def all_keys(self, stage: str) -> set[str]:
        """Those that do not count now, too."""
        return {key for lines in (self.live, self.retired, self.lost) for of, key in lines if of == stage}

    def apply(self, record: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError, AttributeError or ValueError for a record that is none of ours."""
        if record["kind"] == "unit":
            files = tuple(
                UnitFile(str(file["table"]), str(file["name"]), str(file["sha256"]), int(file["rows"]))
                for file in record["files"]
            )
            schema, rule = int(record["schema"]), int(record.get("rule", 1))
            line = UnitLine(str(record["stage"]), str(record["key"]), files, schema, rule)
            self.retired.pop((line.stage, line.key), None)
            self.lost.pop((line.stage, line.key), None)
            self.live[line.stage, line.key] = line
            return
        source, target = {
            "retire": (self.live, self.retired),
            "restore": (self.retired, self.live),
            "lost": (self.live, self.lost),
            "found": (self.lost, self.live),
        }[record["kind"]]
        for key in record["keys"]:
            if (record["stage"], key) in source:
                target[record["stage"], key] = source.pop((record["stage"], key))


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
            for number, line in enumerate(_whole_lines(self.manifest), start=1):
                try:
                    ledger.apply(parsed(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DamagedFile(
                        f"{self.manifest}, line {number}: not a record of a unit ({plain_line(str(error), 100)})."
                        " Restore the file from a copy, or delete this line: its unit is then computed again."
                    ) from error
        return ledger

    def read(self, file: UnitFile) -> pa.Table:
        """The rows of one unit file, checked against the sha256 of its manifest line.

        Raises DamagedFile for content that is not that, MissingFile where there is none, UnreadableFile for all that
        the machine does.
        """
        path = self.path / file.name
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            if not path.parent.is_dir():
                raise UnreadableFile(
                    f"The folder {path.parent} is gone: is its disk mounted, or was it moved? Nothing was recorded."
                    " Bring it back and run the same command again; an empty folder there means that its files are"
                    " lost and are to be computed anew."
                ) from error
            raise MissingFile(f"{path} is missing; run the same command again to compute its unit anew.") from error
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error) from error
        if hashlib.sha256(raw).hexdigest() != file.sha256:
            raise DamagedFile(
                f"{path} is damaged: its sha256 is not the one in the manifest; run the same command again."
            )
        return pq.ParquetFile(pa.BufferReader(raw), page_checksum_verification=True).read(use_threads=False)

    def require_files(self, lines: Collection[UnitLine]) -> None:
        """Raises UnreadableFile where not one of the files of `lines` is there: that is a disk that is gone, not so
        many lost files.
        """
        names = [file.name for line in lines for file in line.files]
        try:
            there = not names or any((self.path / name).exists() for name in names)
        except OSError as error:
            raise _unreadable(self.path / "units", error) from error
        if not there:
            raise UnreadableFile(
                f"Not one of the {len(names):,} files that {self.manifest} names is in {self.path / 'units'}: is its"
                " disk mounted, or was the folder moved? Nothing was changed. Bring it back and run the same command"
                f" again. Where it was deleted on purpose, delete {self.manifest} too: then everything is computed"
                " anew."
            )

    def manifest_bytes(self) -> int:
        """Bytes of the manifest's whole lines. They only grow, so the number says whether anything was added."""
        return self.manifest.read_bytes().rfind(b"\n") + 1 if self.manifest.exists() else 0

    @contextlib.contextmanager
    def writing(self, command: str, *, wait: bool = False, patience: float = 0.0) -> Iterator["Writer"]:
        """The study, held by this process alone. Raises StudyBusy naming the holder, or waits for it when `wait`.

        `patience` is how many seconds pass in silence before either.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.lock, "ab+") as handle:
            _take_lock(handle, self, wait, patience)
            with contextlib.suppress(OSError):  # who holds it is for people; the lock holds without (a full disk, say)
                os.ftruncate(handle.fileno(), 0)
                os.write(
                    handle.fileno(),
                    json.dumps(vars(Holder(os.getpid(), socket.gethostname(), command, _now()))).encode(),
                )
            _drop_torn_line(self.manifest)
            try:
                yield Writer(self)
            finally:
                with contextlib.suppress(OSError):  # what ended the work comes first
                    os.ftruncate(handle.fileno(), 0)

    def holder(self) -> dict[str, Any] | None:
        """Who is writing now (pid, host, command, since; empty where that is unknown), or None: also where the lock
        cannot be read.
        """
        try:
            with open(self.lock, "rb") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _holder_record(handle)
        except OSError:
            return None
        return None


class Writer:
    """Adds finished units to a study that this process holds."""

    def __init__(self, folder: StudyFolder):
        self.folder = folder
        self.ledger = folder.ledger()
        folder.require_files(self.ledger.live.values())
        self.found = self._find_again()

    def add(
        self,
        stage: str,
        key: str,
        tables: Mapping[str, Rows],
        *,
        provenance: Mapping[str, Any] | None = None,
        rule: int = 1,
    ) -> None:
        """Make one finished unit part of the study; when this returns it survives a kill and a power cut. A unit of the
        same key counts until then: the new files stand beside its own.

        `tables` maps table names to rows (dicts or an Arrow table) with exactly the schema's columns; `provenance`
        travels in each file's metadata (model revision, dtype, seed, hash of the inputs); `rule` is the stage's.
        """
        files = [self._write(stage, key, name, rows, provenance or {}) for name, rows in tables.items()]
        self._append(
            {
                "kind": "unit",
                "stage": stage,
                "key": key,
                "schema": SCHEMA_VERSION,
                "rule": rule,
                "at": _now(),
                "files": [vars(file) for file in files],
            }
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

    def _find_again(self) -> list[UnitLine]:
        """Units that were lost and whose files are whole: from now on they count again."""
        found = [line for line in self.ledger.lost.values() if self._is_whole(line)]
        for line in found:
            self._append({"kind": "found", "stage": line.stage, "keys": [line.key]})
        return found

    def _is_whole(self, line: UnitLine) -> bool:
        try:
            for file in line.files:
                self.folder.read(file)
        except (DamagedFile, UnreadableFile, pa.ArrowException):
            return False
        return True

    def forget(self, lines: Sequence[UnitLine]) -> None:
        """Record that the files of these units are damaged or missing, so that the units are work to do again."""
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
            with contextlib.suppress(OSError):  # what ended the writing comes first
                temporary.unlink(missing_ok=True)
        _sync_folder(folder)
        return UnitFile(table, path.relative_to(self.folder.path).as_posix(), digest, data.num_rows)

    def _append(self, line: Mapping[str, Any]) -> None:
        new = not self.folder.manifest.exists()
        with open(self.folder.manifest, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        if new:
            _sync_folder(self.folder.path)
        self.ledger.apply(line)


def arrow_rows(table: str, rows: Rows) -> pa.Table:
    """Rows as an Arrow table with exactly the schema's columns.

    Raises AnchorscopeError naming missing or unknown columns.
    """
    wanted = TABLES[table].arrow
    found = set(rows.column_names) if isinstance(rows, pa.Table) else {name for row in rows for name in row}
    if (isinstance(rows, pa.Table) or rows) and found != set(wanted.names):
        missing, unknown = sorted(set(wanted.names) - found), sorted(found - set(wanted.names))
        raise AnchorscopeError(f"rows for table {table}: missing columns {missing}, unknown columns {unknown}")
    if isinstance(rows, pa.Table):
        return rows.select(wanted.names).cast(wanted)
    try:
        return pa.table(
            {
                name: pa.array([row[name] for row in rows], wanted.field(name).type, from_pandas=True)
                for name in wanted.names
            },
            schema=wanted,
        )
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise AnchorscopeError(f"rows for table {table} do not fit its columns: {error}") from error


def _whole_lines(manifest: Path) -> Iterator[bytes]:
    """Lines of the manifest. The last may be cut by a crash (no newline yet) and does not count."""
    yield from manifest.read_bytes().split(b"\n")[:-1]


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
                raise StudyBusy(
                    f"{folder.path} is being written by {by}. Wait for it, or add --wait to start when it is done."
                ) from None
            if not announced:
                print(plain_line(f"waiting: {folder.path} is being written by {by}"), file=sys.stderr)
                announced = True
            time.sleep(0.5)


def _holder_record(handle: IO[bytes]) -> dict[str, Any]:
    handle.seek(0)
    holder = record(handle.read(1 << 16), Holder)
    return {} if holder is None else vars(holder)


def _describe(holder: Mapping[str, Any]) -> str:
    if not holder:
        return "another process"
    return plain_line(f"process {holder['pid']} on {holder['host']} ({holder['command']}, since {holder['since']} UTC)")


def _unreadable(path: Path, error: BaseException) -> UnreadableFile:
    return UnreadableFile(f"{path} cannot be read: {faults.in_words(error)} Nothing was recorded about it.")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
