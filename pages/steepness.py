"""Does a chunk that matters sit where the model is steep? The evidence: one pair, all pairs, the metrics, the geometry
side by side.
"""

import streamlit as st

from app.shared import chosen_chunk
from app.shell import navigation, studies
from app.steepness import all_pairs

store = studies.open_store(navigation.study())
where = chosen_chunk.here(store)
st.title("Steepness and importance")

view = all_pairs.view()
all_pairs.VIEWS[view][1](store, where)
