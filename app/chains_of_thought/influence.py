"""Which chunks the selected one influences, and which influence it, as published."""

import streamlit as st

from app.shared.chunk_list import go_table
from app.shared.views import Here
from app.shell import keys
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    onward, back = store.influence_of(where.chunk), store.influence_on(where.chunk)
    if onward.empty and back.empty:
        st.caption(
            "Step importance (how much a sentence matters for each later one) comes with published data, and this chunk"
            " has none."
        )
        return
    for title, rows in (("This chunk influences", onward), ("Influenced by", back)):
        st.markdown(f"**{title}** · {len(rows)} chunks")
        strongest = rows.sort_values("value", ascending=False, kind="stable").head(15)
        go_table(strongest, {"importance": strongest["value"]}, key=keys.of(f"{title}_{where.chunk}"), own=where.cot)
