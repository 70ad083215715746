"""What a lens says at every layer and place of a text, and of chosen tokens along either."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, DIVERGING, SEQUENTIAL, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_ROW_HEIGHT, _LEAST_HEIGHT = 17, 320  # pixels
_WIDTH = 1100  # of the drawing, about
_LETTER = 6.5  # pixels of one letter in a cell
_INVISIBLE = "rgba(0,0,0,0)"
MOST_WORDED = 48  # columns whose cells bear a word
GREYED = "rgba(128,128,128,0.55)"
HATCHED = "rgba(255,255,255,0.45)"  # between the strokes


class LensCell(TypedDict):
    """One cell of the map."""

    layer: int
    column: int  # the number that its place has along the axis
    value: float | None
    word: str  # top token, its spaces seen; empty where none is to be said
    probability: float | None
    entropy: float | None
    kl: float | None


class Column(TypedDict):
    """A place along the text."""

    column: int
    tick: str  # below the axis


@takes_rows
def lens_heat(
    cells: Frame[LensCell],
    columns: Frame[Column],
    *,
    n_layers: int,
    title: str,
    axis: str,
    low_is_sure: bool,
    bounds: tuple[float, float],
    ticks: Mapping[float, str],
    greyed: Sequence[int] = (),
    unmeasured: Sequence[int] = (),
    selected: tuple[int, int] | None = None,
    view: str = "",
) -> go.Figure:
    """Layers upwards, places to the right; in each cell the top token, where there is room. Bounds around 0 make a
    scale of two signs. What has not come yet is empty.

    A heat map takes no clicks: invisible marks above its cells do, with `layer.column` as customdata. Rows in `greyed`
    are covered with grey, those in `unmeasured` are hatched. `selected` is (layer, column).
    """
    if cells.empty:
        return blank("There is nothing to read here yet")
    at = (cells["layer"].to_numpy(), cells["column"].to_numpy() - int(columns["column"].iloc[0]))
    shape = (n_layers, len(columns))
    values, words = np.full(shape, None, dtype=object), np.full(shape, "", dtype=object)
    values[at] = [None if pd.isna(value) else float(f"{value:.3g}") for value in cells["value"]]
    room = max(2, int(_WIDTH / len(columns) / _LETTER))
    if len(columns) <= MOST_WORDED:
        words[at] = [_cut(word, room) for word in cells["word"]]
    x = columns["column"].tolist()
    figure = go.Figure(layout={"template": TEMPLATE, "hovermode": "closest", "dragmode": "pan", "uirevision": view})
    figure.add_heatmap(
        x=x,
        y=list(range(n_layers)),
        z=values.tolist(),
        text=words.tolist(),
        texttemplate="%{text}" if len(columns) <= MOST_WORDED else None,
        textfont={"size": 11, "color": "#000000"},  # legible on every colour of the scales
        hoverinfo="skip",
        hoverongaps=False,
        xgap=1 if len(columns) <= MOST_WORDED else 0,
        ygap=1,
        **_scale(bounds, low_is_sure),
        colorbar={
            "title": {"text": title, "side": "right"},
            "thickness": 12,
            **({"tickvals": list(ticks), "ticktext": list(ticks.values())} if ticks else {}),
        },
    )
    _hatch(figure, unmeasured, (x[0] - 0.5, x[-1] + 0.5))
    _add_marks(figure, cells, axis)
    for layer in greyed:
        figure.add_hrect(y0=layer - 0.5, y1=layer + 0.5, fillcolor=GREYED, line={"width": 0})
    if selected is not None:
        _frame(figure, *selected)
    figure.update_yaxes(title="layer (output of the block)", range=[-0.5, n_layers - 0.5], showgrid=False, dtick=5)
    figure.update_xaxes(
        title=f"{axis}, by its last token" if axis == "chunk" else axis,
        tickvals=x,
        ticktext=[for_plotly(tick, limit=room + 4) for tick in columns["tick"]],
        tickangle=-60 if len(columns) > 12 else 0,
        showgrid=False,
        range=[x[0] - 0.5, x[-1] + 0.5],
    )
    return figure.update_layout(
        height=max(_LEAST_HEIGHT, 120 + _ROW_HEIGHT * n_layers), margin={"l": 8, "r": 8, "t": 8, "b": 8}
    )


def _scale(bounds: tuple[float, float], low_is_sure: bool) -> dict[str, Any]:
    low, high = bounds
    if low < 0 < high:
        return {"colorscale": DIVERGING, "zmin": low, "zmax": high}
    return {"colorscale": SEQUENTIAL, "zmin": low, "zmax": high, "reversescale": low_is_sure}


def _frame(figure: go.Figure, layer: int, column: int) -> None:
    edge = {"x0": column - 0.5, "x1": column + 0.5, "y0": layer - 0.5, "y1": layer + 0.5}
    figure.add_shape(type="rect", **edge, line={"color": ACCENT, "width": 3})


def _hatch(figure: go.Figure, layers: Sequence[int], reach: tuple[float, float]) -> None:
    """Cover layers with strokes, one outline each, in one trace."""
    outlines_x, outlines_y = list[float | None](), list[float | None]()
    for layer in layers:
        outlines_x += [reach[0], reach[1], reach[1], reach[0], None]
        outlines_y += [layer - 0.5, layer - 0.5, layer + 0.5, layer + 0.5, None]
    if outlines_x:
        figure.add_scatter(
            x=outlines_x,
            y=outlines_y,
            mode="none",
            fill="toself",
            fillcolor=HATCHED,
            fillpattern={"shape": "/", "size": 6, "solidity": 0.35, "fgcolor": GREYED, "bgcolor": HATCHED},
            name="not measured",
            hoverinfo="skip",
            showlegend=False,
        )


def _cut(word: str, room: int) -> str:
    return for_plotly(word if len(word) <= room else word[: room - 1] + "…", width=200)


def _add_marks(figure: go.Figure, cells: pd.DataFrame, axis: str) -> None:
    """Invisible marks that take the clicks, and say what the cells hold."""
    facts = [[_figure(value) for value in cells[name]] for name in ("probability", "entropy", "kl")]
    ids = [f"{layer}.{column}" for layer, column in zip(cells["layer"], cells["column"], strict=True)]
    figure.add_scattergl(
        x=cells["column"].tolist(),
        y=cells["layer"].tolist(),
        mode="markers",
        showlegend=False,
        marker={"symbol": "square", "size": 12, "color": _INVISIBLE},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        text=[for_plotly(word, limit=40) for word in cells["word"]],
        customdata=[list(row) for row in zip(ids, *facts, strict=True)],
        hovertemplate=f"layer %{{y}}, {axis} %{{x}}<br><b>%{{text}}</b> %{{customdata[1]}}<br>"
        "entropy %{customdata[2]}, KL %{customdata[3]} nats<extra></extra>",
    )


def _figure(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{value:.3g}"
