"""What somebody typed: part of the selection, and so of every link, where it is short enough; else it is kept beside
the study, and a link names it by its digest.

Where it cannot be kept, this browser's session has it alone: the page says so, and whoever opens its link elsewhere is
told what is not there.
"""

from pathlib import Path

import streamlit as st

from app.shell import selection, studies
from app.shell.fields import STUDY, Field
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.store.library import Library

_LONG = "~"  # begins the name of a text that is not in the link itself
_TEXTS, _NOT_KEPT = "typed_texts", "typed_texts_not_kept"


def keep(field: Field, words: str | None) -> None:
    """Make it the selection's text under `field`; None or nothing forgets what was there."""
    selection.choose({field: value(words)})


def value(words: str | None) -> str | None:
    """What the selection has for it: the words, or the name under which they are kept."""
    if not words:
        return None
    if len(words) <= selection.LONGEST and not words.startswith(_LONG):
        return words
    name = _LONG + stable_id("t", words)
    st.session_state.setdefault(_TEXTS, {})[name] = words
    reasons = st.session_state.setdefault(_NOT_KEPT, {})
    try:
        if (study := _study()) is None:
            reasons[name] = "No study is open."
        else:
            Library(study).keep_text(words)
            reasons.pop(name, None)
    except AnchorscopeError as error:
        reasons[name] = str(error)
    return name


def read(field: Field) -> str | None:
    """The text, None where there is none. One that is kept nowhere here is forgotten, and noted."""
    said = selection.get(field)
    if said is None or not said.startswith(_LONG):
        return said
    known = st.session_state.setdefault(_TEXTS, {})
    if said not in known:
        study = _study()
        words = None if study is None else Library(study).text(said.removeprefix(_LONG))
        if words is None:
            selection.forget_unknown(field)
            return None
        known[said] = words
    return known[said]


def beyond_a_link(*fields: Field) -> str | None:
    """A sentence where one of these texts is too long for a link; None where a link brings them all along."""
    names = [name for field in fields if (name := selection.get(field) or "").startswith(_LONG)]
    lengths = [len(read(field) or "") for field in fields if selection.get(field) in names]
    if not lengths:
        return None
    too_long = f"This text is too long for a link ({max(lengths):,} characters; at most {selection.LONGEST:,} fit)"
    reasons = [why for name, why in st.session_state.get(_NOT_KEPT, {}).items() if name in names]
    if reasons:
        return (
            f"{too_long}, and it could not be kept beside the study: a link to this page opens without it. It stays"
            f" here as long as this browser tab is open. {reasons[0]}"
        )
    return f"{too_long}: it is kept beside the study, and a link to this page names it."


def _study() -> Path | None:
    """Where the open study is; None where none is open."""
    name = selection.get(STUDY)
    return None if name is None else studies.found().get(name)
