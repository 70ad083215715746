"""Searches that people of the study saved, and a few to begin with."""

import streamlit as st

from app.browse.asked import Asked, choose_search
from app.shell import keys
from app.shell.untrusted import for_markdown, show
from backend.errors import AnchorscopeError
from backend.store import filters
from backend.store.store import Store

EXAMPLES = {  # name: query, level
    "Beyond chance": ("q <= 0.05", "chunks"),
    "Self-checking that matters": ("tag:self_checking q <= 0.05", "chunks"),
    "Doubt in wrong CoTs": ('correct:no (tag:uncertainty_management or "wait")', "chunks"),
    "Right by the reasoner, easy ones left out": ("model:reasoner correct:yes level > 1", "cots"),
}
_AUTHOR, _SAID = "filter_author", "filter_said"


def draw(store: Store, now: Asked) -> None:
    kept = filters.saved(store.path)
    with st.popover(f"Saved ({len(kept)})" if len(kept) else "Saved", icon=":material/bookmark:"):
        if said := st.session_state.pop(keys.of(_SAID), None):
            show(said)
        for number, row in enumerate(kept.itertuples()):
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                _way(f"saved_{number}", row.name, row.query, row.level, f"{row.author}, {row.created_at[:10]}")
                st.button(
                    "",
                    icon=":material/delete:",
                    help="Remove this name",
                    key=keys.of(f"saved_away_{number}"),
                    on_click=_forget,
                    args=(store, row.name, keys.of(_AUTHOR), keys.of(_SAID)),
                )
        if kept.empty:
            st.caption("None are saved yet. To begin with:")
            for number, (name, (query, level)) in enumerate(EXAMPLES.items()):
                _way(f"example_{number}", name, query, level, "")
        _form(store, now)


def _way(key: str, name: str, query: str, level: str, who: str) -> None:
    st.button(
        for_markdown(name, 60),
        help=for_markdown(f"{query} · {who}" if who else query, 400),
        key=keys.of(key),
        on_click=choose_search,
        args=(query, level),
        width="stretch",
    )


def _form(store: Store, now: Asked) -> None:
    with st.form(keys.of("save_search"), border=False):
        names = keys.of("filter_name"), keys.of(_AUTHOR)
        st.text_input("Save this search as", key=names[0], max_chars=filters.LONGEST_NAME)
        st.text_input("Your name, kept with it", key=names[1], max_chars=filters.LONGEST_AUTHOR)
        st.form_submit_button("Save", on_click=_keep, args=(store, now, *names, keys.of(_SAID)), disabled=not now.query)


def _keep(store: Store, now: Asked, name: str, author: str, said: str) -> None:
    given = st.session_state.get(name) or "", st.session_state.get(author) or ""
    try:
        filters.save(store.path, given[0], now.query, now.level, given[1])
    except AnchorscopeError as error:
        st.session_state[said] = str(error)


def _forget(store: Store, name: str, author: str, said: str) -> None:
    try:
        filters.remove(store.path, name, st.session_state.get(author) or "")
    except AnchorscopeError as error:
        st.session_state[said] = str(error)
