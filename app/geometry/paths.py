"""Paths of chains of thought through their chunks' activations, and whether those of correct ones differ."""

import pandas as pd
import streamlit as st

from app.figures.geometry_paths import outcomes_by_layer, path_by_length
from app.shared import chosen_stream
from app.shared.model_names import named
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import count, interval, number
from app.shell.untrusted import for_markdown, one_line
from backend.feature_geometry.path_outcomes import COMPARISONS, MEASURES
from backend.feature_geometry.verdicts import ALPHA, compared
from backend.store.store import Store

_WORDS = {  # label, unit, short unit
    "progress": ("Progress", "net displacement / path length", "share"),
    "curvature": ("Curvature", "mean turning angle, radians", "radians"),
    "effective_dimension": ("Effective dimension", "participation ratio of the steps", "dimensions"),
}
MEASURE = declare(Field("path_measure", "measure of paths", MEASURES, of=None))
_ASIDE = {"correct": -0.12, "wrong": 0.12}
_MATCHED = "matched"


def walked(here: Here) -> Missing | None:
    """A path of a chain."""
    return None if len(here.once(_places)) else undone(here.store.path, "paths")


def _places(here: Here) -> pd.DataFrame:
    return here.store.path_places()


def _measure(here: Here) -> str:
    return selection.pick(MEASURE, "Measure", show=lambda name: _WORDS[name][0], width=320)


def draw_lengths(here: Here, store: Store) -> None:
    """The chosen measure of every CoT over its number of chunks, beside both nulls."""
    measure = here.once(_measure)
    stream = chosen_stream.pick(store, here.once(_places), width=420)
    rows = store.paths_at(stream.model, stream.layer or 0)
    verdict = rows["is_correct"].map({True: "correct", False: "wrong"}).fillna("no verdict")
    labels = [f"{one_line(str(row.question), 60)} (sample {row.sample + 1})" for row in rows.itertuples()]
    drawn = rows.assign(
        value=rows[measure],
        shuffled=rows[f"shuffled_{measure}"],
        walk=rows[f"walk_{measure}"],
        verdict=verdict,
        label=labels,
    )
    data_figure(
        path_by_length(drawn, axis=f"{_WORDS[measure][0]}, {_WORDS[measure][1]}", dodge=_ASIDE),
        key=keys.of("paths_lengths"),
        config={"displayModeBar": False},
    )
    st.markdown(_said_of_length(drawn, measure))


def _said_of_length(rows: pd.DataFrame, measure: str) -> str:
    """What paths have, what their own chunks in random order have, and walks of as many."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return ""
    excess = (known["value"] - known["shuffled"]).dropna()
    rho = known["value"].corr(known["n_chunks"], method="spearman") if known["n_chunks"].nunique() > 1 else None
    return (
        f"This study: {_WORDS[measure][0].lower()} has a median of {number(known['value'].median())} over"
        f" {count(len(known))} CoTs of at least 3 chunks, and a rank correlation with the number of chunks of"
        f" {number(rho)}. By chance: the same chunks in random order have {number(known['shuffled'].median())}, random"
        f" walks of as many steps with the layer's step covariance {number(known['walk'].median())}. In its own order a"
        f" path differs from its random orders by {number(excess.median())} in the median, upwards in"
        f" {count((excess > 0).sum())} of {count(len(excess))} CoTs."
    )


def draw_outcomes(here: Here, store: Store) -> None:
    """Correct less wrong CoTs, by layer, at any and at equal length."""
    measure, rows = here.once(_measure), compared(named(store, store.path_outcomes()))
    own = rows[rows["measure"] == measure]
    own = pd.concat([own[own["comparison"] == name] for name in COMPARISONS])
    n = own[own["comparison"] == _MATCHED].groupby("model_id")[["n_correct", "n_wrong"]].max()
    panels = [_panel(row.model, n, row.model_id) for row in own.itertuples()]
    labels = [COMPARISONS[name].label for name in own["comparison"]]
    data_figure(
        outcomes_by_layer(own.assign(panel=panels, label=labels), axis=_difference(measure)),
        key=keys.of("paths_outcomes"),
        config={"displayModeBar": False},
    )
    for model, part in own.groupby("model", sort=False):
        st.markdown(_said(model, part, rows))
    st.caption(
        "Jiang et al. (2026, arXiv:2603.10384) report that correct traces have high progress and stable curvature,"
        " Masoomi et al. (2026, arXiv:2607.01571) that geometry predicts task hardness and correctness. Their abstracts"
        " name no null of equal length, and longer chains have less progress and are wrong more often; another study"
        " (arXiv:2605.15454) finds that length alone shapes such statistics, and corrects for it first."
    )


def _difference(measure: str) -> str:
    label, _, unit = _WORDS[measure]
    return f"{label}: correct − wrong, {unit}"


def _panel(model: object, n: pd.DataFrame, model_id: str) -> str:
    counts = n.loc[model_id] if model_id in n.index else {"n_correct": 0, "n_wrong": 0}
    return f"{model}: equal length {counts['n_correct']} correct, {counts['n_wrong']} wrong"


def _said(model: object, rows: pd.DataFrame, every: pd.DataFrame) -> str:
    """What length alone makes, what is left at equal length, and what would have been found."""
    name = f"**{for_markdown(str(model), 60)}**"
    known = rows[rows["difference"].notna()]
    matched, raw = known[known["comparison"] == _MATCHED], known[known["comparison"] == "unmatched"]
    if matched.empty:
        return f"{name}: unknown at equal length, because no number of chunks has both a correct and a wrong CoT."
    best = matched.loc[matched["p"].idxmin()]
    claimed = matched[matched["adjusted"] <= ALPHA]
    n_tests = int(every.loc[every["comparison"] == _MATCHED, "p"].notna().sum())
    power = dict(zip(best["planted"], best["power"], strict=True))
    words = (
        f"{name}: at any length the two differ at {(raw['p'] <= ALPHA).sum()} of {len(raw)} layers (p ≤ {ALPHA});"
        f" at equal length the smallest p is {number(best['p'])} (layer {best['layer']}: {number(best['difference'])}"
        f" {interval(best['low'], best['high'])}, n = {best['n_correct']} correct and {best['n_wrong']} wrong CoTs in"
        f" {best['n_strata']} lengths), {number(best['adjusted'])} adjusted over {n_tests} (Holm)."
    )
    found = ", ".join(f"{share:.0%} of {size:g} SD" for size, share in power.items())
    return words + (
        f" So a difference beyond length is {'shown at layer ' + _layers(claimed) if len(claimed) else 'not shown'}."
        f" Of planted differences this test finds at p ≤ {ALPHA}: {found}."
    )


def _layers(rows: pd.DataFrame) -> str:
    return ", ".join(str(layer) for layer in rows["layer"])
