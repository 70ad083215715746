"""Push one chunk along a direction and read what the model would have thought instead."""

import streamlit as st

from app.shared import chains_view, live, place
from app.shell import navigation, studies
from app.steering import steering_plan, steering_runs, steering_subject, steering_view

study = navigation.study()
store = studies.open_store(study)
st.title("Steering")

own = steering_subject.typed_text() if steering_subject.is_typed(study) else None
where = None if own else place.here(store)
with st.container(horizontal=True, vertical_alignment="bottom"):
    choice = steering_view.choose_model(store, live.steerable(store), where)
    steering_view.own_text(own, choice)
if own:
    steering_view.say_what_a_link_has()
if where:
    where = chains_view.choose_cot(store, where)
subject = steering_subject.chosen(store, where, choice)
steering_view.say_who_reads(subject, choice)

left, right = st.columns([5, 7], gap="medium")
opened = live.read(choice, steering_view.to_open(subject))
if not steering_view.is_read(opened):
    with left:
        steering_view.text(subject, None)
    with right:
        steering_view.wait_for(opened, subject, choice)
subject = steering_subject.with_prompt(subject, opened.result["prompt"])
with right:
    plan = steering_plan.plan(store, subject, choice, opened)
    steering_view.say_what(plan, subject)
    steering_runs.run_controls(store, study, subject, choice, plan)
with left:
    steering_view.text(subject, plan)
    steering_view.curve(study, subject, choice, plan)
steering_runs.runs(study)
steering_runs.history(study, subject)
