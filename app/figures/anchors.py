"""Figures about anchors that are steered towards their counterfactuals: along β, along the chain of thought, over the
study, and what is still attended to.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, STEERED, TEMPLATE, blank
from backend.geometry.anchor_effects import ANCHORS, BEYOND, DIFFERENCE, MATCHED
from backend.geometry.counterfactuals import (
    AFTER,
    ALTERNATIVE,
    BEFORE,
    NOWHERE,
    RANDOM,
    RANDOM_ALTERNATIVE,
    TOWARDS,
)
from backend.statistics.course import Course

SIDES = {BEFORE: ("before", STEERED), AFTER: ("after", ACCENT), NOWHERE: ("unsteered", MISSING)}
KL_ON = {"rest": "the rest of the CoT", "answer": "the answer's tokens"}
GROUP_WORDS = {ANCHORS: "anchors", MATCHED: "matched other chunks", DIFFERENCE: "anchors − matched"}
ALONG_WORDS = {TOWARDS: "counterfactual", RANDOM: "random", BEYOND: "counterfactual beyond random"}
_NEAR = 100.0  # times below the lowest KL that a noise floor may lie and still be drawn
_ALONG_COLOURS = {TOWARDS: STEERED, RANDOM: CONTROL, BEYOND: ACCENT}


class Step(TypedDict):
    """A chunk steered on one side of it by so much, along v or a random direction of its length."""

    arm: str
    number: int
    side: str  # before, after
    beta: float  # lengths of v
    kl_rest: float | None  # nats
    kl_answer: float | None


class AtPlace(TypedDict):
    """An alternative of an anchor, or its random direction, steered at a place at β = −1."""

    arm: str
    number: int
    place: int  # chunks of the CoT before the steered token
    kl_rest: float | None
    kl_answer: float | None


class Attention(TypedDict):
    """How much attention later tokens pay to a chunk."""

    side: str  # none, before, after
    arm: str
    number: int
    by_layer: Sequence[float]  # from the layer above the steered one on


class Mean(TypedDict):
    """A mean effect over the study, as a factor."""

    group: str
    along: str
    factor: float | None
    low: float | None  # 95 % interval
    high: float | None
    n: int


@takes_rows
def along_beta(rows: Frame[Step], *, readout: str, norm: float, floor: float | None) -> go.Figure:
    """KL on what follows against β, steered just before a chunk and just after it, with the mean and range of the
    random directions. β = 0 has a KL of 0, which a log axis has no place for.
    """
    measure = f"kl_{readout}"
    known = rows[(rows[measure] > 0) & (rows["beta"] < 0)]
    if known.empty:
        return blank(f"No KL on {KL_ON[readout]} is known at this chunk", height=340)
    figure = _figure(340)
    for side, (words, colour) in SIDES.items():
        part = known[known["side"] == side]
        random = part[part["arm"] == RANDOM].groupby("beta")[measure].agg(["min", "max", _log_mean])
        if len(random):
            _add_band(figure, random, colour)
            _add_line(figure, random.index, random["_log_mean"], f"random, {words}", colour, dash="dot")
        own = part[part["arm"] == TOWARDS].sort_values("beta")
        if len(own):
            _add_line(figure, own["beta"], own[measure], f"steered {words}", colour)
    if floor is not None and readout == "rest" and floor > known[measure].min() / _NEAR:
        figure.add_hline(y=floor, line={"dash": "dash", "color": MISSING, "width": 1})
    n_random = rows.loc[rows["arm"] == RANDOM, "number"].nunique()
    figure.update_xaxes(title=f"β, lengths of v (‖v‖ = {norm:.3g})<br>−1: the counterfactual activation")
    _kl_axis(figure, readout)
    unknown = int(rows.loc[rows["beta"] < 0, measure].isna().sum())
    facts = f"just before the chunk and just after it · shaded: {n_random} random directions" + (
        f" · {unknown} unknown" if unknown else ""
    )
    return figure.update_layout(title={"text": facts, "font": {"size": 13}})


@takes_rows
def along_the_chain(
    rows: Frame[AtPlace], *, readout: str, found: Course, chunks: Mapping[int, bool], selected: int
) -> go.Figure:
    """KL on what follows when an anchor's alternatives are steered at each place of its chain, beside random directions
    of the same lengths.

    Chunk i lies between the places i and i + 1. `chunks` says which of those that were chosen are anchors; `selected`
    is the one whose alternatives these are. The place of the best step is drawn where there is one.
    """
    measure = f"kl_{readout}"
    known = rows[rows[measure] > 0]
    if known.empty:
        return blank(f"No KL on {KL_ON[readout]} is known along this chain", height=360)
    figure = _figure(380)
    for index in (index for index, is_anchor in chunks.items() if is_anchor):
        own = index == selected
        figure.add_vrect(
            x0=index,
            x1=index + 1,
            fillcolor=ACCENT if own else MISSING,
            opacity=0.16 if own else 0.12,
            line_width=0,
            layer="below",
            annotation={"text": "this anchor" if own else "anchor", "font": {"size": 11}},
            annotation_position="top left",
        )
    for arm, words, colour, dash in (
        (ALTERNATIVE, "single counterfactuals", STEERED, "solid"),
        (RANDOM_ALTERNATIVE, "random, same lengths", CONTROL, "dot"),
    ):
        part = known[known["arm"] == arm]
        figure.add_scatter(
            x=part["place"],
            y=part[measure],
            mode="markers",
            showlegend=False,
            marker={"color": colour, "size": 5, "opacity": 0.5},
            hovertemplate=f"{words}<br>%{{x}} chunks before: KL %{{y:.3g}} nats<extra></extra>",
        )
        means = part.groupby("place")[measure].agg(_log_mean)
        _add_line(figure, means.index, means, f"{words} (mean)", colour, dash=dash)
    if found.step is not None and found.verdict in ("sharp", "gradual", "uneven"):
        figure.add_vline(x=found.step.location, line={"dash": "dash", "color": MISSING, "width": 2})
    last = int(rows["place"].max())
    figure.update_xaxes(title="chunks of the chain before the steered token", dtick=1 if last <= 20 else 5)
    _kl_axis(figure, readout)
    lost = len(rows) - len(known)
    facts = f"n = {known['place'].nunique()} places, {known.loc[known['arm'] == ALTERNATIVE, 'number'].nunique()}"
    facts += " counterfactuals · dashed: the best single step" + (f"<br>not drawn: {lost} unknown or 0" if lost else "")
    return figure.update_layout(title={"text": facts, "font": {"size": 13}})


@takes_rows
def means_over_study(rows: Frame[Mean], *, what: str) -> go.Figure:
    """Means over anchors, over the chunks they are matched with, and of their pairs, with 95 % intervals over problems.

    `what` says what the factor is of.
    """
    known = rows[rows["factor"].notna()]
    if known.empty:
        return blank("No pair of an anchor and a matched chunk has this effect", height=240)
    figure = _figure(300)
    for along, colour in _ALONG_COLOURS.items():
        part = known[known["along"] == along]
        figure.add_scatter(
            x=part["factor"],
            y=[GROUP_WORDS[group] for group in part["group"]],
            mode="markers",
            name=ALONG_WORDS[along],
            marker={"color": colour, "size": 9},
            error_x={
                "array": part["high"] - part["factor"],
                "arrayminus": part["factor"] - part["low"],
                "color": colour,
                "thickness": 1.5,
            },
            hovertemplate=f"%{{y}}, {ALONG_WORDS[along]}: × %{{x:.3g}}<extra></extra>",
        )
    figure.add_vline(x=1, line={"color": MISSING, "width": 1, "dash": "dash"})
    figure.update_xaxes(title=f"{what}, geometric mean (log scale)", type="log", nticks=6, tickformat=".3~g")
    figure.update_yaxes(
        categoryorder="array", categoryarray=[GROUP_WORDS[name] for name in (DIFFERENCE, MATCHED, ANCHORS)]
    )
    facts = f"n = {known['n'].max()} pairs · bars: 95 % over problems · dashed: no effect"
    return figure.update_layout(scattermode="group", title={"text": facts, "font": {"size": 13}})


@takes_rows
def attention_by_layer(rows: Frame[Attention], *, layer: int) -> go.Figure:
    """Share of attention that later tokens pay to a chunk at each layer above the steered one, unsteered and steered at
    β = −1; random directions are averaged.
    """
    if rows.empty:
        return blank("The attention to this chunk is not known", height=340)
    figure = _figure(340)
    for side, (words, colour) in SIDES.items():
        for arm in dict.fromkeys(rows.loc[rows["side"] == side, "arm"]):
            part = rows[(rows["side"] == side) & (rows["arm"] == arm)]
            mean = np.mean(np.array(part["by_layer"].tolist(), float), axis=0)
            name = words if side == NOWHERE else f"random, {words}" if arm == RANDOM else f"steered {words}"
            above = np.arange(layer + 1, layer + 1 + len(mean))
            _add_line(figure, above, mean, name, colour, dash="dot" if arm == RANDOM else "solid")
    figure.update_xaxes(title=f"layer (steered at {layer}; lower ones cannot change)")
    figure.update_yaxes(title="attention to the chunk's tokens<br>share of each later token's", rangemode="tozero")
    return figure.update_layout(
        title={"text": "mean over heads and over the CoT's tokens after it", "font": {"size": 13}}
    )


def _kl_axis(figure: go.Figure, readout: str) -> None:
    title = f"KL(steered ‖ unsteered), nats<br>{KL_ON[readout]}"
    figure.update_yaxes(title=title, type="log", exponentformat="power", dtick=1)


def _figure(height: int) -> go.Figure:
    figure = go.Figure(layout={"template": TEMPLATE, "height": height, "margin": {"l": 84, "r": 12, "t": 92, "b": 60}})
    figure.update_layout(title={"y": 0.98, "yanchor": "top"})  # above a legend of two lines
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


def _add_line(
    figure: go.Figure, x: Iterable[float], y: Iterable[float], name: str, colour: str, dash: str = "solid"
) -> None:
    figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 1.5, "dash": dash},
        marker={"color": colour, "size": 6},
        hovertemplate=f"{name}<br>%{{x}}: %{{y:.3g}}<extra></extra>",
    )


def _add_band(figure: go.Figure, spread: pd.DataFrame, colour: str) -> None:
    figure.add_scatter(
        x=[*spread.index, *spread.index[::-1]],
        y=[*spread["max"], *spread["min"][::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.12,
        mode="none",
        showlegend=False,
        hoverinfo="skip",
    )


def _log_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values.astype(float)).mean()))
