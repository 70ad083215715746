"""What is read in latents: maps of layers, curves over steps, odd against even, components, attention. A panel a model.

Steps are the number of latents run: 0, written bot, is the last token before the first latent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, CONTROL, SEQUENTIAL, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_COLUMNS = 3  # panels in a row
_INVISIBLE = "rgba(0,0,0,0)"
STEPS = "latents run (bot: none yet)"
_LINES = [colour for name, colour in CATEGORY_COLOURS.items() if name not in ("unknown", "untagged")]


class LatentCell(TypedDict):
    """One cell of a map."""

    panel: str
    line: str  # what stands there: z, a layer, or h
    step: int
    value: float | None
    word: str  # the most frequent top token, its spaces seen
    told: str  # when pointed at
    cell: str  # the id that a click says


class StepPoint(TypedDict):
    """A mean over problems at one step."""

    panel: str
    series: str
    step: int
    value: float | None
    low: float | None  # 95 % interval
    high: float | None
    n: int
    is_control: bool  # drawn dashed


class ParityRow(TypedDict):
    """Even steps less odd ones, of one quantity and model."""

    quantity: str
    series: str  # of the model
    difference: float | None
    low: float | None
    high: float | None
    told: str


class ComponentPoint(TypedDict):
    """A latent on two components."""

    panel: str
    step: int
    x: float
    y: float
    told: NotRequired[str]


class AttentionCell(TypedDict):
    """How much of its attention a latent pays to a part of the text."""

    panel: str
    step: int
    part: str
    share: float
    told: str


@dataclass(frozen=True)
class Scale:
    """How a map is coloured."""

    title: str
    bounds: tuple[float, float]
    low_is_sure: bool = False
    ticks: Mapping[float, str] | None = None  # of a logarithm


def step_name(step: int) -> str:
    return "bot" if step == 0 else str(step)


@takes_rows
def latent_map(
    cells: Frame[LatentCell], rows: Sequence[str], panels: Sequence[str], scale: Scale, *, selected: str | None = None
) -> go.Figure:
    """Rows upwards, steps to the right; in each cell the top token. Invisible marks take the clicks, with the cell's id
    as customdata.
    """
    if cells.empty:
        return blank("Nothing is read here")
    steps = sorted(set(cells["step"]))
    figure = _panels(panels, shared_y=True)
    for panel, where in _places(panels):
        own = cells[cells["panel"] == panel]
        at = ([rows.index(row) for row in own["line"]], [steps.index(step) for step in own["step"]])
        values, words = (np.full((len(rows), len(steps)), fill, dtype=object) for fill in (None, ""))
        values[at] = [None if pd.isna(value) else float(f"{value:.3g}") for value in own["value"]]
        words[at] = [for_plotly(word, limit=12) for word in own["word"]]
        figure.add_heatmap(
            x=list(map(step_name, steps)),
            y=list(rows),
            z=values.tolist(),
            text=words.tolist(),
            texttemplate="%{text}",
            textfont={"size": 11, "color": "#000000"},  # legible on every colour of the scale
            hoverinfo="skip",
            hoverongaps=False,
            xgap=1,
            ygap=1,
            coloraxis="coloraxis",
            **where,
        )
        figure.add_scatter(
            x=[step_name(step) for step in own["step"]],
            y=own["line"].tolist(),
            mode="markers",
            showlegend=False,
            marker={"symbol": "square", "size": 20, "color": _INVISIBLE},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=own["cell"].tolist(),
            text=[for_plotly(told, limit=200) for told in own["told"]],
            hovertemplate="%{text}<extra></extra>",
            **where,
        )
        for mark in own[own["cell"] == selected].itertuples():
            x, y = steps.index(mark.step), rows.index(mark.line)
            edge = {"x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
            figure.add_shape(type="rect", **edge, line={"color": ACCENT, "width": 3}, **where)
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category")
    _label(figure, panels, x=STEPS, y="layer (output of the block)")
    bar = {"title": {"text": scale.title, "side": "right"}, "thickness": 12}
    if scale.ticks:
        bar |= {"tickvals": list(scale.ticks), "ticktext": list(scale.ticks.values())}
    figure.update_layout(
        coloraxis={
            "colorscale": SEQUENTIAL,
            "reversescale": scale.low_is_sure,
            "cmin": scale.bounds[0],
            "cmax": scale.bounds[1],
            "colorbar": bar,
        },
        hovermode="closest",
        dragmode="pan",
        height=_height(panels, 90 + max(44 * len(rows), 130)),
    )
    return figure


@takes_rows
def step_curves(
    points: Frame[StepPoint], panels: Sequence[str], *, axis: str, is_share: bool = False, colours: Mapping[str, str]
) -> go.Figure:
    """One line a series with its 95 % interval; controls dashed. What is unknown is not drawn."""
    known = points[points["value"].notna()]
    if known.empty:
        return blank("Nothing is known here")
    figure = _panels(panels, shared_y=True)
    named: set[str] = set()
    order = list(dict.fromkeys(known["series"]))
    apart = {name: 0.06 * (place - (len(order) - 1) / 2) for place, name in enumerate(order)}  # bars side by side
    for panel, where in _places(panels):
        for series, own in known[known["panel"] == panel].groupby("series", sort=False):
            own = own.sort_values("step").assign(x=lambda rows, by=apart[series]: rows["step"] + by)
            _line(figure, str(series), own, colours[str(series)], where, first=series not in named)
            named.add(str(series))
    steps = sorted(set(known["step"]))
    figure.update_xaxes(tickvals=steps, ticktext=list(map(step_name, steps)), range=[steps[0] - 0.4, steps[-1] + 0.4])
    if is_share:
        figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    _label(figure, panels, x=STEPS, y=axis)
    return figure.update_layout(
        height=_height(panels, 250) + 40,
        margin={"t": 76},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
        hovermode="closest",
    )


def _line(
    figure: go.Figure, series: str, rows: pd.DataFrame, colour: str, where: dict[str, int], *, first: bool
) -> None:
    is_control = bool(rows["is_control"].iloc[0])
    up, down = rows["high"] - rows["value"], rows["value"] - rows["low"]
    figure.add_scatter(
        x=rows["x"].tolist(),
        y=rows["value"].tolist(),
        error_y={
            "array": up.fillna(0).tolist(),
            "arrayminus": down.fillna(0).tolist(),
            "width": 3,
            "thickness": 1,
            "color": colour,
        },
        mode="lines+markers",
        marker={"size": 5, "symbol": "circle-open" if is_control else "circle"},
        line={"color": colour, "width": 1.5 if is_control else 2, "dash": "dash" if is_control else "solid"},
        name=for_plotly(series, limit=60),
        legendgroup=series,
        showlegend=first,
        customdata=[
            [f"{row.value:.3g}", _interval(row.low, row.high), int(row.n), step_name(row.step)]
            for row in rows.itertuples()
        ],
        hovertemplate=f"{for_plotly(series, limit=60)}, %{{customdata[3]}}: %{{customdata[0]}} %{{customdata[1]}},"
        " n = %{customdata[2]}<extra></extra>",
        **where,
    )


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"[{low:.3g}, {high:.3g}]"


@takes_rows
def parity_differences(
    rows: Frame[ParityRow], quantities: Sequence[str], colours: Mapping[str, str], *, axis: str
) -> go.Figure:
    """One line a quantity, one mark a model with its 95 % interval; right of 0, even latents have more of it."""
    known = rows[rows["difference"].notna()]
    if known.empty:
        return blank("Too few latents to tell odd from even ones")
    series = [name for name in colours if name in set(known["series"])]
    shift = {name: 0.18 * (len(series) - 1 - 2 * place) / max(len(series), 1) for place, name in enumerate(series)}
    figure = go.Figure(layout={"template": TEMPLATE, "hovermode": "closest"})
    figure.add_vline(x=0, line={"color": CONTROL, "width": 1})
    for name in series:
        own = known[known["series"] == name]
        figure.add_scatter(
            x=own["difference"].tolist(),
            y=[len(quantities) - 1 - quantities.index(one) + shift[name] for one in own["quantity"]],
            error_x={
                "array": (own["high"] - own["difference"]).fillna(0).tolist(),
                "arrayminus": (own["difference"] - own["low"]).fillna(0).tolist(),
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colours[name], "size": 8},
            name=for_plotly(name, limit=60),
            text=[for_plotly(told, limit=300) for told in own["told"]],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=list(range(len(quantities))),
        ticktext=[for_plotly(one, limit=60) for one in reversed(quantities)],
        range=[-0.6, len(quantities) - 0.4],
        showgrid=True,
    )
    figure.update_xaxes(title=axis)
    return figure.update_layout(
        height=110 + 34 * len(quantities),
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


@takes_rows
def component_places(
    points: Frame[ComponentPoint], panels: Sequence[str], titles: Mapping[str, tuple[str, str]]
) -> go.Figure:
    """Latents of many problems on two components, coloured by step; `titles` are of each panel's axes."""
    if points.empty:
        return blank("These latents have no components")
    figure = _panels(panels, shared_y=False)
    steps = sorted(set(points["step"]))
    colours = _shades(len(steps))
    named: set[int] = set()
    for panel, where in _places(panels):
        own = points[points["panel"] == panel]
        for colour, step in zip(colours, steps, strict=True):
            some = own[own["step"] == step]
            if some.empty:
                continue
            figure.add_scattergl(
                x=some["x"].tolist(),
                y=some["y"].tolist(),
                mode="markers",
                marker={"color": colour, "size": 5, "opacity": 0.7},
                name=step_name(step),
                legendgroup=str(step),
                showlegend=step not in named,
                hovertemplate=f"{step_name(step)}: %{{x:.3g}}, %{{y:.3g}}<extra></extra>",
                **where,
            )
            named.add(step)
        x, y = titles[panel]
        figure.update_xaxes(title=x, title_standoff=4, **where)
        figure.update_yaxes(title=y, title_standoff=4, **where)
    return figure.update_layout(
        height=_height(panels, 300) + 40,
        margin={"t": 76},
        legend={
            "title": {"text": "latents run "},
            "orientation": "h",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "x": 0,
        },
    )


