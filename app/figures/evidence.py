"""Figures about the evidence as a whole: every pair with its interval and what chance gives, metrics against each
other, convergence.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.figures.steepness import signed, span
from app.shell.theme import ACCENT, CONTROL, DIVERGING, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import Metric

_MOST_PAIRS = 24
_VERDICTS = {
    "inverse": ("inverse association", STEERED),
    "direct": ("direct association", ACCENT),
    "none": ("none claimed", MISSING),
}


class Pair(TypedDict):
    """The evidence of one geometry column with one importance metric: ρ within CoTs, over all chunks, and by chance."""

    n: int
    within: float | None
    within_low: float | None
    within_high: float | None
    within_null_low: float | None
    within_null_high: float | None
    spearman: float | None
    ci_low: float | None
    ci_high: float | None
    verdict: str | None


class Agreement(TypedDict):
    """Rank correlation of the importance metrics `a` and `b`."""

    a: str
    b: str
    spearman: float | None
    ci_low: float | None
    ci_high: float | None
    n: float
    n_problems: float


class SoMany(TypedDict):
    """A metric as so many rollouts say it."""

    n: int
    value: float | None
    low: float | None
    high: float | None
    half_width: float | None


@takes_rows
def effects(rows: Frame[Pair], labels: Sequence[str]) -> go.Figure:
    """One line a pair: ρ within CoTs with its bootstrap interval, coloured by verdict, over the band in which shuffled
    importance puts it, and a small mark where ρ over all chunks lies.

    `rows` are drawn in their order; `labels` name them. At most 24 are
    drawn, the rest is counted; a pair whose ρ is unknown is left out and counted. Every mark's customdata is the row's
    place.
    """
    known = np.flatnonzero(rows["within"].notna().to_numpy())
    if not len(known):
        return blank("No pair has a known rank correlation", height=200)
    shown = known[:_MOST_PAIRS]
    part, heights = rows.iloc[shown], np.arange(len(shown))
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 130 + 26 * len(shown), "margin": {"l": 8, "r": 12, "t": 36, "b": 46}}
    )
    null = part["within_null_high"] - part["within_null_low"]
    figure.add_bar(
        y=heights,
        x=null,
        base=part["within_null_low"],
        orientation="h",
        width=0.7,
        name="chance: 95 % of permutations within CoTs",
        marker={"color": "rgba(138,143,152,0.3)", "line": {"width": 0}},
        hoverinfo="skip",
    )
    verdicts = part["verdict"].fillna("none").to_numpy()
    for verdict, (name, colour) in _VERDICTS.items():
        here = verdicts == verdict
        if not here.any():
            continue
        some = part[here]
        figure.add_scatter(
            x=some["within"],
            y=heights[here],
            mode="markers",
            name=f"{name} ({int(here.sum())})",
            customdata=shown[here].tolist(),
            marker={
                "color": colour,
                "size": 9,
                "symbol": "circle" if verdict != "none" else "circle-open",
                "line": {"width": 2},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": some["within_high"] - some["within"],
                "arrayminus": some["within"] - some["within_low"],
                "thickness": 1.5,
                "width": 3,
                "color": colour,
            },
            hovertext=[
                f"{for_plotly(labels[k], limit=160)}<br>ρ within CoTs = {signed(row.within)}"
                f" {span(row.within_low, row.within_high)}, chance {span(row.within_null_low, row.within_null_high)}, n"
                f" = {row.n}<br>over all chunks {signed(row.spearman)} {span(row.ci_low, row.ci_high)}"
                for k, row in zip(shown[here], some.itertuples(), strict=True)
            ],
            hoverinfo="text",
        )
    figure.add_scatter(
        x=part["spearman"],
        y=heights,
        mode="markers",
        name="ρ over all chunks",
        hoverinfo="skip",
        marker={"color": MISSING, "size": 10, "symbol": "line-ns-open", "line": {"width": 2}},
    )
    figure.add_vline(x=0, line={"color": MISSING, "width": 1})
    figure.update_yaxes(
        tickmode="array",
        tickvals=heights.tolist(),
        ticktext=[for_plotly(labels[k], limit=90, width=90) for k in shown],
        autorange="reversed",
        automargin=True,
        showgrid=False,
        zeroline=False,
        tickfont={"size": 11},
    )
    lost, more = len(rows) - len(known), len(known) - len(shown)
    words = (
        f"{len(shown)} of {len(rows)} pairs"
        + (f" · {more} more in the table" if more else "")
        + (f" · {lost} unknown" if lost else "")
    )
    figure.update_xaxes(title=f"ρ within CoTs with 95 % interval over problems<br>{words}")
    return figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}, dragmode="pan")


_MOST_WORDED = 12  # metrics of which each cell has room for its number; of more it is on hover alone


@takes_rows
def agreement_matrix(rows: Frame[Agreement], names: Mapping[str, str]) -> go.Figure:
    """Rank correlation of every two importance metrics over chunks; n and the interval over problems on hover. Unknown
    cells are empty.

    `rows` is that of `backend.evidence.agreement.rank_agreement`; `names` says what each metric is called, in the order
    of the axes.
    """
    order = [name for name in names if name in set(rows["a"])]
    if len(order) < 2:
        return blank("Fewer than two importance metrics are known", height=200)
    cells = rows.set_index(["a", "b"])
    wide = rows.pivot(index="a", columns="b", values="spearman").reindex(index=order, columns=order)
    hovers = [
        [_cell(cells.loc[(a, b)], names[a], names[b]) if (a, b) in cells.index else "" for b in order] for a in order
    ]
    texts = [["" if pd.isna(value) else signed(value).replace("0.", ".") for value in line] for line in wide.to_numpy()]
    numbers = list(
        range(1, len(order) + 1)
    )  # the columns have the lines' numbers: their names would leave no room for the cells
    lines = [
        f"{for_plotly(names[name], limit=44, width=60)}  <b>{number}</b>"
        for number, name in zip(numbers, order, strict=True)
    ]
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 150 + 30 * len(order), "margin": {"l": 8, "r": 8, "t": 32, "b": 70}}
    )
    figure.add_heatmap(
        z=wide.to_numpy(float),
        x=numbers,
        y=numbers,
        zmin=-1,
        zmax=1,
        colorscale=DIVERGING,
        text=texts,
        texttemplate="%{text}" if len(order) <= _MOST_WORDED else None,
        textfont={"size": 10},
        hovertext=hovers,
        hoverinfo="text",
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar={"title": "Spearman ρ", "thickness": 10, "orientation": "h", "y": -0.06, "yanchor": "top"},
    )
    figure.update_xaxes(
        side="top", tickvals=numbers, ticktext=[f"<b>{number}</b>" for number in numbers], showgrid=False
    )
    return figure.update_yaxes(automargin=True, autorange="reversed", tickvals=numbers, ticktext=lines, showgrid=False)


def _cell(row: pd.Series, a: str, b: str) -> str:
    rho = f"ρ = {signed(row.spearman)}, 95 % {span(row.ci_low, row.ci_high)}"
    return f"{for_plotly(a)}<br>{for_plotly(b)}<br>{rho}<br>n = {row.n:.0f} chunks of {row.n_problems:.0f} problems"


@takes_rows
def convergence(
    rows: Frame[SoMany],
    metric: Metric,
    *,
    band: str,
    counted: str = "rollouts at this chunk",
    target: float | None = None,
) -> go.Figure:
    """How a chunk's metric changes with the number of rollouts, and below it half the width of its 95 % interval.

    `rows` are in the order of `n`, of rollouts (`counted` says which); unknown values leave gaps. `band` says what lies
    between low and high; `target` is the half-width at which resampling stops.
    """
    if rows.empty or rows["value"].isna().all():
        return blank("The metric is unknown at every number of rollouts", height=300)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.64, 0.36], vertical_spacing=0.07)
    known = rows[rows["low"].notna() & rows["high"].notna()]
    figure.add_scatter(
        x=[*known["n"], *known["n"][::-1]],
        y=[*known["high"], *known["low"][::-1]],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor="rgba(43,131,186,0.2)",
        hoverinfo="skip",
        name=band,
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=rows["n"],
        y=rows["value"],
        mode="lines+markers",
        line={"color": STEERED},
        marker={"size": 6},
        name=for_plotly(metric.label),
        hovertemplate="%{x} rollouts: %{y:.3g}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=rows["n"],
        y=rows["half_width"],
        mode="lines+markers",
        line={"color": CONTROL},
        marker={"size": 5},
        name="half-width of the 95 % interval",
        hovertemplate="%{x} rollouts: ± %{y:.3g}<extra></extra>",
        row=2,
        col=1,
    )
    if target is not None:
        figure.add_hline(y=target, line={"dash": "dash", "color": ACCENT, "width": 1.5}, row=2, col=1)
    figure.update_yaxes(title=for_plotly(metric.axis, limit=60, width=26), row=1, col=1)
    wide = rows["half_width"].max()
    # Rollouts that all agree leave an interval without a width: rounding, which is not to fill the axis.
    flat = {"range": [0, 1e-3]} if not wide > 1e-6 else {"rangemode": "tozero"}
    figure.update_yaxes(title="half-width", exponentformat="power", **flat, row=2, col=1)
    figure.update_xaxes(title=counted, row=2, col=1)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return figure.update_layout(
        template=TEMPLATE, height=420, margin={"l": 64, "r": 12, "t": 30, "b": 46}, legend=legend
    )
