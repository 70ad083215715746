"""The columns of the study that is open, as the search and the colours know them, and their words."""

from typing import Any

import pandas as pd
import streamlit as st

from app.shared import chunk_colours
from app.shared.chosen_dictionary import DICTIONARY
from app.shell import selection, studies
from app.shell.vocabulary import category
from backend.search.columns import CORRECTED, KnownColumns, NoColumn, known_columns
from backend.store.notes import stamp
from backend.store.search_queries import Column
from backend.store.store import Store


def columns(store: Store) -> KnownColumns:
    """Those of the study: tags by the source that is chosen, features of the dictionary that is."""
    source = selection.checked(chunk_colours.TAGS, store.tag_sources())
    return _columns(
        store, str(store.generation), store.published_at, stamp(store.path), source, selection.get(DICTIONARY)
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def _columns(
    _store: Store,
    generation: str,
    published_at: str,
    said: tuple[int, int],
    source: str | None,
    dictionary: str | None,
) -> KnownColumns:
    choices = studies.ask(_store.importance_choices), studies.ask(_store.geometry_choices)
    return known_columns(_store, source=source, dictionary=dictionary, importance=choices[0], geometry=choices[1])


def values(store: Store, column: Column) -> pd.Series:
    """Of every chunk its value of the column, by its id; missing where unknown."""
    return _values(store, column, str(store.generation), store.published_at, repr(column))


@st.cache_data(max_entries=32, show_spinner=False)
def _values(_store: Store, _column: Column, generation: str, published_at: str, column: str) -> pd.Series:
    return _store.column_values(_column).set_index("chunk_id")["value"]


def named(known: KnownColumns, name: str) -> Column | None:
    """None where there is none of this name."""
    try:
        return known[name]
    except NoColumn:
        return None


def axis(column: Column) -> str:
    """Label and unit."""
    return f"{column.label} ({column.unit})" if column.unit else column.label


def meaning(column: Column) -> str:
    """What it is, in a sentence or two."""
    return f"{axis(column)}. {column.meaning}" if column.meaning else axis(column)


def word(column: Column, stored: Any) -> str | None:
    """What a stored word is called: as it may be said in a query, a tag by its own words. None where it is unknown."""
    if stored is None or pd.isna(stored):
        return None
    if column.name.partition("@")[0] == "tag":
        tag, mark, _ = str(stored).partition(CORRECTED)
        return f"{category(tag)}{mark}"
    said = (name for name, meant in column.words or () if meant == (stored,))
    return next(said, str(stored))
