"""The features that pass the filters."""

from typing import Any

import streamlit as st

from app.crosscoder.classes import how_compared
from app.crosscoder.filters import MOST_ROWS, columns_of, filtered, word
from app.shared import chosen_dictionary, feature_filters
from app.shared.clicks import picked_row
from app.shared.feature_filters import COLUMNS
from app.shared.feature_rows import suggested_names
from app.shared.views import Here
from app.shell import keys
from app.shell.data_table import data_table
from backend.crosscoder.top_features import EVERYWHERE
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """The features that pass the filters, to sort by a click on a head, and to open by a click on a row."""
    norm, found, dictionary, n = here.once(how_compared).norm, here.once(filtered), here.dictionary, len(here.features)
    kept, filters = found.kept, found.filters
    order = [f"nrn_{norm}", "frequency"] if chosen_dictionary.compares(dictionary) else ["frequency"]
    rows = kept.assign(is_everywhere=kept["frequency"] > EVERYWHERE).sort_values(
        ["is_everywhere", *order, "feature"], ascending=[True, *[False] * len(order), True], na_position="last"
    )
    rows = rows.head(MOST_ROWS)
    key = keys.of(f"features_{dictionary.dictionary_id}_{norm}_{feature_filters.as_text(filters)}")

    def go() -> None:
        if (picked := picked_row(key, len(rows))) is not None:
            chosen_dictionary.open_feature(rows["feature"].iloc[picked])

    columns = columns_of(dictionary)
    shown = rows[["feature", *(column for column in columns if column != "feature")]].reset_index(drop=True)
    names = suggested_names(store, dictionary, rows)
    shown.insert(1, "suggested", [names.get(int(feature), "") for feature in rows["feature"]])
    words = [column for column in columns if COLUMNS[column].holds == "word"]
    shown = shown.assign(
        **{column: [word(value) if isinstance(value, str) else None for value in shown[column]] for column in words}
    )
    st.markdown(f"**{len(kept):,} of {n:,} features**")
    data_table(
        shown,
        hide_index=True,
        height=460,
        row_height=30,
        key=key,
        on_select=go,
        selection_mode="single-row",
        column_config={column: _column(column) for column in shown.columns if column in COLUMNS},
    )
    cut = f" Only the first {MOST_ROWS:,} are listed." if len(kept) > len(rows) else ""
    st.caption(
        "Click the box before a row to open its feature, a head to sort. Features that fire on more than half of the"
        " tokens stand last. Suggested: counted alone. Empty: unknown. A lift is a ratio of frequencies." + cut
    )


def _column(name: str) -> Any:
    column = COLUMNS[name]
    if column.holds != "number":
        return st.column_config.TextColumn(column.label, help=column.meaning)
    shape = {"feature": "%d", "frequency": "percent"}.get(name, "%.1f" if name.endswith("_lift") else "%.3f")
    return st.column_config.NumberColumn(column.label, help=column.meaning, format=shape, pinned=name == "feature")
