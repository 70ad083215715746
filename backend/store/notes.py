"""Notes, stars and corrected tags that people give to chunks and features, with who and when: lines of a file beside
the study (`lines`).

1. Each is given to one thing by its id: to a chunk, or to a feature of a dictionary.
2. Of one thing and kind the newest line counts, whoever wrote it; an empty one takes the last back. All are kept.
3. A chunk's line has the digest of the text that it was given to. Where the chunk is cut anew and has another text,
   the line is still shown, as of another text, and counts for nothing.
4. Nothing that was computed changes: a corrected tag stands beside the computed ones.
"""

import getpass
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backend import faults
from backend.errors import AnchorscopeError
from backend.store import lines

NOTE, STAR, TAG = "note", "star", "tag"  # kinds
STARRED = "yes"
LONGEST_NOTE, LONGEST_AUTHOR = 4000, 80
_COLUMNS = ["of", "name", "text", "kind", "value", "author", "created_at"]


class NoteError(AnchorscopeError):
    """A note, a star or a corrected tag that cannot be kept."""


@dataclass(frozen=True)
class Thing:
    """What something is said of."""

    of: str  # chunk or feature
    name: str  # its id
    text: str = ""  # digest of a chunk's text

    @property
    def kinds(self) -> tuple[str, ...]:
        return (NOTE, STAR, TAG) if self.of == "chunk" else (NOTE, STAR)


def chunk(chunk_id: str, text: str) -> Thing:
    return Thing("chunk", chunk_id, hashlib.sha256(text.encode(errors="replace")).hexdigest())


def feature(dictionary_id: str, number: int) -> Thing:
    return Thing("feature", f"{dictionary_id}:{number}")


def file_of(study: Path) -> Path:
    return lines.beside(study, "notes")


def usual_author() -> str:
    """What the system calls who runs this; empty where it has no name for them."""
    try:
        return getpass.getuser()[:LONGEST_AUTHOR]
    except (OSError, KeyError, ImportError):
        return ""


def why_not_kept(study: Path) -> str | None:
    """What to do so that something can be kept here; None where nothing is known that would prevent it."""
    return lines.why_not_kept(file_of(study))


def give(study: Path, thing: Thing, kind: str, value: str, author: str) -> None:
    """Keep a note, a star (`STARRED`) or a corrected tag; an empty value takes the last back. What is in force already
    is not kept again.

    Raises NoteError for what is none, without an author, and where nothing can be written.
    """
    value, author = value.strip(), " ".join(author.split())
    if not author:
        raise NoteError("A note needs its author: say who you are.")
    if not _is_taken(thing, kind, value):
        raise NoteError(f"“{value[:80]}” is no {kind} of a {thing.of}.")
    for what, text, longest in (("note", value, LONGEST_NOTE), ("author", author, LONGEST_AUTHOR)):
        if len(text) > longest:
            raise NoteError(f"The {what} has {len(text)} characters, at most {longest} are kept. Shorten it.")
    if value == in_force(study, thing).get(kind, ""):
        return
    said = {"of": thing.of, "name": thing.name, "text": thing.text, "kind": kind, "value": value, "author": author}
    try:
        lines.append(file_of(study), said | {"created_at": lines.now()})
    except OSError as error:
        why = why_not_kept(study) or faults.in_words(error) or str(error)
        raise NoteError(f"The {kind} was not kept. {why}") from error


def history(study: Path, thing: Thing) -> pd.DataFrame:
    """All that was said of the thing, oldest first: kind, value, author, created_at, and `is_current`, which what was
    said of another text of the chunk is not.
    """
    given = everything(study)
    own = given[(given["of"] == thing.of) & (given["name"] == thing.name)]
    return own[["kind", "value", "author", "created_at"]].assign(is_current=own["text"] == thing.text)


def in_force(study: Path, thing: Thing) -> dict[str, str]:
    """What counts of the thing: by kind, none that is empty."""
    given = history(study, thing)
    newest = given[given["is_current"]].groupby("kind")["value"].last()
    return {str(kind): str(value) for kind, value in newest.items() if value}


def counting(study: Path, of: str) -> pd.DataFrame:
    """One row a thing of which anything counts: name, text (its digest), note, star and tag, missing where none."""
    given = everything(study)
    newest = given[given["of"] == of].groupby(["name", "text", "kind"], as_index=False)["value"].last()
    wide = newest[newest["value"] != ""].pivot(index=["name", "text"], columns="kind", values="value")
    return wide.reindex(columns=[NOTE, STAR, TAG]).reset_index().rename_axis(columns=None)


def of_features(study: Path, dictionary_id: str) -> pd.DataFrame:
    """One row a feature of the dictionary of which anything counts: feature, note, star."""
    found = counting(study, "feature")
    own = found[found["name"].str.rpartition(":")[0] == dictionary_id] if len(found) else found
    numbers = [int(name.rpartition(":")[2]) for name in own["name"]]
    return own[[NOTE, STAR]].assign(feature=pd.array(numbers, dtype="int64")).reset_index(drop=True)


def everything(study: Path) -> pd.DataFrame:
    """Every line, oldest first. Those that say nothing are left out."""
    return pd.DataFrame([record for record in lines.read(file_of(study)) if _is_one(record)], columns=_COLUMNS)


def stamp(study: Path) -> tuple[int, int]:
    """Another one whenever something was said since."""
    return lines.stamp(file_of(study))


def _is_taken(thing: Thing, kind: str, value: str) -> bool:
    """Whether it may be said of the thing. Which tags there are is known to who offers them."""
    if kind not in thing.kinds:
        return False
    is_one = {STAR: value == STARRED, TAG: re.fullmatch(r"[a-z][a-z0-9_]{0,59}", value) is not None}
    return not value or is_one.get(kind, True)


def _is_one(record: dict[str, Any]) -> bool:
    if set(record) != set(_COLUMNS) or not all(isinstance(record[name], str) for name in _COLUMNS):
        return False
    thing = Thing(record["of"], record["name"])
    if thing.of == "feature" and not re.fullmatch(r".+:[0-9]{1,9}", thing.name, re.ASCII | re.DOTALL):
        return False
    return thing.of in ("chunk", "feature") and _is_taken(thing, record["kind"], record["value"])
