"""Tables of data, in one way: a cell that is unknown is empty, not the word None, and a head says what it means."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.shell.heads import explained


def data_table(rows: Any, **how: Any) -> Any:
    """`st.dataframe` of the rows, `how` as there: numbers sort, and a NULL, NaN or None among them is an empty cell.
    Heads that have words in `heads` bear them as help.
    """
    columns = rows.columns if isinstance(rows, pd.DataFrame) else rows if isinstance(rows, Mapping) else ()
    how["column_config"] = explained(columns, how.get("column_config"))
    return st.dataframe(rows, placeholder="", **how)
