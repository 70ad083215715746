"""One feature: where it fires, what it writes, and what it is called; a second one beside it."""

import streamlit as st

from app import chosen_dictionary, navigation, studies

store = studies.open_store(navigation.study())
st.title("Feature")

dictionary = chosen_dictionary.choose(store)
st.text(chosen_dictionary.named(dictionary))
