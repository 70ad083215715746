"""What people call the features of a dictionary: every label ever given, with author and time; the newest counts.

Labels are a file of their own beside the study (`labels.jsonl` in its folder, `NAME.labels.jsonl` beside a portable
NAME.duckdb), one JSON record a line, appended whole and never changed, so that nobody's label is lost, whoever is
writing to the study.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from backend import faults
from backend.errors import AnchorscopeError
from backend.store import lines

LONGEST_LABEL, LONGEST_AUTHOR = 300, 80
_COLUMNS = ["dictionary_id", "feature", "label", "author", "created_at"]


class LabelError(AnchorscopeError):
    """A label that cannot be kept, or a damaged file of labels."""


def file_of(study: Path) -> Path:
    """Where the labels of a study (a folder or a portable file) are kept; it need not exist."""
    return lines.beside(study, "labels")


def add_label(study: Path, dictionary_id: str, feature: int, label: str, author: str) -> None:
    """Keep a label; an empty one takes the last back.
    Raises LabelError for a text that is too long or has no author."""
    label, author = " ".join(label.split()), " ".join(author.split())
    if not author:
        raise LabelError("A label needs its author: say who you are.")
    for name, text, longest in (("label", label, LONGEST_LABEL), ("author", author, LONGEST_AUTHOR)):
        if len(text) > longest:
            raise LabelError(f"The {name} has {len(text)} characters, at most {longest} are kept. Shorten it.")
    record = {
        "dictionary_id": dictionary_id,
        "feature": feature,
        "label": label,
        "author": author,
        "created_at": lines.now(),
    }
    try:
        lines.append(file_of(study), record)
    except OSError as error:
        raise LabelError(f"The label was not kept. {faults.in_words(error)}") from error


def labels(study: Path, dictionary_id: str) -> pd.DataFrame:
    """The label in force of each feature that has one: feature, label, author, created_at, sorted by feature."""
    newest = history(study, dictionary_id).groupby("feature", as_index=False).last()
    return newest[newest["label"] != ""].drop(columns="dictionary_id").reset_index(drop=True)


def history(study: Path, dictionary_id: str) -> pd.DataFrame:
    """Every label given to features of the dictionary, oldest first. Lines that are no labels are left out."""
    given = (record for record in lines.read(file_of(study)) if _is_label(record))
    records = [record for record in given if record["dictionary_id"] == dictionary_id]
    return pd.DataFrame(records, columns=_COLUMNS)


def _is_label(record: dict[str, Any]) -> bool:
    return (
        set(record) == set(_COLUMNS)
        and type(record["feature"]) is int
        and 0 <= record["feature"] < 2**31
        and all(isinstance(record[name], str) for name in _COLUMNS if name != "feature")
    )
