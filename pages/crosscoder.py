"""The features of two models side by side: which are shared, and which belong to one of them."""

import streamlit as st

from app import chosen_dictionary, navigation, studies

store = studies.open_store(navigation.study())
st.title("Crosscoder")

dictionary = chosen_dictionary.choose(store)
st.text(chosen_dictionary.named(dictionary))
