"""Local geometry against importance: one mark a chunk, with the statistics of the cloud written on it, and what chance
would draw.
"""

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, FITTED, TEMPLATE, blank, category_colour, category_symbol
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import CATEGORIES, Column, Metric, category
from backend.evidence.association import Association
from backend.evidence.curve_bands import Drawn
from backend.evidence.within import Within

CURVE_WORDS = {
    "constant": "c",
    "linear": "a + b·x",
    "log_log": "c·x^k",
    "inverse": "A/(x + x₀) + c",
    "theil_sen": "a + b·x (Theil–Sen)",
}


_LINE = 96  # signs of a title in a figure of 550 pixels


class Mark(TypedDict):
    """A chunk with its geometry (x) and its importance (value)."""

    chunk_id: str
    number: int  # from 1
    text: str
    category: str | None
    x: float | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    below_floor: bool | None


class Band(TypedDict):
    """A group of neighbouring x: what chance makes of its mean, and the mean."""

    x_low: float
    x_high: float
    n: int
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Shown:
    """Which rows the figure can draw, and how many it cannot and why."""

    drawn: pd.DataFrame
    n_no_x: int
    n_no_importance: int  # among those with an x
    n_not_on_log: int  # x of 0 or below, which a logarithmic axis has no place for


@takes_rows
def split(points: Frame[Mark], *, logarithmic: bool) -> Shown:
    """Rows with both values known (and an x above 0 on a logarithmic axis), and the counts of the rest."""
    has_x = points["x"].notna()
    both = has_x & points["value"].notna()
    off = both & (points["x"] <= 0) if logarithmic else pd.Series(False, index=points.index)
    return Shown(points[both & ~off], int((~has_x).sum()), int((has_x & ~both).sum()), int(off.sum()))


