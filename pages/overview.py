"""What is in the study, how it was made, and what it does not have yet."""

import streamlit as st

from app.figures.overview import accuracy_by_level
from app.figures.training import training_curve
from app.overview import contents
from app.shell import navigation, progress, studies
from app.shell.missing import missing, say
from app.shell.untrusted import show

study = navigation.study()
st.title("Overview")
progress.in_full(study)
store = studies.open_store(study)

contents.published(store)
contents.counts(store)
left, right = st.columns([3, 2], gap="large")
with left:
    st.subheader("Accuracy by level")
    st.plotly_chart(accuracy_by_level(contents.levels(store)), key="accuracy_by_level")
    contents.candidates_line(store)
with right:
    st.subheader("Models")
    contents.models(store)
    if lacks := missing(store.coverage().iloc[0], study):
        st.subheader("Not there yet")
        for item in lacks:
            say(item)

contents.prompts(store)

if not (trainings := store.training_runs()).empty:
    st.subheader("How the models were trained")
    for training in trainings.itertuples():
        metrics = studies.ask(store.training_metrics, training_id=training.training_id)
        with st.container(border=True):
            contents.training(training)
            st.plotly_chart(training_curve(metrics, unit=contents.loss_unit(training.kind)), key=training.training_id)

st.subheader("Runs")
contents.runs(store)
for warning in contents.warnings(store):
    with st.container(border=True):
        show(warning)
