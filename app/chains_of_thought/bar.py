"""The bar above the chain and the dock: what all views obey. What a study does not have is left out of it."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app.shared import chosen_chain, chosen_stream, chunk_colours, dock
from app.shared.chosen_chunk import COT, PROBLEM, ChosenChunk
from app.shared.geometry_columns import DIRECTION, POSITION, UNIT
from app.shared.views import Here
from app.shell import history, keys, selection, studies
from app.shell.vocabulary import direction_order, direction_words, metric_briefly, position_words, unit_words
from backend.store.geometry_columns import NO_LAYER, NONE
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=keys.of("bar")):
        _chain(store)
        _stream(store)
        chunk_colours.pick_metric(store, show=metric_briefly)
        swept = _directions(store)
        _more(store, swept)


def _chain(store: Store) -> None:
    """Which chain, behind one button that says it."""
    where = ChosenChunk(selection.get(PROBLEM) or "", selection.get(COT) or "", "")
    with st.container(width="content", key=keys.of("search_chain")):
        chosen_chain.choose_in_drawer(store, where)


def _stream(store: Store) -> None:
    if len(streams := studies.ask(store.streams)):
        chosen_stream.pick(store, streams, "Model and layer", width=172)


def _directions(store: Store) -> pd.DataFrame:
    """The picker of the direction; the geometry that has one."""
    known = studies.ask(store.geometry_choices)
    swept = known[(known["n_known"] > 0) & (known["layer"] != NO_LAYER) & (known["kind"] != NONE)]
    if kinds := direction_order(swept["kind"]):
        selection.pick(DIRECTION, "Direction", kinds, show=direction_words, width=196)
    return swept


def _more(store: Store, swept: pd.DataFrame) -> None:
    """What is chosen less often."""
    with st.popover("More"):
        chunk_colours.pick_tags(store)
        if len(positions := sorted(set(swept["position"]) - {NONE})) > 1:
            selection.pick(POSITION, "Steered at", positions, show=position_words)
        if len(units := sorted(set(swept["unit"]) - {NONE})) > 1:
            selection.pick(UNIT, "β in", units, show=unit_words)
        selection.pick(
            dock.ARRANGEMENT,
            "Two views stand",
            show=dock.ARRANGED.__getitem__,
            widget=st.segmented_control,
            required=True,
        )


def draw_steps(then: Callable[[], None]) -> None:
    """Undo and redo of what is selected, whatever it is, and `then` what stands beside them."""
    history.note(selection.values())
    with st.container(horizontal=True, gap="xxsmall", width="content", key=keys.of("steps")):
        _step("Undo", "u", selection.undo, is_there=history.can_undo())
        _step("Redo", "U", selection.redo, is_there=history.can_redo())
        then()


def _step(words: str, key: str, step: Callable[[], None], *, is_there: bool) -> None:
    st.button(
        f":material/{words.lower()}:",
        type="tertiary",
        on_click=step,
        disabled=not is_there,
        key=keys.of(words.lower()),
        help=f"{words} the last choice (key {key})",
    )
