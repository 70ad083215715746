"""Figures of a vector's audit: its cosines with other directions, what pushing along it costs, and what it does to
chains of thought; each beside random vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import ARMS, studied_words, unit_words
from backend.geometry.direction_kinds import DIRECTION_KINDS

_SPREAD = 0.32  # of the points of a kind, so that they do not hide each other


class Cosine(TypedDict):
    """The cosine of a vector with one direction."""

    kind: str
    label: str
    cosine: float | None
    p_of_all: float


@dataclass(frozen=True)
class RandomCosines:
    """What random vectors of the same width give."""

    d: int
    bound: float  # |cosine| that 95 % stay below
    bound_of_all: float  # and that the largest of as many as are drawn stays below in 95 %


@takes_rows
def cosine_strip(rows: Frame[Cosine], null: RandomCosines) -> go.Figure:
    """One line a kind of direction, a point for each of them, over the band of random vectors."""
    known = rows[rows["cosine"].notna()]
    if known.empty:
        return blank("There is no other direction at this layer", height=160)
    kinds = [kind for kind in DIRECTION_KINDS if (known["kind"] == kind).any()]
    kinds += sorted(set(known["kind"]) - set(kinds))
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 130 + 46 * len(kinds), "margin": {"l": 8, "r": 12, "t": 44, "b": 46}}
    )
    figure.add_vrect(x0=-null.bound, x1=null.bound, fillcolor=CONTROL, opacity=0.22, line_width=0, layer="below")
    for bound in (-null.bound_of_all, null.bound_of_all):
        figure.add_vline(x=bound, line={"color": CONTROL, "width": 1.5, "dash": "dash"})
    for number, kind in enumerate(kinds):
        own = known[known["kind"] == kind]
        offsets = _SPREAD * (((np.arange(len(own)) * 0.618) % 1) * 2 - 1) if len(own) > 1 else [0.0]
        entry = DIRECTION_KINDS.get(kind)
        figure.add_scattergl(
            x=own["cosine"],
            y=number + np.asarray(offsets),
            mode="markers",
            marker={"size": 6, "color": entry.colour if entry else MISSING, "opacity": 0.75},
            text=[for_plotly(label, limit=80) for label in own["label"]],
            customdata=own["p_of_all"],
            hovertemplate="%{text}<br>cosine %{x:.3f}<br>p = %{customdata:.2g} among all<extra></extra>",
            showlegend=False,
        )
    most = max(float(known["cosine"].abs().max()), null.bound_of_all) * 1.08
    ticks = [f"{studied_words(kind)} (n = {(known['kind'] == kind).sum()})" for kind in kinds]
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(kinds))),
        ticktext=[for_plotly(tick, limit=60) for tick in ticks],
        range=[len(kinds) - 0.4, -0.6],
        automargin=True,
        zeroline=False,
        showgrid=False,
    )
    figure.update_xaxes(title="cosine with the vector", range=[-min(most, 1.05), min(most, 1.05)])
    words = f"grey: 95 % of random vectors, d = {null.d}<br>dashed: the largest of {len(known)} of them"
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
    return figure.add_annotation(text=words, showarrow=False, align="left", font={"size": 12}, **place)


class Cost(TypedDict):
    """Quartiles of KL over chunks at one β, nats."""

    arm: str  # vector or random
    beta: float
    low: float
    median: float
    high: float
    n: int
    n_below_floor: int


_COSTS = {
    "random": ("random vectors", CONTROL, "rgba(138,143,152,0.25)"),
    "vector": ("the vector", STEERED, "rgba(43,131,186,0.22)"),
}


@takes_rows
def cost_curves(rows: Frame[Cost], *, floor: float | None, unit: str) -> go.Figure:
    """Median and quartiles of KL(steered ‖ unsteered) over chunks along β, of the vector and of random ones.

    β = 0, where KL is exactly 0, has no place on the log axis and is left out.
    """
    pushed = rows[(rows["beta"] != 0) & (rows["n"] > 0) & (rows["median"] > 0)]
    if pushed.empty:
        return blank("No KL has been measured", height=260)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 340, "margin": {"l": 70, "r": 12, "t": 56, "b": 46}})
    for arm, (words, colour, pale) in _COSTS.items():
        own = pushed[pushed["arm"] == arm].sort_values("beta")
        for side in (own[own["beta"] < 0], own[own["beta"] > 0]):
            _add_quartiles(figure, side, colour, pale)
        if len(own):
            figure.add_scatter(
                x=own["beta"],
                y=own["median"],
                mode="markers",
                marker={"color": colour, "size": 8},
                name=f"{words}: median, quartiles (n = {int(own['n'].max())} chunks)",
                customdata=own[["low", "high", "n", "n_below_floor"]],
                hovertemplate=(
                    f"{words}, β = %{{x:.3~g}}<br>median %{{y:.3g}} nats [%{{customdata[0]:.3g}},"
                    " %{customdata[1]:.3g}]<br>n = %{customdata[2]}, at or below the floor %{customdata[3]}"
                    "<extra></extra>"
                ),
            )
    if floor is not None and math.isfinite(floor) and floor > 0:
        figure.add_hline(y=floor, line={"dash": "dot", "color": MISSING, "width": 1.5})
        figure.add_annotation(
            text=f"noise floor {floor:.1g}",
            x=1,
            xref="paper",
            xanchor="right",
            y=math.log10(floor),
            yanchor="bottom",
            showarrow=False,
            font={"size": 12},
        )
    figure.update_xaxes(title=f"β ({unit_words(unit)})", tickvals=sorted(set(rows["beta"])), zeroline=False)
    figure.update_yaxes(title="KL(steered ‖ unsteered), nats, log scale", type="log", exponentformat="power")
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


def _add_quartiles(figure: go.Figure, side: Frame[Cost], colour: str, pale: str) -> None:
    if side.empty:
        return
    figure.add_scatter(
        x=[*side["beta"], *side["beta"][::-1]],
        y=[*side["high"], *side["low"][::-1]],
        fill="toself",
        fillcolor=pale,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=side["beta"],
        y=side["median"],
        mode="lines",
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


class TextsOfArm(TypedDict):
    """What became of an arm's chains of thought."""

    arm: str
    n: int
    n_problems: int
    length: float
    length_low: float
    length_high: float
    loops: float
    loops_low: float
    loops_high: float


