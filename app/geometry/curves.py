"""Circles and helices: whether integers, weekdays and months lie on one, more than any smooth curve would."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.geometry_curves import FLOOR, r2_by_layer, words_on_circle
from app.shared import chosen_stream
from app.shared.model_names import named
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import count, interval, number
from app.shell.untrusted import for_markdown
from backend.feature_geometry.curve_sets import SETS, CurveSet
from backend.feature_geometry.verdicts import judged
from backend.store.store import Store

CURVE = declare(Field("curve_set", "set of words in order", tuple(SETS), of=None))
PERIOD = declare(Field("curve_period", "period of the circle", None))


def read(here: Here) -> Missing | None:
    """A set of words that a model read, or why it did not."""
    return None if len(here.once(_sets)) else undone(here.store.path, "curves")


def _sets(here: Here) -> pd.DataFrame:
    return named(here.store, here.store.curve_sets())


def _curves(here: Here) -> pd.DataFrame:
    return judged(named(here.store, here.store.curves()))


def _chosen(here: Here) -> str:
    there = set(here.once(_sets)["curve"])
    return selection.pick(
        CURVE,
        "Words",
        [name for name in SETS if name in there] or list(SETS),
        show=lambda name: SETS[name].label,
        width=320,
    )


def draw_layers(here: Here, store: Store) -> None:
    """Predictive R² of circle or helix, of a polynomial and of the nulls, by layer and model."""
    name = here.once(_chosen)
    curves, sets = here.once(_curves), here.once(_sets)
    own = curves[curves["curve"] == name]
    panels = [f"{row.model}, {row.n} words" for row in own.itertuples()]
    data_figure(r2_by_layer(own.assign(panel=panels)), key=keys.of("curves_r2"), config={"displayModeBar": False})
    cards = sets[sets["curve"] == name]
    for card in cards.to_dict("records"):
        st.markdown(_said(card, own[own["model_id"] == card["model_id"]], int(own["p"].notna().sum())))
    st.caption(
        f"{SETS[name].literature} Any ordered smooth curve looks like a circle in principal components, so that a fit"
        f" alone says nothing.{_below_the_floor(own)}"
    )


def _below_the_floor(rows: pd.DataFrame) -> str:
    lowest = rows[["fourier", "polynomial"]].min().min()
    return f" Open triangles are R² below {FLOOR:g}, down to {number(lowest)}." if lowest < FLOOR else ""


def _said(card: Mapping[str, Any], rows: pd.DataFrame, n_tests: int) -> str:
    """How a model reads the set, and what its rows say beside every null, in sentences."""
    of, model = SETS[card["curve"]], f"**{for_markdown(card['model'], 60)}**"
    if rows.empty:
        return f"{model}: not read, because {for_markdown(str(card['reason'] or 'no layer was asked for'), 300)}."
    return f"{model} {_how_read(card)} {_found(rows, of, n_tests)} {_power(card)}"


def _how_read(card: Mapping[str, Any]) -> str:
    dropped, n, n_last = list(card["dropped"]), int(card["n"]), card["n_last"]
    words = f'reads {n} {SETS[card["curve"]].label} after "{for_markdown(card["context"], 60)}", at their last token'
    if pd.notna(n_last) and n_last < n:
        words += f": {count(card['n_tokens'])} tokens each, of which the last has only {count(n_last)} values (digits)"
    if dropped:
        few = f"{dropped[0]} to {dropped[-1]}" if len(dropped) > 4 else ", ".join(dropped)
        words += f"; left out, split into another number of tokens: {for_markdown(few, 100)}"
    return words + "."


def _found(rows: pd.DataFrame, of: CurveSet, n_tests: int) -> str:
    """The best layer beside its nulls, and at how many of the layers a circle or helix is shown."""
    best, what = rows.loc[rows["fourier"].idxmax()], "helix" if of.has_line else "circle"
    shown, better = rows[rows["is_shown"]], rows["is_better"]
    words = (
        f"R² of the {what} is largest at layer {best['layer']}: {number(best['fourier'])}"
        f" {interval(best['fourier_low'], best['fourier_high'])}, a polynomial's {number(best['polynomial'])}. By"
        f" chance there: up to {number(best['smooth_high'])} in 95 % of the nearest smooth random curves"
        f" (p = {number(best['smooth_p'])}), {number(best['permuted_high'])} in random order"
        f" (p = {number(best['permuted_p'])})"
    )
    if pd.notna(best["digits_p"]):
        words += f", {number(best['digits_high'])} with the digits dealt anew (p = {number(best['digits_p'])})"
    layers = ", ".join(str(layer) for layer in shown["layer"])
    return words + (
        f". A {what} beyond the polynomial and every null (Holm over {n_tests} layers and models) is shown at"
        f" {len(shown)} of {len(rows)} layers{f' ({layers})' if len(shown) else ''}; the fit beats the polynomial at"
        f" {int(better.sum())}."
    )


def _power(card: Mapping[str, Any]) -> str:
    if pd.isna(card["power"]):
        return ""
    return (
        f"Of planted ones with {card['planted']:.0%} of the variance, in noise, {card['power']:.0%} are found at p ≤"
        " 0.05 beside smooth curves."
    )


def draw_points(here: Here, store: Store) -> None:
    """Where the words lie in the plane of one circle, each by the fit to the others."""
    name, curves = here.once(_chosen), here.once(_curves)
    own = curves[curves["curve"] == name]
    if own.empty:
        st.caption("These words were not read at any layer, so that there is no plane to draw.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        stream = chosen_stream.pick(store, own, width=420)
        points = store.curve_points(stream.model, name, stream.layer or 0)
        periods = sorted(points["period"].unique(), key=SETS[name].periods.index)
        period = int(selection.pick(PERIOD, "Period", [str(one) for one in periods], width=120)) if periods else None
    if period is None:
        st.caption("Where the words lie was not kept at this layer.")
        return
    data_figure(
        words_on_circle(points[points["period"] == period], period=period),
        key=keys.of("curves_points"),
        config={"displayModeBar": False},
    )
    at = chosen_stream.at(own, stream).iloc[0]
    apart = (points[points["period"] == period][["x", "y"]] ** 2).sum(axis=1) ** 0.5
    st.caption(
        f"n = {len(apart)} words; {int(apart.notna().sum())} have a place. Each is put where its activation lies by the"
        f" map that the other words fit, in {at['dimensions']} principal components ({at['variance']:.0%} of the"
        f" variance). On a perfect circle all have radius 1; here the median is {number(apart.median())}. By chance"
        " alone the map shrinks or scatters them: whether this is a circle the R² above says, not the picture."
    )
