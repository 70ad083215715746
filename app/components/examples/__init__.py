"""Where a feature fires most: windows of text with every token tinted by its activation, and a way to the chunk: our
own component.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.shared.clicks import reported
from app.shell.numbers import number

_HERE = Path(__file__).parent


def examples(
    rows: pd.DataFrame, *, key: str, colour: str, names: Sequence[str], on_read: Callable[[int], None]
) -> None:
    """Show rows of `DictionaryQueries.feature_examples`, and call `on_read` with the number of the row whose chunk
    somebody wants to read.

    `names` are what the one or two models are called. The strength of a token's colour is the size of its activation
    over the largest one shown.
    """

    def asked() -> None:
        wanted = reported(key, "read")
        if type(wanted) is int and 0 <= wanted < len(rows):
            on_read(wanted)

    _component()(key=key, data={"examples": shown(rows, names), "colour": colour}, on_read_change=asked)


def shown(rows: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the browser draws of each example: `tokens` as [text, strength from 0 to 1, words of the hover], the place
    of the `peak` among them, `words` about it and `where` it is.

    What a feature adds to a model's residual stream is in proportion to its activation, so that the stored size at the
    peak gives all.
    """
    largest = max((float(max(map(abs, values))) for values in rows["window_values"]), default=0.0) if len(rows) else 0.0
    return [_example(row, names, largest) for row in rows.itertuples()]


def _example(row: Any, names: Sequence[str], largest: float) -> dict[str, Any]:
    sizes = [size / abs(row.activation) for size in (row.contribution_base, row.contribution_distilled)][: len(names)]

    def adds(activation: float) -> str:
        added = ", ".join(
            f"{number(abs(activation) * size)} to {name}"
            for size, name in zip(sizes, names, strict=True)
            if pd.notna(size)
        )
        return f"f {number(activation)}" + (f", adds {added}" if added else "")

    chunk = "no chunk" if pd.isna(row.chunk_index) else f"chunk {int(row.chunk_index) + 1}"
    return {
        "tokens": [
            [text, round(abs(float(value)) / largest, 4) if largest else 0.0, adds(float(value)) if value else "f 0"]
            for text, value in zip(row.window_tokens, row.window_values, strict=True)
        ],
        "peak": int(row.position - row.window_start),
        "words": adds(float(row.activation)),
        "where": f"{chunk}, token {int(row.position)}, written by {row.written_by}",
    }


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"examples.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_examples", html=html, css=css, js=js)
