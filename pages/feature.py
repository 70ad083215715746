"""One feature: where it fires, what it writes, and what it is called; a second one beside it."""

import streamlit as st

from app.crosscoder import crosscoder_view
from app.feature import feature_view
from app.shared import chosen_dictionary
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Feature")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = crosscoder_view.features(store, dictionary)
feature_view.panels(store, dictionary, rows, feature_view.controls(store, dictionary, rows))
