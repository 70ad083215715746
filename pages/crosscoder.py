"""The features of two models side by side: which are shared, and which belong to one of them."""

import streamlit as st

from app.crosscoder import all_features
from app.shared import chosen_dictionary, feature_rows
from app.shared.feature_filters import passing
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Crosscoder")

all_features.unfinished_trainings(store)
dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
all_features.quality(store, dictionary)

rows, norm = feature_rows.features(store, dictionary), "l1"
st.subheader("Features")
if chosen_dictionary.compares(dictionary):
    norm, scaling = all_features.how_compared()
    all_features.counts(rows, norm)
charts = st.container()
filters = all_features.filter_controls(rows, dictionary)
kept = rows[passing(rows, filters)]
with charts:
    if chosen_dictionary.compares(dictionary):
        all_features.compared(rows, kept, dictionary, norm=norm, scaling=scaling, filters=filters)
    else:
        all_features.alone(rows, filters)
all_features.table(kept, len(rows), dictionary, norm=norm, filters=filters)
chosen_dictionary.leave_if_asked()
