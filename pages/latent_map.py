"""Where the chunks lie in activation space."""

import streamlit as st

from app.figures.latent_map import latent_map
from app.latent_map import map_view
from app.shared import place
from app.shared.chains_view import described
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
where = place.here(store)
st.title("Latent map")

chosen = map_view.controls(store)
points = map_view.points(store, chosen, where)
path = points[points["cot_id"] == where.cot]

left, right = st.columns([5, 2], gap="medium")
with left:
    figure = latent_map(
        points,
        axes=map_view.axes(chosen),
        metric=described(chosen.metric) if chosen.by_metric else None,
        path=path,
        selected=where.chunk,
    )
    key = map_view.chart_key()
    st.plotly_chart(figure, key=key, on_select=lambda: map_view.taken(key, points), config={"scrollZoom": True})
    map_view.caption(chosen, points)
with right:
    map_view.card(store, where, points)
map_view.lassoed_table(points)
map_view.leave_if_asked()
