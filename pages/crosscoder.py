"""The features of two models side by side: which are shared, and which belong to one of them."""

import streamlit as st

from app.crosscoder.filters import filtered
from app.crosscoder.views import CHANCE, CHARTS, CLASSES, ENDS, LABELLING, NULLS, QUALITY, TABLE, TOP, TRAININGS
from app.shared import chosen_dictionary, views

here = views.here_now()
views.title()

views.show(TRAININGS, here, quiet=True)
chosen_dictionary.choose_and_name(here.store)
views.show(QUALITY, here)
views.require(here, views.features)
st.header("Features")
views.show(NULLS, here, quiet=True)
views.show(CLASSES, here, quiet=True)
charts = st.container()
here.once(filtered)
with charts:
    views.show(CHARTS, here)
views.show(TOP, here, heading=True, quiet=True)
views.show(ENDS, here, heading=True, quiet=True)
views.show(CHANCE, here, heading=True, quiet=True)
views.show(TABLE, here)
views.show(LABELLING, here, heading=True, quiet=True)
chosen_dictionary.way_to_feature()
