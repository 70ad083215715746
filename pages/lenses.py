"""What each layer already says, token by token, in both models."""

import streamlit as st

from app.lenses.reading import a_model, a_text
from app.lenses.views import CURVES, LOCAL, MAP, QUALITY, TEXT, TOKENS, VECTOR
from app.shared import views

here = views.here_now()
views.title()
views.require(here, a_model, a_text)
views.show(MAP, here)
left, right = st.columns([5, 6], gap="medium")
with left:
    views.show(TOKENS, here, heading=True)
with right:
    views.show(TEXT, here, heading=True)
    views.show(LOCAL, here, heading=True)
views.show(CURVES, here, heading=True)
views.show(QUALITY, here, heading=True)
views.show(VECTOR, here, heading=True)
