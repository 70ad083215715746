"""What the target words lose without the features that fire there."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from app.categories.reasoning_words import SCHEMES, scheme
from app.figures.crosscoder import ablation_effects
from app.shared import chosen_dictionary
from app.shared.untrained_nulls import say_undone
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import say, undone
from app.shell.more import more
from app.shell.numbers import count, interval, number
from backend.crosscoder.null_kinds import TWIN
from backend.models.names import role_words
from backend.statistics.intervals import Interval, beyond, prediction
from backend.store.store import Store

_PLACE = ["role", "ranked", "category", "scheme", "nrn_above", "top_percent", "measure"]
FEW = 50  # target tokens: Baek & Tegmark take 100
REPORTED = (
    "Baek & Tegmark (2025, figure 2) zero, over 100 target tokens a category, features with NRN > 0.5 among the top k %"
    " by firing frequency, and report how far the target's logit falls in the base and in the distilled model."
)
_MEASURES = {"logit": "its logit", "log_probability": "its log-probability"}
MEASURE = declare(Field("ablation_measure", "measure of zeroing", _MEASURES))
_RANKED = {"firing": "the features that fire there", "all": "all features (as published)"}
RANKED = declare(Field("ablation_ranking", "features of which k % are zeroed", _RANKED, before="k % of "))
ABOVE = declare(Field("ablated_above", "NRN of what is zeroed", None, of="dictionary"))


def draw(here: Here, store: Store) -> None:
    """Change of the target token's logit when features are zeroed, in both models, with its control."""
    dictionary, on = here.dictionary, here.once(scheme)
    if not chosen_dictionary.compares(dictionary):
        st.caption("Features are chosen for zeroing by NRN, which a dictionary of one model does not have.")
        return
    rows = studies.ask(store.feature_ablations, dictionary_id=dictionary.dictionary_id)
    if rows.empty:
        say(undone(store.path, "ablations"))
        return
    there = [name for name in _RANKED if (rows["ranked"] == name).any()]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        measure = selection.pick(
            MEASURE,
            "Change of",
            show=_MEASURES.__getitem__,
            widget=st.segmented_control,
            required=True,
        )
        with more(RANKED, ABOVE):
            ranked = selection.pick(RANKED, "k % of", there, elsewhere=list(_RANKED), show=_RANKED.__getitem__)
            rows = rows[rows["ranked"] == ranked]
            bounds = [f"{above:g}" for above in sorted(rows["nrn_above"].unique())]
            above = selection.pick(ABOVE, "NRN above", bounds) if len(bounds) > 1 else bounds[0]
    part = rows[(rows["measure"] == measure) & (rows["scheme"] == on) & (rows["nrn_above"] == float(above))]
    twin = studies.ask(store.twin_ablations, dictionary_id=dictionary.dictionary_id)
    part = beside_twin(part, twin)
    data_figure(
        ablation_effects(part, measure=measure), key=keys.of("ablation_effects"), config={"displayModeBar": False}
    )
    if "firing" not in there:
        say(undone(store.path, "firing_ablations"))
    if words := _alike(part):
        st.caption(words)
    st.caption(f"{REPORTED} {said(part)}")
    if twin.empty:
        say_undone(
            store,
            dictionary,
            "twin_ablations",
            "frozen-decoder twin",
            "the only control is this dictionary's own random features",
            (TWIN,),
        )
    else:
        st.caption(f"{against_twin(part)} {_BAND}")
    st.caption(_how(part, on, above))
    with st.expander("The numbers"):
        data_table(ablation_table(part), hide_index=True, row_height=28, height=420)
        st.caption(
            "Taken out: mean over tokens of ‖what is zeroed‖ / ‖residual stream‖. Fires on: mean share of the study's"
            " CoT tokens. Where the control takes out less, a smaller effect of it says little."
        )


_BAND = (
    "Shaded: where the effect of one more set of as many features of the frozen-decoder twin would lie (95 %, Student's"
    " t over its sets, each on its share of the CoTs). They fire, each about as often as the one it stands for; along"
    " their directions nothing was learned."
)


def beside_twin(rows: pd.DataFrame, twin: pd.DataFrame) -> pd.DataFrame:
    """Rows of `feature_ablations` with what the twin's sets do in the same place: `twin`, its effect, `band_low` and
    `band_high`, `n_sets`, and `removed_twin`; NaN where they were not zeroed, and in the rows of random features.
    """
    bands = [prediction(effects) for effects in twin["set_effects"]]
    found = pd.DataFrame(
        {
            **{name: twin[name] for name in _PLACE},
            "control": "features",
            "twin": twin["effect"],
            "band_low": [band.low for band in bands],
            "band_high": [band.high for band in bands],
            "n_sets": [len(effects) for effects in twin["set_effects"]],
            "removed_twin": twin["removed"],
        }
    )
    return rows.merge(found.astype({"twin": float, "removed_twin": float}), on=[*_PLACE, "control"], how="left")


