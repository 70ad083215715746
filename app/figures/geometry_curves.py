"""Words whose order is known: how well a circle or helix predicts them, and where they lie on it."""

from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, CONTROL, FITTED, SEQUENTIAL, STEERED, TEMPLATE, UNKNOWN, blank
from app.shell.untrusted import for_plotly

_FITS = {"fourier": ("circle or helix", STEERED), "polynomial": ("polynomial, as many parameters", "#BD8701")}
_NULLS = {
    "smooth_high": ("smooth random curves, 95th percentile", FITTED, "dash"),
    "permuted_high": ("random order, 95th percentile", CONTROL, "dot"),
    "digits_high": ("digits dealt anew, 95th percentile", CATEGORY_COLOURS["self_checking"], "dashdot"),
}
_NAMED = 12  # words whose names are written, about; of more, hovering says the others
_TICKS = 12  # layers that are all named
_FLOOR = -0.5  # an R² below is drawn there: a polynomial's may be very low


class CurveRow(TypedDict):
    """A set of words at a layer of a model."""

    panel: str
    layer: int
    fourier: float | None
    fourier_low: float | None
    fourier_high: float | None
    polynomial: float | None
    polynomial_low: float | None
    polynomial_high: float | None
    smooth_high: float | None
    permuted_high: float | None
    digits_high: float | None
    is_shown: bool


class PointRow(TypedDict):
    """A word in the plane of a circle."""

    place: int
    word: str
    x: float | None
    y: float | None


@takes_rows
def r2_by_layer(rows: Frame[CurveRow]) -> go.Figure:
    """One panel a model: predictive R² of both fits with intervals, and lines of the nulls; a ring where a circle or
    helix is shown beyond all of them.
    """
    known = rows[rows["fourier"].notna()]
    if known.empty:
        return blank("These words were not read at any layer")
    panels = list(dict.fromkeys(known["panel"]))
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[for_plotly(panel, limit=80) for panel in panels],
    )
    for column, panel in enumerate(panels, start=1):
        own, where = known[known["panel"] == panel].sort_values("layer"), {"row": 1, "col": column}
        for null, (name, colour, dash) in _NULLS.items():
            if own[null].notna().any():
                figure.add_scatter(
                    x=own["layer"].tolist(),
                    y=own[null].tolist(),
                    mode="lines",
                    line={"color": colour, "dash": dash, "width": 1.5},
                    name=name,
                    legendgroup=null,
                    showlegend=column == 1,
                    hovertemplate=f"{name}: %{{y:.2f}}<extra></extra>",
                    **where,
                )
        for fit, (name, colour) in _FITS.items():
            figure.add_scatter(
                x=own["layer"].tolist(),
                y=own[fit].clip(lower=_FLOOR).tolist(),
                error_y=_error(own, fit),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 6},
                name=name,
                legendgroup=fit,
                showlegend=column == 1,
                customdata=own[fit].tolist(),
                hovertemplate=f"{name}, layer %{{x}}: %{{customdata:.2f}}<extra></extra>",
                **where,
            )
        shown = own[own["is_shown"].astype(bool)]
        figure.add_scatter(
            x=shown["layer"].tolist(),
            y=shown["fourier"].tolist(),
            mode="markers",
            marker={"size": 13, "symbol": "circle-open", "color": ACCENT, "line": {"width": 2}},
            name="shown beyond all of them",
            legendgroup="shown",
            showlegend=column == 1 and bool(known["is_shown"].any()),
            hoverinfo="skip",
            **where,
        )
    figure.update_xaxes(title="layer", title_standoff=4)
    if len(layers := sorted(known["layer"].unique().tolist())) <= _TICKS:
        figure.update_xaxes(tickvals=layers)
    figure.update_yaxes(title="R², each word from the others", col=1)
    figure.update_yaxes(range=[max(_FLOOR, min(-0.05, _lowest(known))) - 0.05, 1.05])
    return figure.update_layout(
        template=TEMPLATE,
        height=420,
        margin={"l": 8, "r": 8, "t": 92, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    ).update_annotations(font_size=12)


def _lowest(rows: pd.DataFrame) -> float:
    columns = [*_FITS, *(f"{fit}_low" for fit in _FITS), *_NULLS]
    return float(rows[columns].astype(float).min().min())


def _error(rows: pd.DataFrame, fit: str) -> dict[str, object]:
    value = rows[fit].clip(lower=_FLOOR)
    return {
        "type": "data",
        "symmetric": False,
        "array": (rows[f"{fit}_high"] - value).clip(lower=0).fillna(0).tolist(),
        "arrayminus": (value - rows[f"{fit}_low"].clip(lower=_FLOOR)).clip(lower=0).fillna(0).tolist(),
        "thickness": 1.5,
        "width": 3,
    }


@takes_rows
def words_on_circle(rows: Frame[PointRow], *, period: int) -> go.Figure:
    """Each word where its activation says it is, by the fit to the other words, joined to its own place on the unit
    circle. Words without a place are not drawn.
    """
    known = rows[rows["x"].notna() & rows["y"].notna()]
    if known.empty:
        return blank("No word has a place in this plane")
    angle = np.linspace(0, 2 * np.pi, 181)
    figure = go.Figure()
    figure.add_scatter(
        x=np.cos(angle).tolist(),
        y=np.sin(angle).tolist(),
        mode="lines",
        line={"color": UNKNOWN, "width": 1},
        name="perfect circle",
        hoverinfo="skip",
    )
    own = 2 * np.pi * known["place"].to_numpy() / period
    gap = [None] * len(known)
    figure.add_scatter(
        x=[value for three in zip(np.cos(own), known["x"], gap, strict=True) for value in three],
        y=[value for three in zip(np.sin(own), known["y"], gap, strict=True) for value in three],
        mode="lines",
        line={"color": UNKNOWN, "width": 0.8, "dash": "dot"},
        name="from its own place",
        hoverinfo="skip",
    )
    words = [for_plotly(word, limit=20) for word in known["word"]]
    apart = max(1, len(words) // _NAMED)
    figure.add_scatter(
        x=known["x"].tolist(),
        y=known["y"].tolist(),
        mode="markers+text",
        marker={"color": known["place"].tolist(), "colorscale": SEQUENTIAL, "size": 8},
        text=[word if number % apart == 0 else "" for number, word in enumerate(words)],
        textposition="top center",
        customdata=words,
        name="a word, by the others",
        hovertemplate="%{customdata}: %{x:.2f}, %{y:.2f}<extra></extra>",
        cliponaxis=False,
    )
    reach = min(max(1.3, 1.15 * float(known[["x", "y"]].abs().max().max())), 4)
    figure.update_xaxes(title=f"cos, period {period}", range=[-reach, reach], constrain="domain")
    figure.update_yaxes(title=f"sin, period {period}", range=[-reach, reach], scaleanchor="x")
    return figure.update_layout(
        template=TEMPLATE,
        height=520,
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )
