"""Push one chunk along a direction and read what the model would have thought instead."""

import streamlit as st

from app.shared import chosen_chain, chosen_chunk, live
from app.shell import navigation, studies
from app.steering import controls, runs, steered_text, text_and_curve

study = navigation.study()
store = studies.open_store(study)
st.title("Steering")

own = steered_text.what_was_typed() if steered_text.is_typed(study) else None
where = None if own else chosen_chunk.here(store)
with st.container(horizontal=True, vertical_alignment="bottom"):
    choice = text_and_curve.choose_model(store, live.steerable(store), where)
    text_and_curve.own_text(own, choice)
if own:
    text_and_curve.say_what_a_link_has()
if where:
    where = chosen_chain.choose_cot(store, where)
subject = steered_text.chosen(store, where, choice)
text_and_curve.say_who_reads(subject, choice)

left, right = st.columns([5, 7], gap="medium")
opened = live.read(choice, text_and_curve.to_open(subject))
if not text_and_curve.is_read(opened):
    with left:
        text_and_curve.text(subject, None)
    with right:
        text_and_curve.wait_for(opened, subject, choice)
subject = steered_text.with_prompt(subject, opened.result["prompt"])
with right:
    plan = controls.plan(store, subject, choice, opened)
    text_and_curve.say_what(plan, subject)
    runs.run_controls(store, study, subject, choice, plan)
with left:
    text_and_curve.text(subject, plan)
    text_and_curve.curve(study, subject, choice, plan)
runs.runs(study)
runs.history(study, subject)
