"""The vectors that were kept, and the audit of each."""

import streamlit as st

from app.direction_library.vectors import a_vector
from app.direction_library.views import CARD, COST, LENS, LIKENESS, LIST, TEXTS
from app.shared import views

here = views.here_now()
views.title()
views.require(here, a_vector)
views.show(LIST, here)
views.show(CARD, here)
left, right = st.columns(2, gap="medium")
with left:
    views.show(LIKENESS, here, heading=True)
    views.show(COST, here, heading=True)
with right:
    views.show(LENS, here, heading=True)
    views.show(TEXTS, here, heading=True)
