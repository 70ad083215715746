"""The shape of clouds of activations, by layer and by category, beside what chance gives."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, FITTED, STEERED, TEMPLATE, UNKNOWN, blank
from app.shell.untrusted import for_plotly

_NULLS = {
    "isotropic": ("isotropic normal points", CONTROL, "dot"),
    "matched": ("same mean and covariance", FITTED, "dash"),
}
_TICKS = 12  # layers that are all named
_WIDE = 20  # largest over smallest: from there on the axis is logarithmic


class ShapeRow(TypedDict):
    """A measure of one model's cloud at a layer."""

    panel: str  # the model, and n
    layer: int
    value: float | None
    low: float | None
    high: float | None
    isotropic: float | None
    matched: float | None


class CategoryRow(TypedDict):
    """A measure of the cloud of one category's chunks."""

    label: str  # the category, and n
    colour: str
    value: float | None
    low: float | None
    high: float | None
    any_category: float | None
    any_category_sd: float | None


@takes_rows
def shape_by_layer(rows: Frame[ShapeRow], *, axis: str) -> go.Figure:
    """One panel a model: the measure with its interval, and two nulls of as many points. Unknown is not drawn."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No cloud here has this measure")
    panels = list(dict.fromkeys(known["panel"]))
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[for_plotly(panel, limit=80) for panel in panels],
    )
    for column, panel in enumerate(panels, start=1):
        own, first = known[known["panel"] == panel].sort_values("layer"), column == 1
        for null, (name, colour, dash) in _NULLS.items():
            figure.add_scatter(
                x=own["layer"].tolist(),
                y=own[null].tolist(),
                mode="lines+markers",
                marker={"size": 3},
                line={"color": colour, "dash": dash, "width": 1.5},
                name=name,
                legendgroup=null,
                showlegend=first,
                hovertemplate=f"{name}: %{{y:.3g}}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_scatter(
            x=own["layer"].tolist(),
            y=own["value"].tolist(),
            error_y=_error(own),
            mode="lines+markers",
            line={"color": STEERED, "width": 2},
            marker={"size": 6},
            name="this study, 95 %",
            legendgroup="value",
            showlegend=first,
            hovertemplate="layer %{x}: %{y:.3g}<extra></extra>",
            row=1,
            col=column,
        )
    values = pd.concat([known[name] for name in ("value", *_NULLS)]).dropna()
    if values.min() > 0 and values.max() / values.min() > _WIDE:
        figure.update_yaxes(type="log", dtick="D2")
    figure.update_xaxes(title="layer", title_standoff=4)
    if len(layers := sorted(known["layer"].unique().tolist())) <= _TICKS:
        figure.update_xaxes(tickvals=layers)
    figure.update_yaxes(title=axis, col=1)
    return figure.update_layout(
        template=TEMPLATE,
        height=360,
        margin={"l": 8, "r": 8, "t": 66, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    ).update_annotations(font_size=12)


@takes_rows
def shape_by_category(rows: Frame[CategoryRow], *, axis: str) -> go.Figure:
    """A point a category with its interval; behind it, the mean ± 2 SD of as many chunks of any category."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No category here has enough chunks of enough problems", height=160)
    labels = [for_plotly(label, limit=60) for label in known["label"]]
    figure = go.Figure()
    figure.add_scatter(
        x=known["any_category"].tolist(),
        y=labels,
        error_x={
            "type": "data",
            "array": (2 * known["any_category_sd"]).fillna(0).tolist(),
            "thickness": 9,
            "width": 0,
        },
        mode="markers",
        marker={"color": CONTROL, "size": 9, "symbol": "line-ns-open"},
        opacity=0.45,
        name="as many chunks of any category, ± 2 SD",
        hovertemplate="any category: %{x:.3g}<extra></extra>",
    )
    figure.add_scatter(
        x=known["value"].tolist(),
        y=labels,
        error_x=_error(known) | {"color": UNKNOWN},
        mode="markers",
        marker={"color": known["colour"].tolist(), "size": 9},
        name="this category, 95 %",
        hovertemplate="%{y}: %{x:.3g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title=axis)
    return figure.update_layout(
        template=TEMPLATE,
        height=120 + 34 * len(known),
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


def _error(rows: pd.DataFrame) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (rows["high"] - rows["value"]).fillna(0).tolist(),
        "arrayminus": (rows["value"] - rows["low"]).fillna(0).tolist(),
        "thickness": 1.5,
        "width": 3,
    }
