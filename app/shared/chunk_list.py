"""A table of chunks to go to."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_chunk
from app.shared.clicks import picked_row
from app.shell.data_table import data_table
from app.shell.untrusted import one_line


def three_digits(columns: Mapping[str, Any] | pd.DataFrame) -> dict[str, Any]:
    """How a table writes its numbers that are not whole: three digits, however small they are."""
    is_real = {name: pd.api.types.is_float_dtype(pd.Series(values)) for name, values in columns.items()}
    return {name: st.column_config.NumberColumn(format="%.3g") for name, real in is_real.items() if real}


def go_table(rows: pd.DataFrame, values: Mapping[str, Any], *, key: str, own: str) -> None:
    """Chunks to go to: choosing a row selects its chunk."""

    def go() -> None:
        if (picked := picked_row(key, len(rows))) is not None:
            chosen_chunk.go(rows["chunk_id"].iloc[picked])

    texts = [one_line(text, 160) for text in rows["text"]]
    where = {"CoT": ["this one" if cot == own else "another" for cot in rows["cot_id"]]} if "cot_id" in rows else {}
    data_table(
        pd.DataFrame({**values, "chunk": (rows["chunk_index"] + 1).tolist(), **where, "text": texts}),
        hide_index=True,
        column_config=three_digits(values),
        row_height=30,
        height="content" if len(rows) <= 15 else 480,
        key=key,
        on_select=go,
        selection_mode="single-row",
    )
