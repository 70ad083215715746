"""What is in the study, how it was made, and what it does not have yet."""

import streamlit as st

from app.overview.views import ACCURACY, COUNTS, MODELS, NAME, NOT_YET, PROMPTS, RUNS, TRAININGS, WARNINGS
from app.shared import views
from app.shell import navigation, progress

study = navigation.study()
views.title()
progress.in_full(study)

here = views.here_now()
views.show(NAME, here)
views.show(COUNTS, here)
left, right = st.columns([3, 2], gap="large")
with left:
    views.show(ACCURACY, here, heading=True)
with right:
    views.show(MODELS, here, heading=True)
    views.show(NOT_YET, here, heading=True, quiet=True)
views.show(PROMPTS, here, heading=True, quiet=True)
views.show(TRAININGS, here, heading=True, quiet=True)
views.show(RUNS, here, heading=True)
views.show(WARNINGS, here, quiet=True)