_DOTS = {"base": MISSING, "changed": STEERED, "random": CONTROL}


@takes_rows
def texts_by_arm(rows: Frame[TextsOfArm]) -> go.Figure:
    """Thinking tokens and the share that ends in a loop, an arm a line, each with its 95 % interval."""
    if rows.empty:
        return blank("No chain of thought has been written", height=160)
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    figure.update_layout(
        template=TEMPLATE, height=124 + 46 * len(rows), margin={"l": 8, "r": 20, "t": 16, "b": 60}, showlegend=False
    )
    for column, (name, form) in enumerate((("length", ".0f"), ("loops", ".0%")), start=1):
        figure.add_scatter(
            x=rows[name],
            y=list(range(len(rows))),
            mode="markers",
            marker={"size": 10, "color": [_DOTS.get(arm, MISSING) for arm in rows["arm"]]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": _gap(rows[f"{name}_high"] - rows[name]),
                "arrayminus": _gap(rows[name] - rows[f"{name}_low"]),
                "color": "rgba(128,128,128,0.9)",
                "thickness": 1.5,
                "width": 5,
            },
            hovertemplate=f"%{{x:{form}}}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(title="thinking tokens,<br>mean over problems", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="share that ends<br>in a loop", range=[-0.04, 1.04], tickformat=".0%", row=1, col=2)
    labels = [f"{ARMS.get(row.arm, row.arm)}<br>n = {row.n}, {row.n_problems} problems" for row in rows.itertuples()]
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=labels,
        range=[len(rows) - 0.5, -0.5],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    return figure


def _gap(values: Sequence[float]) -> list[float | None]:
    """Lengths of error bars; none where the interval is unknown."""
    return [None if not math.isfinite(value) else float(value) for value in values]
