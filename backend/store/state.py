"""Small JSON files that say what goes on: progress, who holds a lock, what lies in a pack.

Nothing is decided by them that would be lost with them, and anything may stand in them: nothing, half a record, another
program's bytes, a million brackets, words where numbers belong. Whoever reads them gets a whole record of the right
types, or none.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
_LARGEST = 1 << 20  # bytes; ours have a few hundred


def parsed(raw: bytes | str) -> Any:
    """The JSON value in `raw`.

    Raises ValueError for whatever is none, a text nested without end and an Infinity among them.
    """
    try:
        return json.loads(raw, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def record_in(path: Path, of: type[T]) -> T | None:
    """The dataclass that the file holds; None where there is none, it cannot be read, or it holds anything else."""
    try:
        if not path.is_file():  # a pipe of that name would never end
            return None
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError:
        return None
    return None if len(raw) > _LARGEST else record(raw, of)


def record(raw: bytes | str, of: type[T]) -> T | None:
    """As `record_in`, of the file's content."""
    try:
        return TypeAdapter(of).validate_json(raw, strict=True)
    except ValidationError:
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
