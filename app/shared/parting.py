"""How far base and distilled model are apart at a layer: one line beside whatever chooses a layer, and the way to the
page that shows all layers. A study that was not measured has no such line.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from app.shell import navigation, selection, studies
from app.shell.numbers import number
from backend.store.store import Store

PART = "parting"  # of the page Geometry
_PART_OF_LINK = "geometry_part"


def at_layer(store: Store, model: str | None, layer: int | None) -> str | None:
    """The line in Markdown, with its link; None where nothing is known of this layer of a pair with this model."""
    rows = studies.ask(store.divergence_beside)
    of_pair = (rows["base_model_id"] == model) | (rows["distilled_model_id"] == model)
    words = in_words(rows[of_pair & (rows["layer"] == layer)])
    return words and f"{words} [Where the models part]({_link()})"


def caption(store: Store, model: str | None, layer: int | None) -> None:
    """The line, below what chooses the layer."""
    if words := at_layer(store, model, layer):
        st.caption(words)


def in_words(rows: pd.DataFrame) -> str | None:
    """What rows with `measure` and `value` of one layer say; of several pairs the range."""
    norms, alike = (rows.loc[rows["measure"] == name, "value"].dropna() for name in ("relative_norm", "cka"))
    if norms.empty:
        return None
    if norms.max() == 0:
        return "Base and reasoner are equal here, bit for bit."
    cka = "" if alike.empty else f", CKA {_span(alike, 4)}"
    return f"Base and reasoner differ here by {_span(norms)} (relative norm){cka}."


def _span(values: pd.Series, digits: int = 3) -> str:
    low, high = (f"{value:.{digits}g}" if value else number(value) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _link() -> str:
    chosen: Mapping[str, str] = selection.values() | {_PART_OF_LINK: PART}
    return f"{navigation.GEOMETRY}?{urlencode(chosen)}"
