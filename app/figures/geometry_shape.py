"""The shape of clouds of activations, by layer and by category, beside what chance gives."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.panels import bars, laid_out, name_layers, side_by_side
from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, FITTED, STEERED, UNKNOWN, blank
from app.shell.untrusted import for_plotly

_NULLS = {
    "isotropic": ("isotropic normal points", CONTROL, "dot"),
    "matched": ("same mean and covariance", FITTED, "dash"),
}
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
    figure = side_by_side(panels)
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
            error_y=bars(own["value"], own["low"], own["high"]),
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
    name_layers(figure, known["layer"])
    figure.update_yaxes(title=axis, col=1)
    return laid_out(figure, height=360, top=66)


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
        marker={"color": CONTROL, "size": 9, "symbol": "square"},
        opacity=0.45,
        name="as many chunks of any category, ± 2 SD",
        hovertemplate="any category: %{x:.3g}<extra></extra>",
    )
    figure.add_scatter(
        x=known["value"].tolist(),
        y=labels,
        error_x=bars(known["value"], known["low"], known["high"]) | {"color": UNKNOWN},
        mode="markers",
        marker={"color": known["colour"].tolist(), "size": 9},
        name="this category, 95 %",
        hovertemplate="%{y}: %{x:.3g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title=axis)
    return laid_out(figure, height=120 + 34 * len(known), top=34)
