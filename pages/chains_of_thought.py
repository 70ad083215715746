"""One chain of thought, chunk by chunk, and beside it whatever is asked of the selected chunk."""

import streamlit as st

from app.chains_of_thought.views import BAR, CHUNK, DOCK, PROBLEM, STEPS, TEXT, USUAL
from app.shared import dock, views
from app.shared.views import Here
from app.views import registered


def chain(here: Here) -> None:
    with dock.obeying_the_bar():
        views.show(PROBLEM, here)
        views.show(TEXT, here)


def chunk(here: Here) -> None:
    with dock.obeying_the_bar():
        views.show(CHUNK, here)


views.require_everywhere(views.chunks)
views.alone("bar", lambda here: views.show(BAR, here))
left, right = st.columns(dock.beside_chain(dock.chosen(DOCK, USUAL)), gap="medium")
with left:
    views.alone("chain", chain)
with right:
    headline, steps = st.columns([5, 1], vertical_alignment="center")
    with headline:
        views.alone("chosen", chunk)
    with steps:
        views.alone("steps", lambda here: views.show(STEPS, here))
    dock.draw(DOCK, dock.pick(DOCK, USUAL), registered())
