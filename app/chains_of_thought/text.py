"""The chain's text, coloured chunk by chunk, and its metric along the chain."""

import streamlit as st

from app.components.copy import copy_buttons
from app.components.reader import reader
from app.figures.chunk import profile
from app.shared import chosen_chunk, chunk_colours
from app.shared.clicks import go_to_clicked
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import SWITCH, Field, declare
from backend.store.store import Store

FORMULAS = declare(Field("formulas", "switch to set formulas", SWITCH, "no", of=None))


def draw(here: Here, store: Store) -> None:
    """The bar above has the controls of the colour; alone, the view has them itself."""
    coloured, selected = here.once(chunk_colours.coloured), here.chunk.chunk
    shown, key = chunk_colours.described(coloured.metric), keys.of("profile")
    chunk_colours.legend(coloured.chunks)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _to_copy(here, store)
        with_formulas = selection.pick_switch(
            FORMULAS,
            "Formulas",
            help="Set what stands between dollar signs, in backslashed brackets or in a box as formulas. All else stays"
            " the text it is; so does a formula with a command that is not known here.",
        )
    reader(coloured.chunks, shown, selected=selected, on_chunk=chosen_chunk.go_along, with_formulas=with_formulas)
    if shown:
        data_figure(
            profile(coloured.chunks, shown, selected=selected),
            words={shown.unit: f"{shown.label}. {shown.meaning}"},
            key=key,
            on_select=lambda: go_to_clicked(key, coloured.chunks["chunk_id"]),
            selection_mode="points",
            config={"displayModeBar": False},
        )


def _to_copy(here: Here, store: Store) -> None:
    coloured, where = here.once(chunk_colours.coloured), here.chunk
    own = coloured.chunks.loc[coloured.chunks["chunk_id"] == where.chunk, "text"].iloc[0]
    read = store.cot_to_read(where.cot).iloc[0]
    copy_buttons(
        {"chunk": own, "chain": read.text, "prompt": read.prompt if isinstance(read.prompt, str) else ""}, key="copy"
    )
