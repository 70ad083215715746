"""The selected chunk in brief, and the way to its text."""

import streamlit as st

from app.latent_map.chunk_map import mapped
from app.shared import chunk_colours
from app.shared.answer_shares import answered
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import CATEGORIES, category, metric_choice
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where, rows = here.chunk, here.once(mapped).points
    chunk = store.chunk_card(where.chunk, selection.checked(chunk_colours.TAGS, store.tag_sources()) or "").iloc[0]
    with st.container(border=True):
        st.markdown(f"## Chunk {chunk.chunk_index + 1}")
        if isinstance(chunk.category, str):
            st.caption(category(chunk.category) if chunk.category in CATEGORIES else "another tag")
        show(chunk.text.strip())
        if where.chunk not in set(rows["chunk_id"]):
            st.caption("This chunk is not on the map.")
        for choice in chunk_colours.headline_choices(store):
            name, _, convention = choice.partition(":")
            row = store.importance_of_chunk(where.chunk)
            row = row[(row["metric"] == name) & (row["convention"] == convention)]
            st.caption(f"{metric_choice(choice)}: {number(row['value'].iloc[0]) if len(row) else 'unknown'}")
        counts = store.answers_in_cot(where.cot).set_index("chunk_id").loc[where.chunk]
        if counts.n:
            st.caption(answered(counts.n, counts.n_without_answer, counts.n_forced, of="rollouts"))
        if st.button(
            "Open in the workspace",
            icon=":material/segment:",
            type="primary",
            width="stretch",
            key=keys.of("read_chunk"),
        ):
            navigation.go_to(navigation.CHAINS)
