"""Searches that were given a name, with who saved them and when: lines of a file beside the study (`lines`).

Of one name the newest line counts; one without a query takes the name away. Nothing is overwritten: a name that is
taken is refused.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from backend import faults
from backend.errors import AnchorscopeError
from backend.store import lines

LONGEST_NAME, LONGEST_AUTHOR = 80, 80
LEVELS = ("chunks", "cots")
_COLUMNS = ["name", "query", "level", "author", "created_at"]


class FilterError(AnchorscopeError):
    """A search that cannot be kept."""


def file_of(study: Path) -> Path:
    return lines.beside(study, "filters")


def saved(study: Path) -> pd.DataFrame:
    """One row a saved search, by name: name, query, level, author, created_at."""
    newest = {record["name"]: record for record in lines.read(file_of(study)) if _is_filter(record)}
    rows = [record for _, record in sorted(newest.items()) if record["query"]]
    return pd.DataFrame(rows, columns=_COLUMNS)


def save(study: Path, name: str, query: str, level: str, author: str) -> None:
    """Raises FilterError for a name that is none or is taken, without an author, and where nothing can be written."""
    name, author, query = " ".join(name.split()), " ".join(author.split()), query.strip()
    for what, text, longest in (("name", name, LONGEST_NAME), ("author", author, LONGEST_AUTHOR)):
        if not text:
            raise FilterError(f"A saved search needs its {what}: type one.")
        if len(text) > longest:
            raise FilterError(f"The {what} has {len(text)} characters, at most {longest} are kept. Shorten it.")
    if not query:
        raise FilterError("There is nothing to save: type a search first.")
    if name in set(saved(study)["name"]):
        raise FilterError(f"There is a saved search “{name}” already. Choose another name, or remove that one first.")
    _append(study, {"name": name, "query": query, "level": level, "author": author})


def remove(study: Path, name: str, author: str) -> None:
    """One that is not there stays so. Raises FilterError where nothing can be written."""
    if name in set(saved(study)["name"]):
        _append(study, {"name": name, "query": "", "level": LEVELS[0], "author": " ".join(author.split())})


def _append(study: Path, record: dict[str, Any]) -> None:
    try:
        lines.append(file_of(study), record | {"created_at": lines.now()})
    except OSError as error:
        raise FilterError(f"The search was not saved. {faults.in_words(error)}") from error


def _is_filter(record: dict[str, Any]) -> bool:
    return (
        set(record) == set(_COLUMNS)
        and all(isinstance(record[name], str) for name in _COLUMNS)
        and record["level"] in LEVELS
    )
