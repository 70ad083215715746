"""When a chain commits to its answer: the shares of rollouts and forced answers and the probability of the answer along
the chain, the log-probability beside a control, and where each curve changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, MISSING, TEMPLATE, blank, keyed

_ROW = 42  # pixels a curve in the strip of changes


@dataclass(frozen=True)
class Curve:
    """How a curve is called and drawn; `verdict` stands beside its change."""

    name: str
    label: str
    colour: str
    verdict: str
    dash: str = "solid"


class SharePoint(TypedDict):
    """A share, or a probability, after so many chunks."""

    curve: str
    n_read: int  # chunks before it
    value: float | None
    low: float | None  # 95 % band; None where the value has none
    high: float | None
    told: str  # when pointed at
    chunk_id: str | None  # the chunk that comes next; None at the chain's end


class LogPoint(TypedDict):
    """Log-probabilities of the chain's own answer, and of another one, after so many chunks."""

    curve: str
    n_read: int
    logprob: float  # nats
    other: float | None


class GapAt(TypedDict):
    """One gap in which a curve may change."""

    curve: str
    first: int  # chunks read before the gap
    last: int  # and after it
    posterior: float
    is_credible: bool
    is_likeliest: bool


class FirstCount(TypedDict):
    """Chains in which one of two curves commits earlier, or both at one chunk."""

    pair: str  # "text – forced answers"
    n_first: int
    n_same: int
    n_second: int


@takes_rows
def commitment_curves(
    points: Frame[SharePoint],
    logs: Frame[LogPoint],
    gaps: Frame[GapAt],
    curves: Sequence[Curve],
    n_chunks: int,
    *,
    selected: int | None,
    axis: str,
) -> go.Figure:
    """Over the number of chunks read. Above: shares with bands, probabilities. In the middle, where there are any: the
    log-probabilities, dotted those of the control. Below: the posterior of each curve's change, a diamond in the
    likeliest gap, dark what is in the 95 % set. The gap after chunk k − 1 is chunk k; the selected one is shaded.
    """
    if points.empty and logs.empty:
        return blank("Nothing along this chain was counted or read", height=200)
    panels = ["shares", *(["logs"] if len(logs) else []), "changes"]
    heights = {"shares": 250, "logs": 170, "changes": _ROW * max(len(curves), 1) + 20}
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.05,
        row_heights=[heights[panel] for panel in panels],
    )
    for number, curve in enumerate(reversed(curves)):
        _changes(figure, gaps[gaps["curve"] == curve.name], curve, (number, len(panels)))
    for curve in curves:
        _shares(figure, points[points["curve"] == curve.name], curve)
        if "logs" in panels:
            _logs(figure, logs[logs["curve"] == curve.name], curve)
    if selected is not None:
        figure.add_vrect(x0=selected - 1, x1=selected, fillcolor=ACCENT, opacity=0.1, line_width=0)
    figure.update_layout(
        template=TEMPLATE,
        height=sum(heights[panel] for panel in panels) + 170,
        margin={"l": 62, "r": 12, "t": 78, "b": 44},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        barmode="overlay",
    )
    figure.update_yaxes(title=axis, range=[-0.04, 1.04], tickformat=".0%", row=1, col=1)
    if "logs" in panels:
        figure.update_yaxes(title="log-probability, nats", row=2, col=1)
    figure.update_yaxes(range=[-0.4, len(curves) - 0.2], showticklabels=False, showgrid=False, row=len(panels), col=1)
    figure.update_xaxes(range=[-0.3, n_chunks + 0.3], tickmode="linear", dtick=1 if n_chunks <= 30 else 10)
    return figure.update_xaxes(title=f"chunks read, of {n_chunks} (between k − 1 and k: chunk k)", row=len(panels))


