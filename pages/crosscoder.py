"""The features of two models side by side: which are shared, and which belong to one of them."""

import streamlit as st

from app.crosscoder import crosscoder_view
from app.shared import chosen_dictionary
from app.shared.feature_filters import passing
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Crosscoder")

crosscoder_view.unfinished_trainings(store)
dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
crosscoder_view.quality(store, dictionary)

rows, norm = crosscoder_view.features(store, dictionary), "l1"
st.subheader("Features")
if chosen_dictionary.compares(dictionary):
    norm, scaling = crosscoder_view.how_compared()
    crosscoder_view.counts(rows, norm)
charts = st.container()
filters = crosscoder_view.filter_controls(rows, dictionary)
kept = rows[passing(rows, filters)]
with charts:
    if chosen_dictionary.compares(dictionary):
        crosscoder_view.compared(rows, kept, dictionary, norm=norm, scaling=scaling, filters=filters)
    else:
        crosscoder_view.alone(rows, filters)
crosscoder_view.table(kept, len(rows), dictionary, norm=norm, filters=filters)
chosen_dictionary.leave_if_asked()
