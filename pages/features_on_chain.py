"""A dictionary's features along one chain of thought, or along any text: token by token, chunk by chunk, in both
models.
"""

import streamlit as st

from app.features_on_chain import codes_along_text
from app.shared import chosen_dictionary, feature_rows
from app.shell import navigation, studies
from app.shell.untrusted import show

store = studies.open_store(navigation.study())
st.title("Features on the chain")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = feature_rows.features(store, dictionary)
shown = codes_along_text.chosen_text(store, dictionary)
codes_along_text.counts(shown.text)
features = codes_along_text.chosen_features(dictionary, rows, shown.text)
cells = codes_along_text.heat(dictionary, rows, shown, features)
codes_along_text.looked_at(dictionary, rows, shown, features, cells)
chosen_dictionary.leave_if_asked()
