"""The chunk the person looks at: a problem, one of its CoTs, one of its chunks.

The most precise id in the selection decides.
"""

from dataclasses import dataclass

import streamlit as st

from app.shell import selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, command, there
from backend.root import PRECOMPUTE
from backend.store.store import Store

PROBLEM = declare(Field("problem", "problem", None))
COT = declare(Field("cot", "chain of thought", None, of="problem"))
CHUNK = declare(Field("chunk", "chunk", None, of="cot"))
_OPENED = "chunk_opened"  # the last one that was chosen for being the most important


@dataclass(frozen=True)
class ChosenChunk:
    """`metric` is set where the chunk was chosen for being the most important one, and says by what."""

    problem: str
    cot: str
    chunk: str
    metric: str | None = None
    convention: str | None = None


def here(store: Store) -> ChosenChunk:
    """The selected chunk. Where the study has no chunk yet, says what to run and ends the page."""
    return there(find(store))


def find(store: Store) -> ChosenChunk | Missing:
    """The selected chunk, checked against the store, or what to run where the study has none."""
    chosen = _named(store) or _most_important(store)
    if chosen is None:
        return Missing("This study has no chains of thought cut into chunks yet.", command(store.path))
    if store.cot(chosen.cot).empty:
        return Missing(
            "This chain of thought names a problem or a model of which the study has no row: it is half written."
            " Make the study's store anew from its files; where that changes nothing, run or import it again.",
            f"{PRECOMPUTE} publish {store.path}",
        )
    selection.choose({PROBLEM: chosen.problem, COT: chosen.cot, CHUNK: chosen.chunk})
    if chosen.metric:
        st.session_state[_OPENED] = chosen
    opened = st.session_state.get(_OPENED)
    return opened if opened is not None and opened.chunk == chosen.chunk else chosen


def go(chunk: str) -> None:
    """Select a chunk; its CoT and problem follow."""
    selection.choose({PROBLEM: None, COT: None, CHUNK: chunk})


def go_along(chunk: str) -> None:
    """Select another chunk of the chain that is open: what shows the chain alone stays as it is drawn."""
    selection.choose({CHUNK: chunk})


def _named(store: Store) -> ChosenChunk | None:
    if chunk := selection.get(CHUNK):
        found = store.chunk_place(chunk)
        if len(found):
            return ChosenChunk(found.problem_id[0], found.cot_id[0], chunk)
        selection.forget_unknown(CHUNK)
    for field in (COT, PROBLEM):
        if value := selection.get(field):
            if chosen := _most_important(store, **{field.name: value}):
                return chosen
            selection.forget_unknown(field)
    return None


def _most_important(store: Store, *, cot: str | None = None, problem: str | None = None) -> ChosenChunk | None:
    found = store.most_important_chunk(cot_id=cot, problem_id=problem)
    if found.empty:
        return None
    row = found.iloc[0]
    known = isinstance(row.metric, str)
    return ChosenChunk(
        row.problem_id, row.cot_id, row.chunk_id, row.metric if known else None, row.convention if known else None
    )
