"""Figures with a panel for each model, side by side: how they are laid out, their axis of layers, bars of intervals."""

from collections.abc import Iterable, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.shell.theme import TEMPLATE
from app.shell.untrusted import for_plotly

_TICKS = 12  # layers that are all named


def side_by_side(panels: Sequence[str], *, n_rows: int = 1) -> go.Figure:
    """A column a panel, with its name above it; of several rows each has one y axis."""
    return make_subplots(
        rows=n_rows,
        cols=len(panels),
        shared_xaxes=n_rows > 1,
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.06 if n_rows > 1 else None,
        subplot_titles=[for_plotly(panel, limit=80) for panel in panels],
    )


def name_layers(figure: go.Figure, layers: Iterable[int], *, row: int | None = None) -> None:
    """The x axes are layers, said below all panels or those of one row; of a few layers each has its tick."""
    named = sorted({int(layer) for layer in layers})
    figure.update_xaxes(title="layer", title_standoff=4, row=row)
    if len(named) <= _TICKS:
        figure.update_xaxes(tickvals=named)


def laid_out(figure: go.Figure, *, height: int, top: int) -> go.Figure:
    """With the legend above the panels, in the `top` pixels."""
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        margin={"l": 8, "r": 8, "t": top, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )
    return figure.update_annotations(font_size=12)


def bars(value: pd.Series, low: pd.Series, high: pd.Series, *, width: int = 3) -> dict[str, object]:
    """Error bars from `low` to `high`; none where these are unknown."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (high - value).fillna(0).tolist(),
        "arrayminus": (value - low).fillna(0).tolist(),
        "thickness": 1.5,
        "width": width,
    }
