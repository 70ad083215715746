"""Cosines of directions in their tails: histograms, tail mass by layer, tuned against base, by how often features fire.

Red is always what isotropic rows would have, by the exact law; grey is rows that share a set's covariance alone.
"""

import math
from itertools import pairwise
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.panels import bars
from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, CONTROL, TEMPLATE, blank
from app.shell.untrusted import for_plotly

LAW, NULL, SET = "law", "null", "set"  # what a line is of
RANDOM = "#D7191C"  # isotropic rows, red as in the published figures
_TICKS = 12  # layers that are all named
_COLUMNS, _PANEL = 3, 250  # panels in a row; pixels of one
_LINES = [colour for name, colour in CATEGORY_COLOURS.items() if name not in ("unknown", "untagged", "self_checking")]


class TailBin(TypedDict):
    """One bin of one line of a panel."""

    panel: str
    line: str  # one of LAW, NULL, SET
    series: str  # what the legend calls it
    cosine: float  # the bin's middle
    share: float  # of all pairs; bins without any are left out
    mark: str  # what a click says; "" of what cannot be clicked
    told: str  # when pointed at


class LayerPoint(TypedDict):
    """A tail mass, or a ratio of two, at a layer."""

    line: str
    series: str
    layer: int
    value: float | None
    low: float | None
    high: float | None
    told: str


class QuarterPoint(TypedDict):
    """A tail mass within a quarter of the features, by how often they fire."""

    line: str
    series: str
    quarter: str
    value: float | None
    low: float | None
    high: float | None
    told: str


