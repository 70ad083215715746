"""The features of highest and of lowest NRN as a table: what each might be called, and what the ends do."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from app.crosscoder.classes import how_compared
from app.shared import chosen_dictionary
from app.shared.clicks import picked_row
from app.shared.feature_rows import suggested_names
from app.shared.views import Here
from app.shell import keys
from app.shell.data_table import data_table
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import category
from backend.crosscoder.extremes import extremes
from backend.store.store import Store

EACH = 100  # features of each end
_ENDS = {"highest": "distilled end", "lowest": "base end"}


def draw(here: Here, store: Store) -> None:
    norm = here.once(how_compared).norm
    sheet = extremes(here.features, f"nrn_{norm}", EACH)
    if sheet.empty:
        st.caption("No feature that fires has a known NRN.")
        return
    table = ends_table(sheet, suggested_names(store, here.dictionary, sheet), norm)
    key = keys.of(f"ends_{norm}")

    def go() -> None:
        if (picked := picked_row(key, len(sheet))) is not None:
            chosen_dictionary.open_feature(int(sheet["feature"].iloc[picked]))

    for words in _ENDS:
        show(what_they_do(sheet[sheet["end"] == words], here.features, _ENDS[words]))
    data_table(table, hide_index=True, height=420, row_height=28, key=key, selection_mode="single-row", on_select=go)
    st.caption(
        "Suggested: counted, not understood: the commonest of a feature's at most 20 strongest tokens with their"
        " number, tokens that its decoder row promotes, and the function tag on which it fires most, relative to how"
        " often. A person's label stands beside it where there is one. Click a row to open the feature."
    )


def ends_table(sheet: pd.DataFrame, names: Mapping[int, str], norm: str) -> pd.DataFrame:
    """Rows of `extremes` in words."""
    return pd.DataFrame(
        {
            "end": sheet["end"].map(_ENDS),
            "feature": sheet["feature"],
            f"NRN, {norm.upper()}": [number(value) for value in sheet[f"nrn_{norm}"]],
            "class": sheet["class"].fillna("unknown"),
            "fires on": [f"{share:.2%}" for share in sheet["frequency"]],
            "suggested": [names.get(int(feature), "") for feature in sheet["feature"]],
            "label": sheet["label"].fillna(""),
        }
    )


def what_they_do(end: pd.DataFrame, features: pd.DataFrame, words: str) -> str:
    """The function tags on which features of one end fire most, beside how common those are among all."""
    known = end["top_category"].dropna()
    if known.empty:
        return f"{words[:1].upper()}{words[1:]}: n = {len(end)} features, of which no top function tag is known."
    of_all = features.loc[features["frequency"] > 0, "top_category"].dropna().value_counts(normalize=True)
    told = [
        f"{category(str(tag))} {n / len(known):.0%} (all features: {of_all.get(tag, 0.0):.0%})"
        for tag, n in known.value_counts().head(4).items()
    ]
    return (
        f"{words[:1].upper()}{words[1:]}, n = {len(end)} features, {len(known)} with a top function: {', '.join(told)}."
    )
