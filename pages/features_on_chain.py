"""A dictionary's features along one chain of thought, or along any text: token by token, chunk by chunk, in both
models.
"""

import streamlit as st

from app.crosscoder import crosscoder_view
from app.features_on_chain import chain_features_view
from app.shared import chosen_dictionary
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Features on the chain")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = crosscoder_view.features(store, dictionary)
shown = chain_features_view.chosen_text(store, dictionary)
chain_features_view.counts(shown.text)
features = chain_features_view.chosen_features(dictionary, rows, shown.text)
cells = chain_features_view.heat(dictionary, rows, shown, features)
chain_features_view.looked_at(dictionary, rows, shown, features, cells)
chosen_dictionary.leave_if_asked()
