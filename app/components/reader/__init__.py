"""The chain of thought as chunks to read, click and walk through with j and k: our own browser component, nothing from
a network.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import formulas
from app.shared.clicks import heard, told
from app.shell import keys, selection
from app.shell.numbers import number
from app.shell.theme import category_colour, ink_on
from app.shell.vocabulary import Metric, category

MARKS = ("source", "applied", "both")
_HERE = Path(__file__).parent
_FAINTEST, _STRONGEST = 6, 60  # per cent of the tag's colour behind the text; still legible at the top


def reader(
    chunks: pd.DataFrame,
    metric: Metric | None,
    *,
    selected: str,
    on_chunk: Callable[[str], None],
    marks: Mapping[str, str] | None = None,
    with_formulas: bool = False,
) -> None:
    """Show the chunks (`chunk_id`, `number`, `text`, `category`, `value`) and call `on_chunk` with the id that was
    clicked or walked to.

    `is_unsure`, where it is a column, puts a ? at the number. `marks` paints chunks, by id: "source" (the vector came
    from there), "applied" (it is steered there) or "both".
    `with_formulas` sets the formulas of their texts.
    """
    key = keys.of("cot_reader")

    def moved() -> None:
        chunk = told(key, "chunk")
        if chunk in set(chunks["chunk_id"]):
            on_chunk(chunk)
            selection.redraw()

    shown = spans(chunks, metric, marks)
    if with_formulas:
        shown = [chunk | {"parts": formulas.parts(chunk["text"].strip())} for chunk in shown]
    _component()(key=key, data={"chunks": shown, "selected": selected, "heard": heard(key)}, on_chunk_change=moved)


def spans(chunks: pd.DataFrame, metric: Metric | None, marks: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What the browser draws: `strength` is None where the metric is unknown, else 6 to 60 in proportion to |value|
    within this CoT. A divergence that is `below` what chance gives is no strength at all.
    """
    if strangers := set((marks or {}).values()) - set(MARKS):
        raise ValueError(f"a chunk is marked {strangers.pop()!r}; expected {', '.join(MARKS)}")
    values = chunks["value"].astype("float64")
    below = (values < 0) & (metric is not None and metric.by_permutation)
    largest = float(values.where(~below).abs().max()) if values.notna().any() else 0.0
    return [
        {
            "id": row.chunk_id,
            "number": int(row.number),
            "text": row.text,
            "colour": category_colour(row.category),
            "ink": ink_on(category_colour(row.category)),
            "strength": 0.0 if is_below else strength(row.value, largest),
            "below": is_below,
            "unsure": bool(getattr(row, "is_unsure", False)),
            "mark": (marks or {}).get(row.chunk_id),
            "hint": f"{row.number}. {category(row.category)}{' (unsure)' if getattr(row, 'is_unsure', False) else ''}"
            + ("" if metric is None else f" · {metric.label} {number(row.value)}"),
        }
        for row, is_below in zip(chunks.itertuples(), below.tolist(), strict=True)
    ]


def strength(value: float, largest: float) -> float | None:
    if pd.isna(value):
        return None
    return _FAINTEST + (_STRONGEST - _FAINTEST) * (abs(value) / largest if largest else 0.0)


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"reader.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_reader", html=html, css=css, js=js)
