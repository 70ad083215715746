"""Tables of data, in one way: a cell that is unknown is empty, not the word None."""

from typing import Any

import streamlit as st


def data_table(rows: Any, **how: Any) -> Any:
    """`st.dataframe` of the rows, `how` as there: numbers sort, and a NULL, NaN or None among them is an empty cell."""
    return st.dataframe(rows, placeholder="", **how)