def against_twin(rows: pd.DataFrame) -> str:
    """Of how many choices of features the effect is beyond the twin's band, by model and category; larger k that zero
    the same set again are not counted.
    """
    own = rows[(rows["control"] == "features") & rows["effect"].notna()]
    own = own.sort_values("top_percent").drop_duplicates(["role", "category", "n_features"])
    parts = []
    for (role, name), part in own.groupby(["role", "category"], sort=True):
        known = [out for row in part.itertuples() if (out := _is_beyond(row)) is not None]
        parts.append(f"{role}, {name}: {sum(known)} of {len(known)} choices" if known else f"{role}, {name}: unknown")
    return f"Beyond the twin's band: {'; '.join(parts)}." if parts else "Nothing was zeroed beside the twin."


def _is_beyond(row: Any) -> bool | None:
    return beyond(float("nan") if pd.isna(row.effect) else row.effect, Interval(row.band_low, row.band_high))


def _alike(rows: pd.DataFrame) -> str:
    """Where larger k zero the same set again, in a sentence; empty where none does."""
    found = []
    for name, part in rows[rows["control"] == "features"].groupby("category"):
        first = part.groupby("n_features")["top_percent"].min()
        same = part[part["top_percent"] > part["n_features"].map(first)]
        if len(same):
            ks = ", ".join(f"{k:g}" for k in sorted(same["top_percent"].unique()))
            found.append(f"{name} at {ks} %")
    return f"The same set as at a smaller k, drawn there alone (“=”): {'; '.join(found)}." if found else ""


def said(rows: pd.DataFrame) -> str:
    """What zeroing most does here, beside its control, of the rows' own numbers."""
    parts = []
    own = rows[rows["control"] == "features"].dropna(subset=["effect"])
    for role, part in own.groupby("role"):
        last = part[part["n_features"] == part.groupby("category")["n_features"].transform("max")]
        last = last.drop_duplicates("category")
        apart = last[(last["ci_low"] > 0) | (last["ci_high"] < 0)]
        effects = ", ".join(
            f"{row.category} {_effect(row.effect, row.ci_low, row.ci_high)}" for row in last.itertuples()
        )
        parts.append(f"{role_words(role)}: {effects} (apart from 0: {len(apart)} of {len(last)})")
    if not parts:
        return "Here nothing was zeroed."
    fewest = int(rows["n_targets"].min())
    few = f" Of as few as {fewest} tokens little can be said." if fewest < FEW else ""
    return f"Here, with the most that is zeroed, {'; '.join(parts)}.{few}"


def _how(rows: pd.DataFrame, scheme: str, above: str) -> str:
    facts = json.loads(rows["parameters"].iloc[0])
    n_cots, n_problems = (
        f"{int(rows[column].min())} to {int(rows[column].max())}" for column in ("n_cots", "n_problems")
    )
    return (
        f"Zeroed: the features with NRN (L1) > {above} that are among the k % that fire most often on"
        f" {SCHEMES[scheme]}, of {_of_how_many(rows)}; at every token but the first, layer {facts['layer']}, with the"
        " reconstruction's error kept. Measured: the logit of the target word's first token where it is predicted,"
        f" teacher-forced, at most {facts['targets']} tokens a category ({n_cots} CoTs of {n_problems} problems). Bars:"
        " 95 %, bootstrap over problems. Random: for each CoT one of"
        f" {facts['sets']} sets of as many other features that fire about as often; its bars are over these sets too. A"
        " logit may move with all others; a log-probability does not."
    )


def _of_how_many(rows: pd.DataFrame) -> str:
    """The features of which k % are taken, with their number."""
    least, most = rows["n_ranked"].min(), rows["n_ranked"].max()
    n = "" if pd.isna(least) else f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}, by category,"
    return f"the {n} features that fire there at all" if (rows["ranked"] == "firing").all() else f"all {n} features"


def ablation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a category, model and k, in words: unknown is said to be unknown."""
    keys = ["category", "role", "top_percent"]
    both = rows[rows["control"] == "features"].merge(
        rows[rows["control"] == "random"], on=keys, suffixes=("", "_random")
    )
    return pd.DataFrame(
        {
            "category": both["category"],
            "model": both["role"].map(role_words),
            "top %": [f"{percent:g}" for percent in both["top_percent"]],
            "features": both["n_features"],
            "before": [number(value) for value in both["before"]],
            "change": [_effect(row.effect, row.ci_low, row.ci_high) for row in both.itertuples()],
            "random": [_effect(row.effect_random, row.ci_low_random, row.ci_high_random) for row in both.itertuples()],
            "twin": [number(value) for value in both["twin"]],
            "band of the twin": [interval(row.band_low, row.band_high) for row in both.itertuples()],
            "beyond it": [{None: "unknown", True: "yes", False: ""}[_is_beyond(row)] for row in both.itertuples()],
            "sets": [count(n) for n in both["n_sets"]],
            "taken out": [number(value) for value in both["removed"]],
            "by random": [number(value) for value in both["removed_random"]],
            "by the twin": [number(value) for value in both["removed_twin"]],
            "fires on": [number(value) for value in both["frequency"]],
            "random fires on": [number(value) for value in both["frequency_random"]],
            "n tokens": both["n_targets"],
            "CoTs": both["n_cots"],
            "problems": both["n_problems"],
        }
    )


def _effect(effect: float, low: float, high: float) -> str:
    return "unknown" if pd.isna(effect) else f"{effect:+.3g} {interval(low, high)}"
