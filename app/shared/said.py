"""What people say of the chunk or the feature that is looked at: a note, a star, a corrected tag, with who and when."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from app.shell import keys, selection
from app.shell.data_table import data_table
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import CATEGORIES, category
from backend.errors import AnchorscopeError
from backend.store import notes
from backend.store.notes import NOTE, STAR, TAG, Thing

AUTHOR = "label_author"  # in the session: who gave the last label or note
_PROBLEM = "note_problem"
_AS_COMPUTED = ""


def in_words(given: Mapping[str, str]) -> str:
    """What counts, on one line, as text; empty where nothing does."""
    parts = [
        "★" if STAR in given else "",
        f"corrected: {category(given[TAG])}" if TAG in given else "",
        f"note: “{one_line(given[NOTE], 80)}”" if NOTE in given else "",
    ]
    return " · ".join(filter(None, parts))


def door(study: Path, thing: Thing) -> None:
    """The popover in which all of it is given and read."""
    given = notes.in_force(study, thing)
    words = "Star, note and tag" if TAG in thing.kinds else "Star and note"
    icon = ":material/star:" if STAR in given else ":material/edit_note:"
    with st.popover("Note", icon=icon, help=words, type="tertiary"):
        why = notes.why_not_kept(study)
        if why:
            show(f"Notes of this study cannot be kept: {why}")
        _form(study, thing, given, is_open=why is None)
        if problem := st.session_state.pop(_PROBLEM, None):
            show(problem)
        _history(study, thing)


def _form(study: Path, thing: Thing, given: Mapping[str, str], *, is_open: bool) -> None:
    boxes = {kind: keys.of(f"{kind}_of_{thing.name}") for kind in thing.kinds}
    author = keys.of(f"note_author_{thing.of}")
    st.session_state.setdefault(author, st.session_state.get(AUTHOR) or notes.usual_author())
    for kind, box in boxes.items():
        st.session_state.setdefault(box, STAR in given if kind == STAR else given.get(kind, ""))
    with st.form(keys.of(f"note_form_{thing.of}_{thing.name}"), border=False):
        st.toggle("Star", key=boxes[STAR])
        st.text_area("Note", key=boxes[NOTE], max_chars=notes.LONGEST_NOTE, height=120)
        if TAG in boxes:
            known = [_AS_COMPUTED, *CATEGORIES]
            own = st.session_state.get(boxes[TAG], _AS_COMPUTED)
            st.selectbox(
                "Corrected tag",
                known if own in known else [*known, own],
                format_func=_tag_words,
                key=boxes[TAG],
                help="It gives the chunk its colour; the computed tag stays beside it. A search asks by tag@corrected.",
            )
        st.text_input("Your name, kept with it", key=author, max_chars=notes.LONGEST_AUTHOR)
        st.form_submit_button("Keep", on_click=_keep, args=(study, thing, boxes, author), disabled=not is_open)


def _tag_words(tag: str) -> str:
    return category(tag) if tag else "none: the computed one"


def _keep(study: Path, thing: Thing, boxes: Mapping[str, str], author: str) -> None:
    values = {kind: value for kind, box in boxes.items() if (value := st.session_state.get(box)) is not None}
    if len(values) < len(boxes):
        return  # the form has gone meanwhile
    st.session_state[AUTHOR] = by = st.session_state.get(author) or ""
    before = notes.in_force(study, thing).get(TAG)
    try:
        for kind, value in values.items():
            notes.give(study, thing, kind, (notes.STARRED if value else "") if kind == STAR else value, by)
    except AnchorscopeError as error:
        st.session_state[_PROBLEM] = str(error)
    if notes.in_force(study, thing).get(TAG) != before:
        selection.redraw_page()  # its colour stands in other parts


def _history(study: Path, thing: Thing) -> None:
    """All that was ever said of it, the newest first."""
    given = notes.history(study, thing).iloc[::-1]
    if given.empty:
        return
    said = given["value"].where(given["value"] != "", "(taken back)")
    rows = given.assign(value=said, when=given["created_at"].str[:16].str.replace("T", " "))
    data_table(
        rows[["kind", "value", "author", "when"]].rename(columns={"when": "when (UTC)"}),
        hide_index=True,
        height="content" if len(rows) <= 8 else 260,
        row_height=28,
    )
    if not given["is_current"].all():
        show("Some of it was said of another text of this chunk, before it was cut anew; that counts for nothing.")
