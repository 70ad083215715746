"""Which features fire where a model doubts, concludes, tries another way or objects, and what those words lose without
them.
"""

import streamlit as st

from app.categories import categories_view
from app.shared import chosen_dictionary
from app.shell import navigation, studies

store = studies.open_store(navigation.study())
st.title("Categories")

dictionary = chosen_dictionary.choose(store)
categories_view.counted(dictionary)
scheme = categories_view.scheme()
categories_view.frequencies(store, dictionary, scheme)
categories_view.ablations(store, dictionary, scheme)
chosen_dictionary.leave_if_asked()
