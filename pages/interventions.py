"""Change features and see what is still solved: with the reconstruction alone and random features beside it, in both
models.
"""

import streamlit as st

from app.crosscoder import crosscoder_view
from app.interventions import intervention_results, intervention_runs, interventions_view
from app.shared import chosen_dictionary
from app.shared.steer_by_feature import steer_by
from app.shell import navigation, studies
from app.shell.untrusted import show

study = navigation.study()
store = studies.open_store(study)
st.title("Interventions")

dictionary = chosen_dictionary.choose(store)
show(chosen_dictionary.named(dictionary))
rows = crosscoder_view.features(store, dictionary)

left, right = st.columns([5, 6], gap="medium")
with left:
    chosen = interventions_view.features(store, dictionary, rows)
    steer_by(store, dictionary, chosen.features, label="Steer by one of them")
with right:
    trial, problem = interventions_view.trial(store, dictionary, chosen)
    interventions_view.ask(store, dictionary, rows, trial, problem)
intervention_runs.follow(study, chosen_dictionary.roles(dictionary))
asked = intervention_results.asked(store, dictionary.dictionary_id)
if len(asked):
    intervention_results.results(store, asked, chosen_dictionary.roles(dictionary))
