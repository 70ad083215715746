"""The chunks within the last lasso or box."""

import streamlit as st

from app.latent_map.chunk_map import LASSO, TURN, forget_lasso, mapped
from app.shared.chunk_list import go_table
from app.shared.views import Here
from app.shell import keys
from app.shell.missing import Missing
from app.shell.vocabulary import category
from backend.store.store import Store


def a_lasso(here: Here) -> Missing | None:
    """Chunks that were enclosed on the map."""
    if st.session_state.get(LASSO):
        return None
    return Missing("No chunks are enclosed: draw a lasso or a box on the latent map.", None)


def draw(here: Here, store: Store) -> None:
    found = here.once(mapped)
    rows, colour = found.points, found.chosen.colour.name
    chosen = rows[rows["chunk_id"].isin(st.session_state.get(LASSO, ()))]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{len(chosen)} chunks in the selection** · choose a row to select its chunk")
        st.button("Clear", key=keys.of("clear_lasso"), on_click=forget_lasso, icon=":material/close:")
    go_table(
        chosen,
        {
            "id": chosen["chunk_id"],
            "category": [category(tag) if isinstance(tag, str) else "not tagged" for tag in chosen["category"]],
            **({} if colour == "tag" else {colour: chosen["value"]}),
        },
        key=keys.of(f"lassoed_{st.session_state.get(TURN, 0)}"),
        own="",
    )
