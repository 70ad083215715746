"""What this study shows, and what it does not know yet."""

import streamlit as st

from app.findings.views import IN_TURN, TOUR, in_order
from app.shared import views

here = views.here_now()
views.title()
views.show(TOUR, here)
cards_in_order = in_order(here.store)
columns = [column for _ in cards_in_order[::2] for column in st.columns(2, gap="medium")]
cards = {}
for view, column in zip(cards_in_order, columns, strict=False):
    with column:
        cards[view] = st.container(border=True, height="stretch")
    with cards[view]:
        st.header(view.title)
for view in IN_TURN:  # each card shows what it has before a slower one is looked for
    with cards[view]:
        views.show(view, here)
