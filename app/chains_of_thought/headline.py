"""The selected chunk: its number, its tags, and the metric that gives it its colour."""

import pandas as pd
import streamlit as st

from app.chains_of_thought.metric_table import why_unknown
from app.chains_of_thought.metrics import answers_around
from app.shared import chunk_colours, said
from app.shared.views import Here
from app.shell import keys
from app.shell.numbers import interval, number
from app.shell.untrusted import for_markdown
from app.shell.vocabulary import (
    CATEGORIES,
    SET_BY_SMOOTHING,
    category,
    decision,
    definition,
    metric,
    metric_briefly,
    metric_choice,
    smoothing_decides,
)
from backend.cot.categories import UNSURE_BELOW
from backend.ids import cot_of
from backend.store import notes
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """As high, whatever is known of the chunk."""
    where, coloured = here.chunk, here.once(chunk_colours.coloured)
    chunk = _row(coloured, where.chunk)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=keys.of("chunk_headline")):
        st.markdown(f"## Chunk {chunk.number} of {len(coloured.chunks)}", width="content")
        value = ""
        if coloured.metric:
            value = f"{metric_briefly(f'{coloured.metric}:{coloured.convention}')} {number(chunk.value)}"
            value += "" if pd.isna(chunk.ci_low) else f" {interval(chunk.ci_low, chunk.ci_high)}"
        thing = notes.chunk(chunk.chunk_id, chunk.text)
        people = said.in_words(notes.in_force(store.path, thing))
        words = for_markdown(" · ".join(filter(None, (value, people))), 300)
        st.caption(f"{_tags(chunk)}{' · ' if words else ''}{words}", width="stretch")
        said.door(store.path, thing)


def draw_value(here: Here, store: Store) -> None:
    """The metric that gives the chunk its colour, and what is known of it."""
    where, coloured = here.chunk, here.once(chunk_colours.coloured)
    if where.metric:
        st.caption(f"Opened here: the study's largest {metric_choice(f'{where.metric}:{where.convention}')}.")
    if coloured.metric:
        _headline(store, _row(coloured, where.chunk), coloured.metric, coloured.convention)


def _row(coloured: chunk_colours.Coloured, chunk: str) -> pd.Series:
    return coloured.chunks[coloured.chunks["chunk_id"] == chunk].iloc[0]


def _tags(chunk: pd.Series) -> str:
    if not chunk.tags:
        return "Not tagged"
    first, *others = (category(tag) if tag in CATEGORIES else "another tag" for tag in chunk.tags)
    if pd.notna(chunk.score):
        first += f" ({'unsure, ' if chunk.score < UNSURE_BELOW else ''}probability {chunk.score:.2f})"
    return " · ".join([first, *others])


def _headline(store: Store, chunk: pd.Series, name: str, convention: str | None) -> None:
    words = metric(name)
    st.metric(
        f"{words.axis} · {convention}",
        number(chunk.value),
        border=True,
        help=words.meaning,
        delta=None if pd.isna(chunk.ci_low) else f"95 % {interval(chunk.ci_low, chunk.ci_high)}",
        delta_color="off",
        delta_arrow="off",
    )
    st.caption(f"{for_markdown(definition(name, convention or ''), 400)}.")
    if words.is_accuracy or words.name == "counterfactual_accuracy":
        counts = store.answers_in_cot(cot_of(chunk.chunk_id))
        st.caption(for_markdown(" ".join(answers_around(counts, chunk.chunk_id)), 400))
    if pd.isna(chunk.value):
        rows = store.importance_of_chunk(chunk.chunk_id)
        for row in rows[(rows["metric"] == name) & (rows["convention"] == convention)].itertuples():
            st.caption(for_markdown(f"Unknown: {why_unknown(row)}.", 400))
    if decided := decision(chunk.p, chunk.q, chunk.n_tested):
        below = " Below 0: the groups are nearer to each other than chance deals them." if chunk.value < 0 else ""
        st.caption(f"{decided[:1].upper()}{decided[1:]}. The interval decides nothing.{below}")
    if smoothing_decides(name, convention, chunk.value, chunk.n_comparator):
        st.caption(
            f"Its size is {SET_BY_SMOOTHING}: answers of one side were never seen on the other, and so large a KL says"
            " that, not how far the answers moved. The convention jsd, or the difference of accuracies, has no such"
            " jump."
        )