@takes_rows
def steepness_and_importance(
    points: Frame[Mark],
    column: Column,
    metric: Metric,
    found: Association,
    within: Within,
    *,
    unit: str,
    place: str,
    logarithmic: bool,
    intervals: bool,
    selected: str | None,
    band: Frame[Band] | None = None,
    shuffle: int | None = None,
    curve: Drawn | None = None,
    away: Drawn | None = None,
) -> go.Figure:
    """x = the geometry column, y = the metric. Chunks whose whole KL curve lies at or below the noise floor are hollow.
    `within` and `found` are written above the cloud, with `place` (direction, layer, position in words). `band` is that
    of `chance_band`. `shuffle` is the seed where importance was dealt anew, which is then written over the figure in
    place of what was found. `curve` goes through all chunks, with its band; `away`, dashed, through those away from the
    origin.
    """
    shown = split(points, logarithmic=logarithmic)
    if shown.drawn.empty:
        return blank(f"No chunk has both a known {column.label.lower()} and this importance", height=520)
    figure = go.Figure(
        layout={
            "template": TEMPLATE,
            "height": 650,
            "margin": {"l": 64, "r": 12, "t": 110, "b": 165},
            "dragmode": "pan",
        }
    )
    floors = shown.drawn["below_floor"].astype("boolean").fillna(False).astype(bool)
    rows = shown.drawn.assign(tag=shown.drawn["category"].fillna("untagged"), floored=floors)
    size = 9 if len(rows) <= 1000 else 6
    if band is not None and len(band):
        _draw_band(figure, band, logarithmic=logarithmic)
    if curve is not None:
        _draw_curve(figure, curve, logarithmic=logarithmic)
    if away is not None and len(away.x):
        x, y, _, _ = _on_axis(away, logarithmic=logarithmic)
        line = {"color": FITTED, "width": 2, "dash": "dash"}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="the same away from the origin")
    if intervals:
        _interval_lines(figure, rows)
    order = [tag for tag in CATEGORIES if (rows["tag"] == tag).any()] + sorted(set(rows["tag"]) - set(CATEGORIES))
    for tag in order:
        for floored in (False, True):
            part = rows[(rows["tag"] == tag) & (rows["floored"] == floored)]
            if part.empty:
                continue
            symbol = category_symbol(tag).removesuffix("-open")
            figure.add_trace(
                go.Scattergl(
                    x=part["x"].tolist(),
                    y=part["value"].tolist(),
                    mode="markers",
                    customdata=part["chunk_id"].tolist(),
                    name=for_plotly(category(tag), limit=40) + (" (below floor)" if floored else ""),
                    hovertext=_hovers(part, column, metric),
                    hoverinfo="text",
                    marker={
                        "size": size,
                        "color": category_colour(tag),
                        "opacity": 0.8,
                        "symbol": symbol + ("-open" if floored else ""),
                    },
                    legendgroup=tag,
                    showlegend=not floored or not ((rows["tag"] == tag) & ~rows["floored"]).any(),
                    unselected={"marker": {"opacity": 0.8}},
                )
            )
    ring = rows[rows["chunk_id"] == selected]
    if len(ring):
        figure.add_trace(
            go.Scattergl(
                x=ring["x"].tolist(),
                y=ring["value"].tolist(),
                mode="markers",
                name="selected chunk",
                customdata=ring["chunk_id"].tolist(),
                hovertext=_hovers(ring, column, metric),
                hoverinfo="text",
                showlegend=False,
                marker={
                    "size": size + 9,
                    "symbol": "circle-open",
                    "color": ACCENT,
                    "line": {"width": 3, "color": ACCENT},
                },
            )
        )
    figure.update_xaxes(
        title=column.axis(unit) + (", log scale" if logarithmic else ""),
        type="log" if logarithmic else "linear",
        exponentformat="power" if logarithmic else "e",
    )
    figure.update_yaxes(title=for_plotly(metric.axis))
    if curve is not None and len(curve.x):  # a band may leave the marks far behind
        marks = [rows["value"], *([rows["ci_low"], rows["ci_high"]] if intervals else [])]
        least, most = (float(getattr(pd.concat(marks).astype(float), end)()) for end in ("min", "max"))
        figure.update_yaxes(range=[least - 0.06 * (most - least or 1), most + 0.06 * (most - least or 1)])
    hollow = f"hollow: {int(rows['floored'].sum())} below the floor" if shown.drawn["below_floor"].notna().any() else ""
    where = " · ".join(filter(None, (for_plotly(place, limit=200, width=200), hollow)))
    facts = [*statistics_lines(found, within), where, left_out_line(shown)]
    if shuffle is not None:
        facts = [f"<b>Shuffled: importance dealt anew within CoTs, seed {shuffle}</b>", *facts[2:]]
        figure.add_annotation(
            text=f"shuffled, seed {shuffle}",
            showarrow=False,
            x=0.99,
            y=0.98,
            xref="paper",
            yref="paper",
            xanchor="right",
            yanchor="top",
            font={"size": 20},
        )
    lines = [line for fact in facts for line in _lines(fact)]
    return figure.update_layout(
        title={
            "text": "<br>".join(f'<span style="font-weight:400">{line}</span>' for line in lines),
            "y": 0.978,
            "yanchor": "top",
        },
        title_font_size=13,
        margin_t=26 + 17 * len(lines),
        legend={"orientation": "h", "yref": "container", "y": 0.005, "yanchor": "bottom", "x": 0},
    )


def _lines(fact: str) -> list[str]:
    """The fact on as many lines as the narrowest figure needs, broken between its parts."""
    lines: list[str] = []
    for part in fact.split(" · "):
        if lines and len(lines[-1]) + len(part) < _LINE:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def statistics_lines(found: Association, within: Within) -> list[str]:
    """What the figure says about its cloud: what is left within CoTs, the correlation over all chunks, and the sample.
    Unknown numbers are said to be unknown.
    """
    sample = (
        f"n = {found.n} chunks of {found.n_cots} CoTs of {found.n_problems} problems · exactly 0: {found.n_zero_y}"
        f" importances, {found.n_zero_x} of x · unknown: {found.n_missing}"
    )
    p = "unknown" if math.isnan(found.p_permutation) else p_value(found.p_permutation, found.n_permutations)
    null = "" if math.isnan(within.null_low) else f", by chance {span(within.null_low, within.null_high)}"
    lead = f"ρ within CoTs = {signed(within.rho)}, {_interval(within.low, within.high)} over problems · p {p}{null}"
    beside = (
        f"Spearman ρ over all chunks = {signed(found.spearman)}, {_interval(found.ci_low, found.ci_high)} over problems"
    )
    return [
        "ρ within CoTs unknown" if math.isnan(within.rho) else lead,
        "Spearman ρ over all chunks unknown" if math.isnan(found.spearman) else beside,
        sample,
    ]


