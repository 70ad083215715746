"""Which features fire on a reasoning category's target words."""

import pandas as pd
import streamlit as st

from app.categories.reasoning_words import scheme
from app.figures.crosscoder import category_frequencies
from app.shared import chosen_dictionary, feature_rows
from app.shared.clicks import picked_row
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import say, undone
from app.shell.more import more
from app.shell.numbers import number
from backend.cot.reasoning import TARGETS
from backend.crosscoder.kinds import firing_of
from backend.models.names import role_words
from backend.statistics.intervals import wilson
from backend.store.labels import labels
from backend.store.store import Store

REASONING = declare(Field("reasoning_category", "category of the table", TARGETS))
_TOP = 200  # rows of the table


def draw(here: Here, store: Store) -> None:
    """Firing frequency on each category's target words against NRN, and the features of one category as a table."""
    dictionary, on = here.dictionary, here.once(scheme)
    rates = studies.ask(store.category_frequencies, dictionary_id=dictionary.dictionary_id, scheme=on)
    if rates.empty:
        if studies.ask(store.features, dictionary_id=dictionary.dictionary_id).empty:
            say(undone(store.path, "features"))
        else:
            st.caption("No CoT of the study has a target word, so nothing is known of what fires there.")
        return
    norm = "l1"
    if chosen_dictionary.compares(dictionary):
        with more(feature_rows.NORM):
            norm = selection.pick(feature_rows.NORM, "Decoder norm of NRN", show=feature_rows.NORMS.__getitem__)
        key = keys.of(f"category_frequencies_{on}_{norm}")
        data_figure(
            category_frequencies(rates, norm=norm),
            key=key,
            selection_mode="points",
            config={"scrollZoom": True},
            on_select=lambda: chosen_dictionary.choose_clicked(key, dictionary),
        )
        st.caption(
            "Each mark is a feature on one category; click it to select the feature. Dashed: NRN 0.5, equal norms."
        )
    else:
        st.caption("This dictionary reads one model, so its features have no NRN.")
    if (firing := firing_of(dictionary.kind, dictionary.parameters)) is not None:
        st.caption(firing.words)
    if absent := [
        f"{name} ({', '.join(words)})" for name, words in TARGETS.items() if not (rates["category"] == name).any()
    ]:
        st.caption(f"In no CoT of the study: {'; '.join(absent)}. Nothing is known of what fires there.")
    _table(store, dictionary, rates, norm)


def _table(store: Store, dictionary: pd.Series, rates: pd.DataFrame, norm: str) -> None:
    present = [name for name in TARGETS if (rates["category"] == name).any()]
    name = selection.pick(REASONING, "Category", present, widget=st.segmented_control, required=True)
    of_category = rates[rates["category"] == name]
    features, given = (
        studies.ask(store.features, dictionary_id=dictionary.dictionary_id),
        labels(store.path, dictionary.dictionary_id),
    )
    found = top_table(of_category, features, given, norm=norm if chosen_dictionary.compares(dictionary) else None)
    key = keys.of(f"category_table_{name}_{norm}")

    def go() -> None:
        if (picked := picked_row(key, len(found))) is not None:
            chosen_dictionary.choose_feature(int(found["feature"].iloc[picked]))

    data_table(found, hide_index=True, height=320, row_height=28, key=key, selection_mode="single-row", on_select=go)
    st.caption(
        f"The {len(found)} features that fire most often there, of n = {int(of_category['n_tokens'].iloc[0]):,} tokens;"
        " Wilson's 95 % intervals, as if tokens were independent. “Anywhere” is the null: how often the feature fires"
        " on any token of the study's CoTs. Click a row to open the feature."
    )


def top_table(rates: pd.DataFrame, features: pd.DataFrame, given: pd.DataFrame, *, norm: str | None) -> pd.DataFrame:
    """The features that fire most often on one category, in words; `given` are the labels people gave."""
    rows = rates.sort_values(["frequency", "mean_activation", "feature"], ascending=[False, False, True]).head(_TOP)
    rows = rows.merge(
        features[["feature", "frequency"]].rename(columns={"frequency": "anywhere"}), on="feature", how="left"
    )
    rows = rows.merge(given[["feature", "label"]], on="feature", how="left")
    columns = {"feature": rows["feature"], "label": rows["label"].fillna("")}
    if norm:
        columns |= {
            f"NRN, {norm.upper()}": [number(value) for value in rows[f"nrn_{norm}"]],
            "class": rows["class"].fillna("unknown").map(role_words),
        }
    return pd.DataFrame(
        columns
        | {
            "fires there": [f"{row.frequency:.1%}" for row in rows.itertuples()],
            "95 %": [
                "[{:.1%}, {:.1%}]".format(*wilson(int(row.n_fired), int(row.n_tokens))) for row in rows.itertuples()
            ],
            "anywhere": ["unknown" if pd.isna(share) else f"{share:.2%}" for share in rows["anywhere"]],
            "times as often": [
                number(row.frequency / row.anywhere) if row.anywhere else "unknown" for row in rows.itertuples()
            ],
            "mean f there": [number(value) for value in rows["mean_activation"]],
        }
    )
