"""A finding as a card: what is shown, its figure, its numbers, the control beside them, and the ways in."""

from collections.abc import Callable

import plotly.graph_objects as go
import streamlit as st

from app.figures import findings as figures
from app.shared.estimates import in_words as in_words
from app.shared.views import Here
from app.shell import keys, navigation
from app.shell.data_figure import data_figure
from app.shell.missing import Missing, missing, say
from app.shell.untrusted import for_markdown, one_line, show
from backend.findings.finding import Finding, Kind, Way
from backend.findings.kinds import BY_LAYER, ESTIMATES, KINDS, LEANING
from backend.store.experiments import Experiments
from backend.store.store import Store

FIGURES: dict[str, Callable[[Finding], go.Figure]] = {
    ESTIMATES: lambda found: figures.estimates(found.rows, axis=found.axis),
    BY_LAYER: lambda found: figures.by_layer(found.rows, axis=found.axis),
    LEANING: lambda found: figures.leaning(found.rows),
}


def finding_of(store: Store, kind: str) -> Finding | Missing:
    """Looked for once in each generation and state of what was kept beside it."""
    kept = Experiments(store.path).folder.manifest_bytes()
    return _finding(store, str(store.generation), store.published_at, kept, kind)


@st.cache_data(max_entries=64, show_spinner="Looking at what this study shows …")
def _finding(_store: Store, generation: str, published_at: str, kept: int, kind: str) -> Finding | Missing:
    return KINDS[kind].find(_store)


def drawing(kind: Kind) -> Callable[[Here, Store], None]:
    """Of the view of a kind."""
    return lambda here, store: draw(kind, finding_of(store, kind.name))


def draw(kind: Kind, found: Finding | Missing) -> None:
    if isinstance(found, Missing):
        say(found)
        return
    show(found.statement)
    data_figure(FIGURES[kind.figure](found), key=keys.of(f"finding_{kind.name}"), config={"displayModeBar": False})
    of_examples = [example.number for example in found.examples]
    for one in found.numbers:
        if one not in of_examples:
            show(in_words(one))
    for example in found.examples:
        with st.container(border=True, gap=None):
            show(f"“{one_line(example.text, 200)}”")
            number_ = "" if example.number is None else f" · {in_words(example.number)}"
            st.caption(for_markdown(f"{example.about}{number_}", 400))
            if example.way:
                link(example.way)
    st.caption(for_markdown(found.control, 800))
    if found.lacks:
        say(found.lacks)
    if not any(example.way and _same(example.way, found.way) for example in found.examples):
        link(found.way)


def _same(one: Way, other: Way) -> bool:
    return (one.page, one.chosen) == (other.page, other.chosen)


def link(way: Way) -> None:
    navigation.way_in(way.page, way.label, way.chosen)


def draw_unknown(here: Here, store: Store) -> None:
    """What stages have not done yet, each with its command."""
    for item in missing(store):
        say(item)


def anything_unknown(here: Here) -> Missing | None:
    return None if missing(here.store) else Missing("Every stage of this study has been done.", None)
