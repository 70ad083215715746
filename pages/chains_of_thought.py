"""One chain of thought, chunk by chunk, and everything known about the selected chunk."""

import streamlit as st

from app.components.reader import reader
from app.figures.chunk import profile
from app.shared import chains_view, chunk_panel, place
from app.shared.clicks import go_to_clicked
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
where = chains_view.choose_cot(store, place.here(store))
chains_view.problem_card(store, where)

left, right = st.columns([7, 6], gap="medium")
with left:
    metric, convention, source = chains_view.colour_controls(store)
    chunks = chains_view.chunks(store, where.cot, source, metric, convention)
    shown = chains_view.described(metric)
    chains_view.legend(chunks)
    reader(chunks, shown, selected=where.chunk, on_chunk=place.go)
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
