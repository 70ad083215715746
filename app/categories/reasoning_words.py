"""The parts of the Categories page: which features fire on a reasoning category's target words, and what the words lose
without them.
"""

import json

import pandas as pd
import streamlit as st

from app.figures.crosscoder import ablation_effects, category_frequencies
from app.shared import chosen_dictionary, feature_rows
from app.shared.clicks import picked_row
from app.shell import keys, selection, studies
from app.shell.missing import Missing, command, say
from app.shell.numbers import interval, number
from app.shell.untrusted import show
from backend.cot.reasoning import TARGETS
from backend.statistics.intervals import wilson
from backend.store.labels import labels
from backend.store.store import Store

_SCHEMES = {"reasoning": "the target words' first tokens", "before_reasoning": "the tokens that predict them"}
_MEASURES = {"logit": "its logit", "log_probability": "its log-probability"}
_TOP = 200  # rows of the table


def scheme() -> str:
    """On which tokens features are counted."""
    words = "; ".join(f"{name}: {', '.join(targets)}" for name, targets in TARGETS.items())
    return selection.pick(
        "scheme",
        "Firing on",
        list(_SCHEMES),
        show=_SCHEMES.__getitem__,
        widget=st.segmented_control,
        required=True,
        help=(
            f"Target words ({words}) in the study's CoTs, in any case, without prompts. What fires on a word itself"
            " says how the model reads it; only what fires before it can have a part in writing it."
        ),
    )


# How often features fire


def frequencies(store: Store, dictionary: pd.Series, scheme: str) -> None:
    """Firing frequency on each category's target words against NRN, and the features of one category as a table."""
    rates = studies.ask(store.category_frequencies, dictionary_id=dictionary.dictionary_id, scheme=scheme)
    if rates.empty:
        if studies.ask(store.features, dictionary_id=dictionary.dictionary_id).empty:
            say(Missing("Its features have not been measured yet.", command(store.path, "features")))
        else:
            st.caption("No CoT of the study has a target word, so nothing is known of what fires there.")
        return
    norm = "l1"
    if chosen_dictionary.compares(dictionary):
        norm = selection.pick(
            "norm", "Decoder norm of NRN", list(feature_rows.NORMS), show=feature_rows.NORMS.get, width=260
        )
        key = keys.of(f"category_frequencies_{scheme}_{norm}")
        st.plotly_chart(
            category_frequencies(rates, norm=norm),
            key=key,
            selection_mode="points",
            config={"scrollZoom": True},
            on_select=lambda: chosen_dictionary.open_clicked(key, dictionary),
        )
        st.caption(
            "Each mark is a feature on one category; click it to open the feature. Dashed: NRN 0.5, equal norms."
        )
    else:
        st.caption("This dictionary reads one model, so its features have no NRN.")
    if absent := [
        f"{name} ({', '.join(words)})" for name, words in TARGETS.items() if not (rates["category"] == name).any()
    ]:
        st.caption(f"In no CoT of the study: {'; '.join(absent)}. Nothing is known of what fires there.")
    _table(store, dictionary, rates, norm)


def _table(store: Store, dictionary: pd.Series, rates: pd.DataFrame, norm: str) -> None:
    present = [name for name in TARGETS if (rates["category"] == name).any()]
    name = selection.pick("reasoning", "Category", present, widget=st.segmented_control, required=True)
    of_category = rates[rates["category"] == name]
    features, given = (
        studies.ask(store.features, dictionary_id=dictionary.dictionary_id),
        labels(store.path, dictionary.dictionary_id),
    )
    found = top_table(of_category, features, given, norm=norm if chosen_dictionary.compares(dictionary) else None)
    key = keys.of(f"category_table_{name}_{norm}")

    def go() -> None:
        if (picked := picked_row(key, len(found))) is not None:
            chosen_dictionary.open_feature(int(found["feature"].iloc[picked]))

    st.dataframe(found, hide_index=True, height=320, row_height=28, key=key, selection_mode="single-row", on_select=go)
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
            "class": rows["class"].fillna("unknown"),
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


# What the words lose


