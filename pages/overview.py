"""What is in the study, how it was made, and what it does not have yet."""

import streamlit as st

from app.figures.overview import accuracy_by_level
from app.figures.training import training_curve
from app.overview import overview_view
from app.shell import navigation, progress, studies
from app.shell.missing import missing, say
from app.shell.untrusted import show

study = navigation.study()
st.title("Overview")
progress.in_full(study)
store = studies.open_store(study)

overview_view.published(store)
overview_view.counts(store)
left, right = st.columns([3, 2], gap="large")
with left:
    st.subheader("Accuracy by level")
    st.plotly_chart(accuracy_by_level(overview_view.levels(store)), key="accuracy_by_level")
    overview_view.candidates_line(store)
with right:
    st.subheader("Models")
    overview_view.models(store)
    if lacks := missing(store.coverage().iloc[0], study):
        st.subheader("Not there yet")
        for item in lacks:
            say(item)

overview_view.prompts(store)

if not (trainings := store.training_runs()).empty:
    st.subheader("How the models were trained")
    for training in trainings.itertuples():
        metrics = studies.ask(store.training_metrics, training_id=training.training_id)
        with st.container(border=True):
            overview_view.training(training)
            st.plotly_chart(
                training_curve(metrics, unit=overview_view.loss_unit(training.kind)), key=training.training_id
            )

st.subheader("Runs")
overview_view.runs(store)
for warning in overview_view.warnings(store):
    with st.container(border=True):
        show(warning)
