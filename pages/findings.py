"""What this study shows, and what it does not know yet."""

import streamlit as st

from app.findings.views import CARDS, IN_TURN, TOUR
from app.shared import views

here = views.here_now()
views.title()
views.show(TOUR, here)
columns = [column for _ in CARDS[::2] for column in st.columns(2, gap="medium")]
cards = {}
for view, column in zip(CARDS, columns, strict=False):
    with column:
        cards[view] = st.container(border=True, height="stretch")
    with cards[view]:
        st.header(view.title)
for view in IN_TURN:  # each card shows what it has before a slower one is looked for
    with cards[view]:
        views.show(view, here)