def ablations(store: Store, dictionary: pd.Series, scheme: str) -> None:
    """Change of the target token's logit when features are zeroed, in both models, with its control."""
    st.subheader("Zeroing features")
    if not chosen_dictionary.compares(dictionary):
        st.caption("Features are chosen for zeroing by NRN, which a dictionary of one model does not have.")
        return
    rows = studies.ask(store.feature_ablations, dictionary_id=dictionary.dictionary_id)
    if rows.empty:
        what = "No features have been zeroed yet, so what the target words lose without them is unknown."
        say(Missing(what, command(store.path, "ablations")))
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        measure = selection.pick(
            "measure",
            "Change of",
            list(_MEASURES),
            show=_MEASURES.__getitem__,
            widget=st.segmented_control,
            required=True,
        )
        bounds = [f"{above:g}" for above in sorted(rows["nrn_above"].unique())]
        above = selection.pick("above", "NRN above", bounds, width=140) if len(bounds) > 1 else bounds[0]
    part = rows[(rows["measure"] == measure) & (rows["scheme"] == scheme) & (rows["nrn_above"] == float(above))]
    st.plotly_chart(
        ablation_effects(part, measure=measure), key=keys.of("ablation_effects"), config={"displayModeBar": False}
    )
    st.caption(_how(part, scheme, above))
    with st.expander("The numbers"):
        st.dataframe(ablation_table(part), hide_index=True, row_height=28, height=420)
        st.caption(
            "Taken out: mean over tokens of ‖what is zeroed‖ / ‖residual stream‖. Fires on: mean share of the study's"
            " CoT tokens. Where the control takes out less, a smaller effect of it says little."
        )


def _how(rows: pd.DataFrame, scheme: str, above: str) -> str:
    facts = json.loads(rows["parameters"].iloc[0])
    n_cots, n_problems = (
        f"{int(rows[column].min())} to {int(rows[column].max())}" for column in ("n_cots", "n_problems")
    )
    return (
        f"Zeroed: the features with NRN (L1) > {above} that are among the k % of all features that fire most often on"
        f" {_SCHEMES[scheme]}; at every token but the first, layer {facts['layer']}, with the reconstruction's error"
        " kept. Measured: the logit of the target word's first token where it is predicted, teacher-forced, at most"
        f" {facts['targets']} tokens a category ({n_cots} CoTs of {n_problems} problems). Bars: 95 %, bootstrap over"
        f" problems. Random: for each CoT one of {facts['sets']} sets of as many other features that fire about as"
        " often; its bars are over these sets too. A logit may move with all others; a log-probability does not."
    )


def ablation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a category, model and k, in words: unknown is said to be unknown."""
    keys = ["category", "role", "top_percent"]
    both = rows[rows["control"] == "features"].merge(
        rows[rows["control"] == "random"], on=keys, suffixes=("", "_random")
    )
    return pd.DataFrame(
        {
            "category": both["category"],
            "model": both["role"],
            "top %": [f"{percent:g}" for percent in both["top_percent"]],
            "features": both["n_features"],
            "before": [number(value) for value in both["before"]],
            "change": [_effect(row.effect, row.ci_low, row.ci_high) for row in both.itertuples()],
            "random": [_effect(row.effect_random, row.ci_low_random, row.ci_high_random) for row in both.itertuples()],
            "taken out": [number(value) for value in both["removed"]],
            "by random": [number(value) for value in both["removed_random"]],
            "fires on": [number(value) for value in both["frequency"]],
            "random fires on": [number(value) for value in both["frequency_random"]],
            "n tokens": both["n_targets"],
            "CoTs": both["n_cots"],
            "problems": both["n_problems"],
        }
    )


def _effect(effect: float, low: float, high: float) -> str:
    return "unknown" if pd.isna(effect) else f"{effect:+.3g} {interval(low, high)}"


def counted(dictionary: pd.Series) -> None:
    """How many tokens the frequencies rest on."""
    judged = (
        "not measured yet"
        if pd.isna(dictionary.n_judged)
        else f"measured on {int(dictionary.n_judged):,} tokens of the study's CoTs"
    )
    show(f"{chosen_dictionary.named(dictionary)}, {judged}")
