"""How many features each kind of reasoning word has, and of which model, beside what the dictionary's nulls give."""

import pandas as pd
import streamlit as st

from app.categories.reasoning_words import scheme
from app.shared import chosen_dictionary, feature_rows
from app.shared.untrained_nulls import say_undone
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_table import data_table
from app.shell.numbers import interval, number
from backend.cot.reasoning import TARGETS
from backend.crosscoder.null_bands import LEVEL
from backend.crosscoder.null_kinds import PAIRS, TWIN
from backend.crosscoder.reasoning_bands import reasoning_bands
from backend.statistics.intervals import Interval, beyond
from backend.store.store import Store

_QUANTITIES = {"share": "share of the features", "nrn": "mean NRN", "lift": "mean lift"}


def draw(here: Here, store: Store) -> None:
    """Of each kind of word the share of features, their mean NRN and their mean lift, with the null pairs' band."""
    dictionary, on = here.dictionary, here.once(scheme)
    if not chosen_dictionary.compares(dictionary):
        st.caption("Null pairs stand beside a dictionary of two models; this one reads one.")
        return
    norm = selection.get(feature_rows.NORM) or "l1"
    live = here.features[here.features["frequency"] > 0]
    nulls = studies.ask(store.null_reasoning, dictionary_id=dictionary.dictionary_id)
    rows = reasoning_bands(live, nulls, on, list(TARGETS), norm=norm)
    data_table(
        words_table(rows, norm), hide_index=True, height="content", row_height=28, key=keys.of("reasoning_features")
    )
    st.caption(
        "A feature is of the kind of word on which it fires most, relative to how often it fires (a lift above 1, on at"
        " least 5 tokens); live features alone. Band: where the share of as many features of a null pair lies with"
        f" {LEVEL:.0%} (beta-binomial), of a mean the central {LEVEL:.0%} of means of as many features of that kind;"
        " the widest of their kinds. By chance: the same of a frozen decoder, along whose directions nothing was"
        " learned. Intervals: 95 %, Wilson's of a share, bootstrap of a mean, as if features were independent."
    )
    if not nulls["null"].isin(PAIRS).any():
        say_undone(
            store,
            dictionary,
            "null_evidence",
            "null pair",
            "it is not known how many features of each kind training alone gives",
            PAIRS,
        )
    elif not (nulls["null"] == TWIN).any():
        st.caption("No frozen-decoder twin was trained, so what arises by chance is unknown.")


def words_table(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Rows of `reasoning_bands` in words."""
    outside = [beyond(row.value, Interval(row.band_low, row.band_high)) for row in rows.itertuples()]
    return pd.DataFrame(
        {
            "kind of word": rows["category"],
            "quantity": [
                f"{_QUANTITIES[name]}, {norm.upper()}" if name == "nrn" else _QUANTITIES[name]
                for name in rows["quantity"]
            ],
            "value": [number(value) for value in rows["value"]],
            "95 %": [interval(row.low, row.high) for row in rows.itertuples()],
            "band of the null pairs": [interval(row.band_low, row.band_high) for row in rows.itertuples()],
            "beyond it": [
                "unknown" if is_out is None else "" if not is_out else "above" if row.value > row.band_high else "below"
                for is_out, row in zip(outside, rows.itertuples(), strict=True)
            ],
            "n": [f"{row.n:,} of {row.of:,}" for row in rows.itertuples()],
            "n of the null pairs": [_n(row.n_null, row.of_null) for row in rows.itertuples()],
            "by chance (frozen decoder)": [_n(row.n_twin, row.of_twin) for row in rows.itertuples()],
        }
    )


def _n(n: int, of: int) -> str:
    return f"{n:,} of {of:,} ({n / of:.1%})" if of else "unknown"
