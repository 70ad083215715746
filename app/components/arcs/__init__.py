"""The chunks of a chain one below the other, with an arc beside them for every link from an earlier chunk to a later
one: our own browser component, nothing from a network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.shared.clicks import heard, told
from app.shell import keys, selection
from app.shell.numbers import number
from app.shell.theme import ACCENT, STEERED, category_colour, ink_on

MOST = 400  # arcs that are drawn, the strongest
_HERE = Path(__file__).parent
_THIN, _THICK = 1.0, 5.0  # pixels
_FAINT, _FULL = 0.25, 0.75  # opacity of an arc that is not looked at


def arcs(
    chunks: pd.DataFrame, links: pd.DataFrame, *, unit: str, selected: str, on_chunk: Callable[[str], None]
) -> None:
    """Show the chunks (`chunk_id`, `number`, `text`, `category`) and the links (`source_index`, `target_index`: places
    in `chunks`; `value`, and `strength` from 0 to 1), and call `on_chunk` with the id of the chunk that was chosen.
    """
    key = keys.of("influence_arcs")

    def moved() -> None:
        chunk = told(key, "chunk")
        if chunk in set(chunks["chunk_id"]):
            on_chunk(chunk)
            selection.redraw()

    shown = drawn(chunks, links, unit) | {"selected": selected, "heard": heard(key)}
    _component()(key=key, data=shown, on_chunk_change=moved)


def drawn(chunks: pd.DataFrame, links: pd.DataFrame, unit: str) -> dict[str, Any]:
    """What the browser draws: the strongest links last, so that they lie on top. An unknown value has no arc."""
    known = links[links["value"].notna()]
    strongest = known.sort_values("strength", ascending=False, kind="stable").head(MOST)[::-1]
    numbers = chunks["number"].tolist()
    return {
        "chunks": [
            {
                "id": row.chunk_id,
                "number": int(row.number),
                "text": row.text,
                "colour": category_colour(row.category),
                "ink": ink_on(category_colour(row.category)),
            }
            for row in chunks.itertuples()
        ],
        "links": [
            {
                "source": int(row.source_index),
                "target": int(row.target_index),
                "width": _between(_THIN, _THICK, row.strength),
                "opacity": _between(_FAINT, _FULL, row.strength),
                "negative": bool(row.value < 0),
                "value": number(row.value),
                "hint": f"{numbers[row.source_index]} acts on {numbers[row.target_index]}: {number(row.value)} {unit}",
            }
            for row in strongest.itertuples()
        ],
        "colours": {"out": ACCENT, "in": STEERED},
        "words": "Point at a chunk to see its links; a click keeps it.",
    }


def _between(low: float, high: float, strength: float) -> float:
    return round(low + (high - low) * float(np.clip(strength, 0, 1)), 3)


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"arcs.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_arcs", html=html, css=css, js=js)
