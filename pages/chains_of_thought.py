"""One chain of thought, chunk by chunk, and everything known about the selected chunk."""

import streamlit as st

from app.chains_of_thought.views import ABOUT, CHUNK, PANEL, PROBLEM, TEXT
from app.shared import chosen_chain, views

here = views.here_now()
here.look_at(chosen_chain.choose_cot(here.store, here.chunk))
views.show(PROBLEM, here)

left, right = st.columns([7, 6], gap="medium")
with left:
    views.show(TEXT, here)
with right:
    views.show(CHUNK, here)
    views.show(ABOUT[views.part(PANEL, "About this chunk", {word: view.title for word, view in ABOUT.items()})], here)
