"""One feature: where it fires, what it writes, and what it is called; a second one beside it."""

import streamlit as st

from app.feature import side_by_side
from app.shared import chosen_dictionary, feature_rows
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Feature")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = feature_rows.features(store, dictionary)
side_by_side.panels(store, dictionary, rows, side_by_side.controls(store, dictionary, rows))
