"""What somebody typed: part of the selection, and so of every link, where it is short enough; else this browser's
session keeps it.

A text that is too long for a link is named there by its digest alone: whoever opens that link elsewhere is told what is
not there.
"""

import streamlit as st

from app.shell import selection
from app.shell.fields import Field
from backend.ids import stable_id

_LONG = "~"  # begins the name of a text that the session keeps
_TEXTS = "typed_texts"


def keep(field: Field, words: str | None) -> None:
    """Make it the selection's text under `field`; None or nothing forgets what was there."""
    selection.choose({field: value(words)})


def value(words: str | None) -> str | None:
    """What the selection has for it: the words, or the name under which this session keeps them."""
    if not words:
        return None
    if len(words) <= selection.LONGEST and not words.startswith(_LONG):
        return words
    name = _LONG + stable_id("t", words)
    st.session_state.setdefault(_TEXTS, {})[name] = words
    return name


def read(field: Field) -> str | None:
    """The text, None where there is none. One that only another session has is forgotten, and noted."""
    said = selection.get(field)
    if said is None or not said.startswith(_LONG):
        return said
    words = st.session_state.get(_TEXTS, {}).get(said)
    if words is None:
        selection.forget_unknown(field)
    return words


def beyond_a_link(*fields: Field) -> str | None:
    """A sentence where one of these texts is too long for a link; None where a link brings them all along."""
    lengths = [len(read(field) or "") for field in fields if (selection.get(field) or "").startswith(_LONG)]
    if not lengths:
        return None
    return (
        f"This text is too long for a link ({max(lengths):,} characters; at most {selection.LONGEST:,} fit): a link to"
        " this page opens without it. It stays here as long as this browser tab is open."
    )
