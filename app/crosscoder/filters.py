"""Which features are shown, as a person filters them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary, feature_filters
from app.shared.feature_filters import COLUMNS, NOT_KNOWN, Between, Filter, Filters
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.fields import Field, declare
from app.shell.vocabulary import CATEGORIES, category
from backend.models.names import role_words

FILTERS = declare(Field("feature_filters", "filters of the features", None, of="dictionary"))
MOST_ROWS = 20_000  # of a table or marks of a chart that a browser is given


def chosen_filters() -> Filters:
    """Those of the selection. A text that is none is forgotten, and noted."""
    text = selection.get(FILTERS)
    if text is None:
        return {}
    try:
        return feature_filters.parse(text)
    except ValueError:
        selection.forget_unknown(FILTERS)
        return {}


@dataclass(frozen=True)
class Filtered:
    """The filters in force, and the features that pass them."""

    filters: Filters
    kept: pd.DataFrame


def filtered(here: Here) -> Filtered:
    filters = filter_controls(here.features, here.dictionary)
    return Filtered(filters, here.features[feature_filters.passing(here.features, filters)])


def filter_controls(rows: pd.DataFrame, dictionary: pd.Series) -> Filters:
    """Which columns are filtered by, and how; returns the filters in force."""
    columns = columns_of(dictionary)
    filters = {column: given for column, given in chosen_filters().items() if column in columns}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.multiselect(
            "Filter by",
            columns,
            format_func=lambda name: COLUMNS[name].label,
            placeholder="anything known of a feature",
            width=420,
            **selection.following("filter_columns", list(filters), _choose_columns, initial="default"),
        )
        for column, given in filters.items():
            _FILTER_WIDGETS[COLUMNS[column].holds](column, given, rows)
        if filters:
            st.button("Clear", on_click=lambda: choose({}), icon=":material/close:", key=keys.of("clear_filters"))
    return filters


def columns_of(dictionary: pd.Series) -> list[str]:
    """What can be known of its features."""
    return [name for name, column in COLUMNS.items() if chosen_dictionary.compares(dictionary) or not column.compares]


def _bounds(column: str, given: Between, rows: pd.DataFrame) -> None:
    for end, words in (("low", "at least"), ("high", "at most")):

        def take(value: float | None, end: str = end) -> None:
            before = chosen_filters().get(column)
            _change(column, replace(before if isinstance(before, Between) else Between(), **{end: value}))

        followed = selection.following(f"filter_{column}_{end}", getattr(given, end), take)
        st.number_input(
            f"{COLUMNS[column].label} {words}", format="%g", step=0.01, width=150, placeholder="any", **followed
        )


def _words(column: str, given: tuple[str, ...], rows: pd.DataFrame) -> None:
    options = [*sorted(rows[column].dropna().unique()), NOT_KNOWN]
    followed = selection.following(
        f"filter_{column}",
        [word for word in given if word in options],
        lambda words: _change(column, tuple(words)),
        initial="default",
    )
    st.multiselect(COLUMNS[column].label, options, format_func=word, width=280, placeholder="any", **followed)


def _text(column: str, given: str, rows: pd.DataFrame) -> None:
    followed = selection.following(f"filter_{column}", given, lambda words: _change(column, words))
    st.text_input(f"{COLUMNS[column].label} contains", max_chars=60, width=220, **followed)


_FILTER_WIDGETS: dict[str, Callable[[str, Any, pd.DataFrame], None]] = {
    "number": _bounds,
    "word": _words,
    "text": _text,
}


def _choose_columns(columns: list[str]) -> None:
    before = chosen_filters()
    choose({column: before.get(column, feature_filters.nothing(column)) for column in columns})


def _change(column: str, given: Filter) -> None:
    choose(chosen_filters() | {column: given})


def choose(filters: Filters) -> None:
    selection.choose({FILTERS: feature_filters.as_text(filters) or None})


def word(name: str) -> str:
    return "unknown" if name == NOT_KNOWN else category(name) if name in CATEGORIES else role_words(name)
