"""Does a chunk that matters sit where the model is steep? The evidence: one pair, all pairs, the metrics, the geometry
side by side.
"""

import streamlit as st

from app.shared import place
from app.shell import navigation, studies
from app.steepness import evidence_view

store = studies.open_store(navigation.study())
where = place.here(store)
st.title("Steepness and importance")

view = evidence_view.view()
evidence_view.VIEWS[view][1](store, where)
