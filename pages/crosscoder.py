"""The features of two models side by side: which are shared, and which belong to one of them."""

import streamlit as st

from app.crosscoder.filters import filtered
from app.crosscoder.views import CHARTS, CLASSES, NULLS, PART, PARTS, QUALITY, TITLES, TRAININGS, part_asked_for
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

views.show(TRAININGS, here, quiet=True)
chosen_dictionary.choose_and_name(here.store)
if views.features(here) is not None:  # what is known without them
    views.show(QUALITY, here)
views.require(here, views.features)
views.show(NULLS, here, quiet=True)
views.show(CLASSES, here, quiet=True)
charts = st.container()
here.once(filtered)
with charts:
    views.show(CHARTS, here)
chosen_dictionary.way_to_feature()
for view in PARTS[views.part(PART, "What else is shown", TITLES, default=part_asked_for())]:
    views.show(view, here, heading=True)
