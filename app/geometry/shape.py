"""The shape of the whole: in how many directions the activations extend, by layer and by category."""

import pandas as pd
import streamlit as st

from app.figures.geometry_shape import shape_by_category, shape_by_layer
from app.shared import chosen_stream
from app.shared.model_names import named
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import count, interval, number
from app.shell.theme import category_colour
from app.shell.untrusted import for_markdown
from app.shell.vocabulary import category
from backend.feature_geometry.shape import ALL, MEASURES
from backend.feature_geometry.verdicts import beyond
from backend.store.store import Store

MEASURE = declare(Field("shape_measure", "measure of shape", tuple(MEASURES), of=None))
POINTS = declare(Field("shape_points", "points of the cloud", ("chunks", "tokens"), of=None))
_SETTLED_BY_SPECTRUM = ("effective_rank", "participation_ratio", "corrected_participation_ratio")


def measured(here: Here) -> Missing | None:
    """A cloud whose shape was measured."""
    return None if len(_shapes(here)) else undone(here.store.path, "shape")


def _shapes(here: Here) -> pd.DataFrame:
    return here.once(_rows)


def _rows(here: Here) -> pd.DataFrame:
    return named(here.store, here.store.shapes())


def _measure(here: Here) -> str:
    return selection.pick(MEASURE, "Measure", show=lambda name: MEASURES[name].label, width=320)


def draw_layers(here: Here, store: Store) -> None:
    """The chosen measure of all chunks, or tokens, of each model, layer by layer."""
    rows, measure = _shapes(here), here.once(_measure)
    points = [kind for kind in POINTS.options if kind in set(rows["points"])]
    chosen = selection.pick(POINTS, "Points", points, width=320) if len(points) > 1 else points[0]
    own = rows[(rows["points"] == chosen) & (rows["category"] == ALL) & (rows["measure"] == measure)]
    panels = [f"{row.model}, n = {count(row.n)} {chosen}" for row in own.itertuples()]
    about = MEASURES[measure]
    data_figure(
        shape_by_layer(own.assign(panel=panels), axis=f"{about.label}, {about.unit}"),
        key=keys.of("shape_by_layer"),
        config={"displayModeBar": False},
    )
    for model, part in own.groupby("model", sort=False):
        st.markdown(_said(model, part, measure, chosen))
    st.caption(
        f"{about.literature} Intervals leave out one problem at a time (jackknife): a bootstrap would put the same"
        " points into the cloud twice."
    )


def _said(model: object, rows: pd.DataFrame, measure: str, points: str) -> str:
    """What one model's rows say beside both nulls, in sentences."""
    name = for_markdown(str(model), 60)
    known = rows[rows["value"].notna()].sort_values("layer")
    if known.empty:
        return f"**{name}**: unknown, the cloud is too small or has no such number."
    least, most = known.loc[known["value"].idxmin()], known.loc[known["value"].idxmax()]
    sides = [beyond(row.low, row.high, row.matched, row.matched_sd) for row in known.itertuples()]
    where = f"{_value(most)} at layer {most['layer']}"
    if len(known) > 1:
        where = f"from {_value(least)} at layer {least['layer']} to {where}"
    words = (
        f"**{name}**, {count(known['n'].max())} {points} of {count(known['n_problems'].max())} problems: {where}. By"
        f" chance, as many isotropic points of {count(known['d_model'].iloc[0])} values would give"
        f" {number(known['isotropic'].median())}"
    )
    if measure == "anisotropy":
        return (
            words + "; normal points of the same mean and covariance have it by construction: the mean points one way."
        )
    if measure in _SETTLED_BY_SPECTRUM:
        fall = (known["matched"] / known["value"] - 1).median()
        return words + (
            "; normal points of the same mean and covariance have it by construction"
            f" ({fall:+.1%} in the median, from there being so few points)."
        )
    below, above = sides.count(-1), sides.count(1)
    return words + (
        f", normal points of the same mean and covariance {number(known['matched'].median())}: below that it lies at"
        f" {below} of {len(known)} layers, above at {above}."
        + (" Clusters (chunks of one problem are alike) and bends both lower it." if below else "")
    )


def _value(row: pd.Series) -> str:
    return f"{number(row['value'])} {interval(row['low'], row['high'])}"


def draw_categories(here: Here, store: Store) -> None:
    """The chosen measure of each category's chunks at one layer, beside as many chunks of any category."""
    rows, measure = _shapes(here), here.once(_measure)
    of_tags = rows[(rows["points"] == "chunks") & (rows["category"] != ALL) & (rows["measure"] == measure)]
    if of_tags.empty:
        st.caption("No chunk has a category, so there are no clouds of categories.")
        return
    stream = chosen_stream.pick(store, of_tags, width=420)
    own = chosen_stream.at(of_tags, stream).sort_values("n", ascending=False)
    about = MEASURES[measure]
    labels = [f"{category(row.category)}, n = {count(row.n)}" for row in own.itertuples()]
    data_figure(
        shape_by_category(
            own.assign(label=labels, colour=own["category"].map(category_colour)), axis=f"{about.label}, {about.unit}"
        ),
        key=keys.of("shape_by_category"),
        config={"displayModeBar": False},
    )
    st.markdown(_said_of_categories(own))


def _said_of_categories(rows: pd.DataFrame) -> str:
    """Which categories are beyond as many chunks of any, and which are too small."""
    known, too_small = rows[rows["value"].notna()], rows[rows["value"].isna()]
    sides = {
        row.category: beyond(row.low, row.high, row.any_category, row.any_category_sd) for row in known.itertuples()
    }
    named = {
        side: ", ".join(for_markdown(category(name).lower(), 40) for name, found in sides.items() if found == side)
        for side in (-1, 1)
    }
    words = [
        f"Of {len(known)} categories with enough chunks, "
        + (
            f"below as many chunks of any category: {named[-1]}; "
            if named[-1]
            else "none lies below as many chunks of any; "
        )
        + (f"above: {named[1]}." if named[1] else "none lies above.")
    ]
    words.append(
        "A part of a cloud has another rank than the whole by its size alone: so the comparison is at equal n."
    )
    if len(too_small):
        names = ", ".join(
            f"{for_markdown(category(row.category).lower(), 40)} ({row.n})" for row in too_small.itertuples()
        )
        words.append(f"Too few chunks or problems: {names}.")
    return " ".join(words)
