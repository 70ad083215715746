"""Which text a page reads: the chain of thought that is open, or one that somebody typed; and which of its tokens is
looked at.
"""

from dataclasses import dataclass

import streamlit as st

from app.shared import chosen_chunk, typed_text
from app.shell import keys, selection
from app.shell.fields import Field, declare
from app.shell.missing import PageEnds
from backend.ids import stable_id
from backend.live.requests import MAX_CHARS
from backend.store.store import Store

_SOURCES = {"no": "A chain of thought", "yes": "Your own text"}
TYPED = declare(Field("text_from", "source of the text", _SOURCES))
WORDS = declare(Field("typed_text", "typed text", None))
AFTER = declare(Field("typed_after", "chain whose prompt the typed text comes after", None))
TOKEN = declare(Field("token", "token", None, of="chunk"))


@dataclass(frozen=True)
class Typed:
    """A text of one's own; the prompt is empty where it comes after none."""

    prompt: str
    words: str


def choose_source() -> bool:
    """The picker of the source; whether the text is a typed one."""
    chosen = selection.pick(
        TYPED, "Text", show=_SOURCES.__getitem__, widget=st.segmented_control, required=True, then=forget_token
    )
    return chosen == "yes"


def is_typed() -> bool:
    """Whether the text is a typed one, without the picker."""
    return selection.checked(TYPED) == "yes"


def typed(store: Store, *, label: str, help: str) -> Typed:
    """What was typed, with the form for it, whose button has this label. Ends the page until there is something."""
    given, after = typed_text.read(WORDS) or "", _prompt_from(store)
    with st.form(keys.of("own_text_form")):
        words = st.text_area(
            "Text", given, height=120, max_chars=MAX_CHARS, key=keys.of(f"own_text_words_{stable_id('t', given)}")
        )
        is_after = st.toggle(
            "after the prompt of the chain of thought chosen last",
            after is not None,
            key=keys.of(f"own_text_after_{after}"),
            help=help,
        )
        if st.form_submit_button(label, type="primary"):
            if not words.strip():
                st.warning("Type a text first.")
            else:
                typed_text.keep(WORDS, words)
                cot = chosen_chunk.here(store).cot if is_after and after is None else after
                selection.choose({TOKEN: None, AFTER: cot if is_after else None})
                selection.rerun()
    if not given:
        raise PageEnds
    if said := typed_text.beyond_a_link(WORDS):
        st.caption(said)
    return Typed("" if after is None else str(store.cot_to_read(after)["prompt"].iloc[0]), given)


def _prompt_from(store: Store) -> str | None:
    """The CoT whose prompt the typed text comes after, as the selection names it: another one that is opened later
    changes nothing.
    """
    cot = selection.get(AFTER)
    if cot is None or len(store.cot_to_read(cot)):
        return cot
    selection.forget_unknown(AFTER)
    return None


def forget_token() -> None:
    selection.choose({TOKEN: None})


def token(n_tokens: int) -> int | None:
    """The selection's token, where the text has it."""
    value = selection.get(TOKEN)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 12 and int(value) < n_tokens):
        selection.forget_unknown(TOKEN)
        return None
    return int(value)
