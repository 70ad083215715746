"""What was clicked, enclosed or picked on a widget, as far as it is still there: a message may come after its widget
has gone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_chunk
from app.shell import selection

_HEARD = "heard of "


def reported(key: str, name: str) -> Any:
    """What the widget `key` says last under `name` (an attribute of its state), or None: a widget that is gone says
    nothing.
    """
    return getattr(st.session_state.get(key), name, None)


def told(key: str, name: str) -> Any:
    """The value that a component of ours says last under `name`; from now on its browser knows that it was `heard`.

    Its message is {at, value}, where `at` is a number that is larger in every message.
    """
    said = reported(key, name)
    at, value = (said.get("at"), said.get("value")) if isinstance(said, Mapping) else (None, None)
    if not isinstance(at, int | float):
        return None
    st.session_state[_HEARD + key] = at
    return value


def heard(key: str) -> float:
    """The `at` of the last message of the component `key` that was acted on, 0 before the first: for its data.

    What a browser shows of its own doing stays until then. It cannot wait for its value to come back: what was chosen
    next may already have replaced it.
    """
    return float(st.session_state.get(_HEARD + key, 0))


def boxes(key: str) -> Sequence[Any]:
    """The boxes drawn on the chart `key`."""
    return getattr(reported(key, "selection"), "box", None) or ()


def lassos(key: str) -> Sequence[Any]:
    """The lassos drawn on the chart `key`."""
    return getattr(reported(key, "selection"), "lasso", None) or ()


def marks(key: str) -> list[Any]:
    """The `customdata` of the marks that were clicked or enclosed on the chart `key`; of several values the first."""
    points = getattr(reported(key, "selection"), "points", None) or ()
    found = [point.get("customdata") for point in points]
    return [value[0] if isinstance(value, list) and value else value for value in found]


def picked_rows(key: str, n: int) -> list[int]:
    """The rows that are picked in the table `key`, of its `n`."""
    rows = getattr(reported(key, "selection"), "rows", None) or ()
    return [row for row in rows if type(row) is int and 0 <= row < n]


def picked_row(key: str, n: int) -> int | None:
    """The first of them."""
    return next(iter(picked_rows(key, n)), None)


def picked_cell(key: str, n: int) -> int | None:
    """The row of the first cell that is picked in the table `key`, of its `n` rows."""
    cells = getattr(reported(key, "selection"), "cells", None) or ()
    rows = [cell[0] for cell in cells if isinstance(cell, list | tuple) and cell]
    return next((row for row in rows if type(row) is int and 0 <= row < n), None)


def picked_column(key: str, names: Sequence[str]) -> str | None:
    """The first column that is picked by its head in the table `key`, of those with these names."""
    picked = getattr(reported(key, "selection"), "columns", None) or ()
    return next((name for name in picked if name in names), None)


def chunk_ids(key: str, chunks: pd.Series) -> list[str]:
    """The ids among `chunks` that the chart `key` reports, each once."""
    known = set(chunks)
    return [chunk for chunk in dict.fromkeys(mark for mark in marks(key) if isinstance(mark, str)) if chunk in known]


def go_to_clicked(key: str, chunks: pd.Series) -> None:
    """Select the chunk that was clicked on the chart `key`."""
    if ids := chunk_ids(key, chunks):
        chosen_chunk.go(ids[0])
        selection.redraw()
