"""Which features fire where a model doubts, concludes, tries another way or objects, and what those words lose without
them.
"""

import streamlit as st

from app.categories import reasoning_words
from app.shared import chosen_dictionary
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
st.title("Categories")

dictionary = chosen_dictionary.choose(store)
reasoning_words.counted(dictionary)
scheme = reasoning_words.scheme()
reasoning_words.frequencies(store, dictionary, scheme)
reasoning_words.ablations(store, dictionary, scheme)
chosen_dictionary.leave_if_asked()
