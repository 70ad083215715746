"""Where the chunks lie in activation space."""

import streamlit as st

from app.latent_map.chunk_map import mapped
from app.latent_map.views import CARD, ENCLOSED, MAP
from app.shared import views

here = views.here_now()
views.require(here, views.chunks)
views.title()

here.once(mapped)
left, right = st.columns([5, 2], gap="medium")
with left:
    views.show(MAP, here)
with right:
    views.show(CARD, here)
views.show(ENCLOSED, here, quiet=True)