@takes_rows
def attention_map(cells: Frame[AttentionCell], parts: Sequence[str], panels: Sequence[str]) -> go.Figure:
    """Steps upwards, what they attend to to the right; a row sums to 1. A latent that is not there yet is empty."""
    if cells.empty:
        return blank("No attention was recorded")
    figure, steps = _panels(panels, shared_y=True), sorted(set(cells["step"]))
    for panel, where in _places(panels):
        own = cells[cells["panel"] == panel]
        at = ([steps.index(step) for step in own["step"]], [parts.index(part) for part in own["part"]])
        values, told, shown = (np.full((len(steps), len(parts)), fill, dtype=object) for fill in (None, "", ""))
        values[at], told[at] = own["share"].tolist(), [for_plotly(one, limit=200) for one in own["told"]]
        shown[at] = [f"{100 * share:.0f}" for share in own["share"]]
        figure.add_heatmap(
            x=list(parts),
            y=list(map(step_name, steps)),
            z=values.tolist(),
            text=shown.tolist(),
            texttemplate="%{text}",
            textfont={"size": 10, "color": "#000000"},
            customdata=told.tolist(),
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            xgap=1,
            ygap=1,
            coloraxis="coloraxis",
            **where,
        )
    figure.update_xaxes(showgrid=False, type="category", tickangle=-45)
    figure.update_yaxes(showgrid=False, type="category")
    _label(figure, panels, x="paid to", y="paid at latent")
    bar = {"title": {"text": "share of attention", "side": "right"}, "thickness": 12, "tickformat": ".0%"}
    return figure.update_layout(
        coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1, "colorbar": bar},
        height=_height(panels, 110 + 30 * len(steps)),
    )


