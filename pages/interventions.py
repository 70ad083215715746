"""Change features and see what is still solved: with the reconstruction alone and random features beside it, in both
models.
"""

import streamlit as st

from app.interventions.views import ASKED, FEATURES, RESULTS, RUNNING, TRIAL
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

chosen_dictionary.choose_and_name(here.store)
views.require(here, views.features)
left, right = st.columns([5, 6], gap="medium")
with left:
    views.show(FEATURES, here)
with right:
    views.show(TRIAL, here)
views.show(RUNNING, here, quiet=True)
views.show(ASKED, here, heading=True)
views.show(RESULTS, here, heading=True, quiet=True)
