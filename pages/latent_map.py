"""Where the chunks lie in activation space."""

import streamlit as st

from app.figures.latent_map import latent_map
from app.latent_map import chunk_map
from app.shared import chosen_chunk
from app.shared.chosen_chain import described
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
where = chosen_chunk.here(store)
st.title("Latent map")

chosen = chunk_map.controls(store)
points = chunk_map.points(store, chosen, where)
path = points[points["cot_id"] == where.cot]

left, right = st.columns([5, 2], gap="medium")
with left:
    figure = latent_map(
        points,
        axes=chunk_map.axes(chosen),
        metric=described(chosen.metric) if chosen.by_metric else None,
        path=path,
        selected=where.chunk,
    )
    key = chunk_map.chart_key()
    st.plotly_chart(figure, key=key, on_select=lambda: chunk_map.taken(key, points), config={"scrollZoom": True})
    chunk_map.caption(chosen, points)
with right:
    chunk_map.card(store, where, points)
chunk_map.lassoed_table(points)
chunk_map.leave_if_asked()
