"""One chain of thought, chunk by chunk, and everything known about the selected chunk."""

import streamlit as st

from app.components.reader import reader
from app.figures.chunk import profile
from app.shared import chosen_chain, chosen_chunk, chunk_panel
from app.shared.clicks import go_to_clicked
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
where = chosen_chain.choose_cot(store, chosen_chunk.here(store))
chosen_chain.problem_card(store, where)

left, right = st.columns([7, 6], gap="medium")
with left:
    metric, convention, source = chosen_chain.colour_controls(store)
    chunks = chosen_chain.chunks(store, where.cot, source, metric, convention)
    shown = chosen_chain.described(metric)
    chosen_chain.legend(chunks)
    reader(chunks, shown, selected=where.chunk, on_chunk=chosen_chunk.go)
    if shown:
        st.plotly_chart(
            profile(chunks, shown, selected=where.chunk),
            key="profile",
            on_select=lambda: go_to_clicked("profile", chunks["chunk_id"]),
            selection_mode="points",
            config={"displayModeBar": False},
        )
with right:
    chunk_panel.panel(store, where, chunks, metric, convention)
