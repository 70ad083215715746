"""What this study shows, and what it does not know yet."""

import streamlit as st

from app.findings.views import FINDINGS, TOUR, UNKNOWN
from app.shared import views

here = views.here_now()
views.title()
views.show(TOUR, here)
for row in zip(*[iter((*FINDINGS.values(), UNKNOWN, None))] * 2, strict=True):
    for column, view in zip(st.columns(2, gap="medium"), row, strict=True):
        if view is not None:
            with column, st.container(border=True, height="stretch"):
                st.header(view.title)
                views.show(view, here)
