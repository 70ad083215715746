"""The selected chunk in brief, and the way to its chain."""

import pandas as pd
import streamlit as st

from app.shared import chunk_colours, said
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import category
from backend.store import notes
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    source = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    chunk, cot = store.chunk_card(where.chunk, source).iloc[0], store.cot(where.cot).iloc[0]
    answer = "unknown" if pd.isna(cot.is_correct) else "correct" if cot.is_correct else "wrong"
    tag = category(chunk.category) if isinstance(chunk.category, str) else "not tagged"
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        people = said.in_words(notes.in_force(store.path, notes.chunk(where.chunk, chunk.text)))
        about = " · ".join(filter(None, (f"Chunk {chunk.chunk_index + 1}", tag, people, f"answer {answer}")))
        show(f"{about}: {one_line(chunk.text, 300)}")
        if st.button(
            f"Open in {navigation.PAGES[navigation.CHAINS].title}",
            icon=":material/segment:",
            type="primary",
            key=keys.of("browse_open"),
        ):
            navigation.go_to(navigation.CHAINS)
