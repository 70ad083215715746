"""The chain's text, coloured chunk by chunk, and its metric along the chain."""

import streamlit as st

from app.components.reader import reader
from app.figures.chunk import profile
from app.shared import chosen_chunk, chunk_colours
from app.shared.clicks import go_to_clicked
from app.shared.views import Here
from app.shell import keys
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """The bar above has the controls of the colour; alone, the view has them itself."""
    coloured, selected = here.once(chunk_colours.coloured), here.chunk.chunk
    shown, key = chunk_colours.described(coloured.metric), keys.of("profile")
    chunk_colours.legend(coloured.chunks)
    reader(coloured.chunks, shown, selected=selected, on_chunk=chosen_chunk.go)
    if shown:
        st.plotly_chart(
            profile(coloured.chunks, shown, selected=selected),
            key=key,
            on_select=lambda: go_to_clicked(key, coloured.chunks["chunk_id"]),
            selection_mode="points",
            config={"displayModeBar": False},
        )
