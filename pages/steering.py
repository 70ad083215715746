"""Push one chunk along a direction and read what the model would have thought instead."""

import streamlit as st

from app.shared import views
from app.steering import preset
from app.steering.text_and_curve import a_model, a_text, is_read, reading, steered
from app.steering.views import BOTH, COMPARED, CURVE, HISTORY, PLAN, RUN, RUNS, TEXT

here = views.here_now()
views.title()

preset.open_on(here.store)
views.require(here, a_text, a_model)
here.once(steered)
left, right = st.columns([5, 7], gap="medium")
if not is_read(here.once(reading)):
    with right:
        views.show(TEXT, here)
with left:
    views.show(PLAN, here)
    views.show(RUN, here)
with right:
    views.show(RUNS, here, quiet=True)
    views.show(COMPARED, here, quiet=True)
    views.show(TEXT, here)
    views.show(CURVE, here)
views.show(BOTH, here, quiet=True)
views.show(HISTORY, here)