def _interval(low: float, high: float) -> str:
    return "95 % interval unknown" if math.isnan(low) else f"95 % {span(low, high)}"


def left_out_line(shown: Shown) -> str:
    """How many chunks the figure cannot draw, and why."""
    counts = {
        "without x": shown.n_no_x,
        "without importance": shown.n_no_importance,
        "at 0 or below, which a log axis has no place for": shown.n_not_on_log,
    }
    return "not drawn: " + (", ".join(f"{n} {why}" for why, n in counts.items() if n) or "none")


def _interval_lines(figure: go.Figure, rows: pd.DataFrame) -> None:
    """All intervals in one trace: segments separated by gaps."""
    known = rows[rows["ci_low"].notna() & rows["ci_high"].notna()]
    gaps = np.full(len(known), np.nan)
    figure.add_trace(
        go.Scattergl(
            x=np.column_stack([known["x"], known["x"], gaps]).ravel(),
            y=np.column_stack([known["ci_low"], known["ci_high"], gaps]).ravel(),
            mode="lines",
            line={"color": "rgba(128,128,128,0.4)", "width": 1},
            hoverinfo="skip",
            name=f"95 % interval ({len(known)})",
        )
    )


def _draw_band(figure: go.Figure, band: pd.DataFrame, *, logarithmic: bool) -> None:
    """The band as steps over the groups, and the observed means as a line of steps; a log axis begins at its first
    positive end.
    """
    part = band[band["x_high"] > 0] if logarithmic else band
    if part.empty:
        return
    left = part["x_low"].where(part["x_low"] > 0, part["x_high"]) if logarithmic else part["x_low"]
    x = np.column_stack([left, part["x_high"]]).ravel()
    low, high, mean = (np.repeat(part[name].to_numpy(), 2) for name in ("low", "high", "mean"))
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor="rgba(138,143,152,0.25)",
        hoverinfo="skip",
        name="chance: 95 % of shuffles within CoTs",
    )
    name = f"mean of each {part['n'].median():.0f} chunks"
    figure.add_scatter(x=x, y=mean, mode="lines", line={"color": CONTROL, "width": 2}, hoverinfo="skip", name=name)


def _draw_curve(figure: go.Figure, curve: Drawn, *, logarithmic: bool) -> None:
    """The curve with its band."""
    if not len(curve.x):
        return
    x, y, low, high = _on_axis(curve, logarithmic=logarithmic)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        figure.add_scatter(
            x=[*x[known], *x[known][::-1]],
            y=[*high[known], *low[known][::-1]],
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor="rgba(216,27,96,0.15)",
            hoverinfo="skip",
            name=f"95 % over {curve.n_problems} problems",
        )
    line, name = {"color": FITTED, "width": 2.5}, f"{CURVE_WORDS[curve.curve]}, n = {curve.n}"
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name=name)


def _on_axis(curve: Drawn, *, logarithmic: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, the curve and its band, where the axis has a place for x."""
    there = curve.x > 0 if logarithmic else np.isfinite(curve.x)
    return curve.x[there], curve.y[there], curve.low[there], curve.high[there]


def _hovers(rows: pd.DataFrame, column: Column, metric: Metric) -> list[str]:
    return [
        f"<b>{row.number}</b> · {for_plotly(category(row.tag), limit=40)}<br>{column.label}:"
        f" {row.x:.3g}<br>{for_plotly(metric.label)}:"
        f" {row.value:.3g}{_span(row.ci_low, row.ci_high)}<br>{for_plotly(row.text)}"
        for row in rows.itertuples()
    ]


def _span(low: float, high: float) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f" [{low:.2g}, {high:.2g}]"


def signed(value: float) -> str:
    """A correlation in words, with a real minus sign."""
    return "unknown" if pd.isna(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval of correlations."""
    return "[unknown]" if pd.isna(low) or pd.isna(high) else f"[{signed(low)}, {signed(high)}]"


def p_value(p: float, n_permutations: float) -> str:
    """`= p`, or `≤` the least that so many permutations can say."""
    least = 1 / (n_permutations + 1)
    return f"≤ {least:.2g}" if p <= least else f"= {p:.2g}"
