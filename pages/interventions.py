"""Change features and see what is still solved: with the reconstruction alone and random features beside it, in both
models.
"""

import streamlit as st

from app.interventions import form, results, running
from app.shared import chosen_dictionary, feature_rows
from app.shared.steer_by_feature import steer_by
from app.shell import navigation, studies
from app.shell.untrusted import show

study = navigation.study()
store = studies.open_store(study)
st.title("Interventions")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = feature_rows.features(store, dictionary)

left, right = st.columns([5, 6], gap="medium")
with left:
    chosen = form.features(store, dictionary, rows)
    steer_by(store, dictionary, chosen.features, label="Steer by one of them")
with right:
    trial, problem = form.trial(store, dictionary, chosen)
    form.ask(store, dictionary, rows, trial, problem)
running.follow(study, chosen_dictionary.roles(dictionary))
asked = results.asked(store, dictionary.dictionary_id)
if len(asked):
    results.results(store, asked, chosen_dictionary.roles(dictionary))
