"""Small files of what people say of a study, beside it: one JSON record a line, appended whole and never changed, so
that nobody's word is lost, whoever is writing to the study.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.store.state import parsed

NAMES = ("labels", "filters", "notes")  # of all such files


def beside(study: Path, name: str) -> Path:
    """Where such a file of a study is: `NAME.jsonl` in its folder, `STUDY.NAME.jsonl` beside a portable STUDY.duckdb.
    It need not exist.
    """
    is_portable = study.suffix == ".duckdb" or study.is_file()
    return study.with_suffix(f".{name}.jsonl") if is_portable else study / f"{name}.jsonl"


def stamp(file: Path) -> tuple[int, int]:
    """Another one whenever something was appended since."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def why_not_kept(file: Path) -> str | None:
    """What to do so that a line can be kept; None where nothing is known that would prevent it."""
    first = next((one for one in (file, *file.parents) if one.exists()), file)
    if os.access(first, os.W_OK):
        return None
    return (
        f"{first} is read-only for this dashboard, and it would lie in {file}. Allow writing there, or copy the study"
        " (with what lies beside it) to a folder that you may write to, and open it from there."
    )


def copy(study: Path, to: Path) -> None:
    """What people said of a study goes along with it, to another one (a folder or a portable file) or beside it."""
    for name in NAMES:
        if (file := beside(study, name)).is_file():
            shutil.copyfile(file, beside(to, name))


def now() -> str:
    """This moment, UTC."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Raises OSError."""
    line = json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n"
    with file.open("ab+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if handle.seek(0, os.SEEK_END):  # a line that a kill cut off must not swallow this one
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = b"\n" + line
        handle.write(line)
        handle.flush()
        os.fsync(handle.fileno())


def read(file: Path) -> list[dict[str, Any]]:
    """The records, oldest first. Lines that are none are left out."""
    found = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return [record for line in found if (record := _record(line)) is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = parsed(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