@takes_rows
def tail_histograms(rows: Frame[TailBin], *, selected: str | None, left_out: str) -> go.Figure:
    """A panel a layer: the share of pairs in each bin of the cosine, on a log axis; the bin that was clicked is
    ringed. `left_out` says what is not drawn.
    """
    if rows.empty:
        return blank("No pair of these rows lies in the tails")
    panels = list(dict.fromkeys(rows["panel"]))
    n_columns = min(_COLUMNS, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        subplot_titles=[for_plotly(panel, limit=60) for panel in panels],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.24 / n_rows,
    )
    styles, shown = _styles(rows), set[str]()
    for number, panel in enumerate(panels):
        where = {"row": number // n_columns + 1, "col": number % n_columns + 1}
        inside = rows[rows["panel"] == panel]
        for (line, series), own in inside.groupby(["line", "series"], sort=False):
            bins = sorted(zip(own["cosine"], own["share"], own["mark"], own["told"].map(for_plotly), strict=True))
            for side in ([one for one in bins if one[0] < 0], [one for one in bins if one[0] > 0]):
                if side:
                    _histogram_line(figure, side, str(line), str(series), styles, where, first=series not in shown)
                    shown.add(str(series))
        ringed = inside[(inside["mark"] == selected) & (inside["mark"] != "")]
        figure.add_scatter(
            x=ringed["cosine"].tolist(),
            y=ringed["share"].tolist(),
            mode="markers",
            marker={"size": 13, "color": "rgba(0,0,0,0)", "line": {"color": ACCENT, "width": 2}},
            showlegend=False,
            hoverinfo="skip",
            **where,
        )
    figure.update_xaxes(range=[-1.02, 1.02], tickvals=[-1, -0.5, -0.1, 0.1, 0.5, 1])
    figure.update_xaxes(title=f"cosine; {for_plotly(left_out, limit=120)}" if left_out else "cosine", row=n_rows, col=1)
    low, high = (math.log10(bound(rows["share"])) for bound in (min, max))
    figure.update_yaxes(type="log", exponentformat="power", dtick=1, range=[low - 0.4, high + 0.4])
    for row in range(1, n_rows + 1):
        figure.update_yaxes(title="share of pairs<br>in the bin", row=row, col=1)
    return _laid_out(figure, 110 + _PANEL * n_rows, top=76).update_annotations(font_size=12)


@takes_rows
def mass_by_layer(rows: Frame[LayerPoint], *, axis: str, x_axis: str) -> go.Figure:
    """One line a series with its interval; red, isotropic rows. A mass of 0 is drawn at the foot as an open mark, its
    interval reaching up from there.
    """
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No tail mass is known of these rows")
    figure, styles = go.Figure(), _styles(known)
    above = known.loc[known["value"] > 0, "value"]
    foot = float(min([*above, *known.loc[known["high"] > 0, "high"]], default=1e-9)) / 2
    single = known["layer"].nunique() == 1
    for (line, series), own in known.groupby(["line", "series"], sort=False):
        draw = _single_mark if single else _layer_line
        draw(figure, own.sort_values("layer"), str(line), str(series), styles, foot)
    figure.update_yaxes(type="log", title=axis, exponentformat="power")
    if single:
        layer = int(known["layer"].iloc[0])
        figure.update_xaxes(title=f"layer {layer} (output of the block)" if layer >= 0 else x_axis)
    else:
        figure.update_xaxes(title=x_axis, **_ticks(known))
    return _laid_out(figure, 400, top=_legend_room(known))


@takes_rows
def ratio_by_layer(rows: Frame[LayerPoint], *, axis: str, x_axis: str) -> go.Figure:
    """One mark a layer with its interval, about the line at 1."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No two sets of these can be compared here")
    figure, styles = go.Figure(), _styles(known)
    for series, own in known.groupby("series", sort=False):
        own = own.sort_values("layer")
        colour, _ = styles[str(series)]
        figure.add_scatter(
            x=own["layer"].tolist(),
            y=own["value"].tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (own["high"] - own["value"]).tolist(),
                "arrayminus": (own["value"] - own["low"]).tolist(),
                "thickness": 1.2,
                "width": 3,
                "color": colour,
            },
            mode="markers",
            marker={"color": colour, "size": 8},
            name=for_plotly(str(series), limit=100),
            customdata=own["told"].map(for_plotly).tolist(),
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.add_hline(y=1, line={"color": CONTROL, "width": 1.5, "dash": "dash"})
    figure.update_yaxes(type="log", title=axis)
    figure.update_xaxes(title=x_axis, **_ticks(known))
    return _laid_out(figure, 330, top=_legend_room(known)).update_layout(showlegend=True)


@takes_rows
def mass_by_frequency(rows: Frame[QuarterPoint], *, axis: str) -> go.Figure:
    """The quarters side by side, the features that fire most rarely first."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("It is not known how often the features of these rows fire")
    figure, styles = go.Figure(), _styles(known)
    for (line, series), own in known.groupby(["line", "series"], sort=False):
        colour, dash = styles[str(series)]
        drawn = own[own["value"] > 0]
        figure.add_scatter(
            x=drawn["quarter"].map(for_plotly).tolist(),
            y=drawn["value"].tolist(),
            error_y=None
            if line == LAW
            else {
                "type": "data",
                "symmetric": False,
                "array": (drawn["high"] - drawn["value"]).tolist(),
                "arrayminus": (drawn["value"] - drawn["low"]).tolist(),
                "thickness": 1.2,
                "width": 3,
                "color": colour,
            },
            mode="lines" if line == LAW else "lines+markers",
            line={"color": colour, "dash": dash},
            name=for_plotly(str(series), limit=100),
            customdata=drawn["told"].map(for_plotly).tolist(),
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.update_yaxes(type="log", title=axis, exponentformat="power")
    figure.update_xaxes(title="features by how often they fire, a quarter each")
    return _laid_out(figure, 350, top=_legend_room(known))


def _styles(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and dash of each series."""
    sets = list(dict.fromkeys(rows.loc[rows["line"] == SET, "series"]))
    styles = {series: (_LINES[k % len(_LINES)], "solid") for k, series in enumerate(sets)}
    nulls = list(dict.fromkeys(rows.loc[rows["line"] == NULL, "series"]))
    dashes = ("dash", "dot", "dashdot", "longdash")
    styles |= {series: (CONTROL, dashes[k % len(dashes)]) for k, series in enumerate(nulls)}
    return styles | {series: (RANDOM, "solid") for series in rows.loc[rows["line"] == LAW, "series"]}


def _histogram_line(
    figure: go.Figure,
    bins: list[tuple[float, float | None, str, str]],
    line: str,
    series: str,
    styles: dict[str, tuple[str, str]],
    where: dict[str, int],
    *,
    first: bool,
) -> None:
    """`bins` are (cosine, share, what a click says, what pointing says), the lowest first."""
    bins, (colour, dash) = _broken(bins), styles[series]
    figure.add_scatter(
        x=[cosine for cosine, *_ in bins],
        y=[share for _, share, *_ in bins],
        mode="lines+markers" if line == SET else "lines",
        marker={"size": 5, "color": colour},
        line={"color": colour, "width": 2.5 if line == LAW else 1.5, "dash": dash},
        name=for_plotly(series, limit=100),
        legendgroup=series,
        showlegend=first,
        customdata=[[mark, told] for *_, mark, told in bins],
        hovertemplate="%{customdata[1]}<extra></extra>",
        **where,
    )


def _broken(bins: list[tuple[float, float | None, str, str]]) -> list[tuple[float, float | None, str, str]]:
    """With a bin of no share in each run of empty ones: no line is drawn across them."""
    steps = [after[0] - before[0] for before, after in pairwise(bins)]
    whole: list[tuple[float, float | None, str, str]] = bins[:1]
    for step, one in zip(steps, bins[1:], strict=True):
        if step > 1.5 * min(steps):
            whole.append((one[0] - min(steps), None, "", ""))
        whole.append(one)
    return whole


def _single_mark(
    figure: go.Figure, rows: pd.DataFrame, line: str, series: str, styles: dict[str, tuple[str, str]], foot: float
) -> None:
    """Of the one layer there is: its mark above its own name, with its interval."""
    colour, _ = styles[series]
    value, name = rows["value"].clip(lower=foot), for_plotly(series, limit=100)
    low, high = (rows[end].astype(float).clip(lower=foot) for end in ("low", "high"))
    figure.add_scatter(
        x=[for_plotly(series, limit=60, width=28)] * len(rows),
        y=value.tolist(),
        error_y=bars(value, low, high) if line == SET else None,
        mode="markers",
        marker={
            "size": 9,
            "color": colour,
            "symbol": ["circle-open" if value == 0 else "circle" for value in rows["value"]],
        },
        name=name,
        legendgroup=series,
        customdata=rows["told"].map(for_plotly).tolist(),
        hovertemplate="%{customdata}<extra></extra>",
    )


def _layer_line(
    figure: go.Figure, rows: pd.DataFrame, line: str, series: str, styles: dict[str, tuple[str, str]], foot: float
) -> None:
    colour, dash = styles[series]
    layers, values = rows["layer"].tolist(), [max(value, foot) for value in rows["value"]]
    if line == SET and rows["low"].notna().all():
        figure.add_scatter(
            x=[*layers, *layers[::-1]],
            y=[*(max(low, foot) for low in rows["low"]), *reversed([max(high, foot) for high in rows["high"]])],
            fill="toself",
            fillcolor=colour,
            opacity=0.2,
            line={"width": 0},
            mode="lines",
            legendgroup=series,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=layers,
        y=values,
        mode="lines+markers" if line == SET else "lines",
        marker={
            "size": 6,
            "color": colour,
            "symbol": ["circle-open" if value == 0 else "circle" for value in rows["value"]],
        },
        line={"color": colour, "width": 2, "dash": dash},
        name=for_plotly(series, limit=100),
        legendgroup=series,
        customdata=rows["told"].map(for_plotly).tolist(),
        hovertemplate="%{customdata}<extra></extra>",
    )


def _ticks(rows: pd.DataFrame) -> dict[str, object]:
    """None where the only set is of no layer, and each of a few layers."""
    layers = sorted({int(layer) for layer in rows["layer"]})
    few: dict[str, object] = {"tickvals": layers} if len(layers) <= _TICKS else {}
    return few if layers[-1] >= 0 else {"tickvals": []}


def _legend_room(rows: pd.DataFrame) -> int:
    return 28 + 20 * -(-rows["series"].nunique() // 4)


def _laid_out(figure: go.Figure, height: int, *, top: int) -> go.Figure:
    return figure.update_layout(
        template=TEMPLATE,
        height=height,
        dragmode="pan",
        margin={"l": 8, "r": 8, "t": top, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )
