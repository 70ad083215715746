"""The words of what is not Anchorscope's own: metrics, geometry columns and kinds of direction that somebody
registered, or whose values a notebook handed over, as the studies say them that this process has opened.

Their code may be elsewhere, or nowhere: here they have a name, a label, a unit and a meaning, and no way to be
computed. Two studies may say different words of one name; then nobody here knows whose are meant, and the name stands
for itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # of what is registered: safe in links, in the search and in SQL
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
# What could become markup or a link on a page: words of a study are somebody's text.
_MARKUP = re.compile(r"[<>\[\]`*_#$\\{}~!|&@\s]+|://|www\.")
_LONGEST = 300


@dataclass(frozen=True)
class Words:
    """What a study says of a thing of one of the kinds metric, column and direction."""

    kind: str
    name: str
    label: str
    unit: str
    meaning: str
    signed: bool  # True too where it is not known that it is never below 0
    colour: str | None
    came: str  # how its values came to be, in a sentence


_KNOWN: dict[str, dict[tuple[str, str], Words]] = {}  # by the study that says them


def learn(study: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Take in rows of the table `registered` of a study, in place of what it said before; one with a name that none of
    ours could have is passed over.
    """
    said = {}
    for row in rows:
        kind, name = str(row["kind"]), str(row["name"])
        if NAME.fullmatch(name):
            colour = row["colour"] if isinstance(row["colour"], str) and _COLOUR.fullmatch(row["colour"]) else None
            said[kind, name] = Words(
                kind,
                name,
                safe(row["own_label"]) or safe(name),
                safe(row["unit"]) or "value",
                safe(row["own_meaning"]),
                row["signed"] is None or row["signed"] is pd.NA or bool(row["signed"]),
                colour,
                _came(row),
            )
    _KNOWN[study] = said


def safe(text: object) -> str:
    """Somebody's words on one line, with a space for whatever could be markup."""
    return _MARKUP.sub(" ", text).strip()[:_LONGEST] if isinstance(text, str) else ""


def words_of(kind: str, name: str) -> Words | None:
    """None where no study that was opened here says anything of it."""
    found = {said[kind, name] for said in list(_KNOWN.values()) if (kind, name) in said}
    if len(found) < 2:
        return next(iter(found), None)
    return Words(
        kind, name, name, "value", "Studies that are open here say different things of this name.", True, None, ""
    )


def meaning_of(kind: str, name: str) -> str:
    """What it is and where it came from; or that this is not known."""
    found = words_of(kind, name)
    if found is None:
        return "Nothing here says what it is: its code is not in this process, and the study has no words of it."
    return " ".join(filter(None, (found.meaning, found.came)))


def _came(row: Mapping[str, Any]) -> str:
    digest = safe(row["sha256"])[:12]
    if row["made_by"] == "arrays":
        return f"Handed over as an array (sha256 {digest})."
    version = f", version {said}" if (said := safe(row["version"])) else ""
    return f"Computed by code that was registered in a notebook (sha256 {digest}{version}), which need not be here."