def _shares(figure: go.Figure, rows: pd.DataFrame, curve: Curve) -> None:
    known = rows[rows["value"].notna()].sort_values("n_read")
    if known.empty:
        return
    banded = known[known["low"].notna()]
    if len(banded):
        figure.add_scatter(
            x=[*banded["n_read"], *banded["n_read"][::-1]],
            y=[*banded["high"], *banded["low"][::-1]],
            mode="lines",
            fill="toself",
            fillcolor=_faint(curve.colour),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=curve.name,
            row=1,
            col=1,
        )
    figure.add_scatter(
        x=known["n_read"],
        y=known["value"].astype(float),
        mode="lines+markers",
        name=curve.label,
        legendgroup=curve.name,
        line={"color": curve.colour, "width": 1.8, "dash": curve.dash},
        marker={"color": curve.colour, "size": 7},
        customdata=known["chunk_id"].tolist(),
        hovertext=known["told"],
        hoverinfo="text",
        row=1,
        col=1,
    )


def _logs(figure: go.Figure, rows: pd.DataFrame, curve: Curve) -> None:
    for column, dash, width in (("logprob", curve.dash, 1.8), ("other", "dot", 1.2)):
        known = rows[rows[column].notna()].sort_values("n_read")
        if known.empty:
            continue
        what = curve.label if column == "logprob" else f"{curve.label}, the other answer"
        figure.add_scatter(
            x=known["n_read"],
            y=known[column].astype(float),
            mode="lines+markers",
            showlegend=False,
            legendgroup=curve.name,
            line={"color": curve.colour, "width": width, "dash": dash},
            marker={"color": curve.colour, "size": 5, "symbol": "circle" if column == "logprob" else "circle-open"},
            hovertemplate=f"{what}<br>after %{{x}} chunks: %{{y:.2f}} nats<extra></extra>",
            row=2,
            col=1,
        )


def _changes(figure: go.Figure, rows: pd.DataFrame, curve: Curve, where: tuple[int, int]) -> None:
    """The curve's row of the strip, `where`: its height and the panel. Words alone where no change is known."""
    height, panel = where
    figure.add_annotation(
        x=0,
        xref="x domain",
        xanchor="left",
        y=height + 0.42,
        yref=f"y{panel}",
        text=keyed(curve.colour, f"{curve.label}: {curve.verdict}"),
        showarrow=False,
        font={"size": 11},
    )
    for gap in rows[rows["is_credible"].astype(bool)].itertuples():
        figure.add_scatter(
            x=[gap.first + 0.06, gap.last - 0.06],
            y=[height] * 2,
            mode="lines",
            line={"color": curve.colour, "width": 8},
            opacity=0.2 + 0.8 * gap.posterior,
            showlegend=False,
            legendgroup=curve.name,
            hovertext=f"{curve.label}: between {gap.first} and {gap.last} chunks, posterior {gap.posterior:.2f}",
            hoverinfo="text",
            row=panel,
            col=1,
        )
    likeliest = rows[rows["is_likeliest"].astype(bool)]
    figure.add_scatter(
        x=(likeliest["first"] + likeliest["last"]) / 2,
        y=[height] * len(likeliest),
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": curve.colour, "line": {"color": "white", "width": 1}},
        showlegend=False,
        legendgroup=curve.name,
        hoverinfo="skip",
        row=panel,
        col=1,
    )


@takes_rows
def which_first(rows: Frame[FirstCount]) -> go.Figure:
    """One bar a pair of curves: chains in which the first commits earlier, both at one chunk, the second earlier."""
    if rows.empty:
        return blank("No chain has two curves that commit", height=160)
    figure = go.Figure(layout={"template": TEMPLATE, "barmode": "stack", "bargap": 0.35})
    for column, name, colour in (
        ("n_first", "the first named is earlier", "#2B83BA"),
        ("n_same", "at the same chunk", MISSING),
        ("n_second", "the second named is earlier", "#C2410C"),
    ):
        figure.add_bar(
            y=rows["pair"],
            x=rows[column],
            orientation="h",
            name=name,
            marker={"color": colour},
            text=[str(n) if n else "" for n in rows[column]],
            textangle=0,
            insidetextanchor="middle",
            hovertemplate=f"%{{y}}<br>{name}: %{{x}} chains<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title="chains in which both commit")
    return figure.update_layout(
        height=130 + 34 * len(rows),
        margin={"l": 8, "r": 12, "t": 44, "b": 44},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
