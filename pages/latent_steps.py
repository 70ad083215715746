"""Reasoning in latent space: run, read and steered."""

import streamlit as st

from app.latent_steps.chosen import latents
from app.latent_steps.views import NEED, NEEDED, READING, READINGS, RUNS, STEERING, STEERINGS
from app.shared import views

here = views.here_now()
views.title()
views.require(here, latents)
views.show(RUNS, here, heading=True)
st.header("Read")
for view in READINGS[views.part(READING, "Reading", {name: some[0].title for name, some in READINGS.items()})]:
    views.show(view, here)
st.header("Steered")
for view in STEERINGS[views.part(STEERING, "Steering", {name: some[0].title for name, some in STEERINGS.items()})]:
    views.show(view, here)
st.header("Replaced")
for view in NEEDED[views.part(NEED, "Replaced latents", {name: some[0].title for name, some in NEEDED.items()})]:
    views.show(view, here)