def series_colours(series: Sequence[str], controls: Sequence[str] = ()) -> dict[str, str]:
    """A colour for each; the first control is grey, a second one of the accent's."""
    lines = iter(_LINES * (1 + len(series) // len(_LINES)))
    greys = dict(zip(controls, (CONTROL, ACCENT), strict=False))
    return {name: greys[name] if name in greys else next(lines) for name in series}


def _shades(n: int) -> list[str]:
    from plotly.colors import sample_colorscale

    return sample_colorscale(SEQUENTIAL, [place / max(n - 1, 1) for place in range(n)])


def _panels(panels: Sequence[str], *, shared_y: bool) -> go.Figure:
    n_rows, n_columns = -(-len(panels) // _COLUMNS), min(_COLUMNS, len(panels))
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        subplot_titles=[for_plotly(panel, limit=50) for panel in panels],
        shared_yaxes="all" if shared_y else False,
        horizontal_spacing=0.04 if shared_y else 0.09,
        vertical_spacing=0.3 / n_rows,
    )
    figure.update_layout(template=TEMPLATE, margin={"l": 8, "r": 8, "t": 40, "b": 8})
    return figure.update_annotations(font_size=13)


def _places(panels: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
    for number, panel in enumerate(panels):
        yield panel, {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}


def _height(panels: Sequence[str], of_one: int) -> int:
    return 70 + of_one * -(-len(panels) // _COLUMNS)


def _label(figure: go.Figure, panels: Sequence[str], *, x: str, y: str) -> None:
    figure.update_xaxes(title=x, title_standoff=4)
    for row in range(1, -(-len(panels) // _COLUMNS) + 1):
        figure.update_yaxes(title=y, title_standoff=4, row=row, col=1)
