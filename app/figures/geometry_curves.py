"""Words whose order is known: how well a circle or helix predicts them, and where they lie on it."""

from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.panels import bars, laid_out, name_layers, side_by_side
from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, CONTROL, FITTED, SEQUENTIAL, STEERED, UNKNOWN, blank
from app.shell.untrusted import for_plotly

_FITS = {"fourier": ("circle or helix", STEERED), "polynomial": ("polynomial, as many parameters", "#BD8701")}
_NULLS = {
    "smooth_high": ("smooth random curves, 95th percentile", FITTED, "dash"),
    "permuted_high": ("random order, 95th percentile", CONTROL, "dot"),
    "digits_high": ("digits dealt anew, 95th percentile", CATEGORY_COLOURS["self_checking"], "dashdot"),
}
_NAMED = 12  # words whose names are written, about; of more, hovering says the others
FLOOR = -0.5  # an R² below is drawn there, as an open triangle: a polynomial's may be very low


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
    figure = side_by_side(panels)
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
                y=own[fit].clip(lower=FLOOR).tolist(),
                error_y=bars(*(own[name].clip(lower=FLOOR) for name in (fit, f"{fit}_low", f"{fit}_high"))),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={
                    "size": [9 if value < FLOOR else 6 for value in own[fit]],
                    "symbol": ["triangle-down-open" if value < FLOOR else "circle" for value in own[fit]],
                },
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
    name_layers(figure, known["layer"])
    figure.update_yaxes(title="R², each word from the others", col=1)
    figure.update_yaxes(range=[max(FLOOR, min(-0.05, _lowest(known))) - 0.05, 1.05])
    return laid_out(figure, height=420, top=92)


def _lowest(rows: pd.DataFrame) -> float:
    columns = [*_FITS, *(f"{fit}_low" for fit in _FITS), *_NULLS]
    return float(rows[columns].astype(float).min().min())


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
        textposition=_aside(known["x"].to_numpy(float), known["y"].to_numpy(float)),
        customdata=words,
        name="a word, by the others",
        hovertemplate="%{customdata}: %{x:.2f}, %{y:.2f}<extra></extra>",
        cliponaxis=False,
    )
    reach = min(max(1.3, 1.15 * float(known[["x", "y"]].abs().max().max())), 4)
    figure.update_xaxes(title=f"cos, period {period}", range=[-reach, reach], constrain="domain")
    figure.update_yaxes(title=f"sin, period {period}", range=[-reach, reach], scaleanchor="x")
    return laid_out(figure, height=520, top=40)


def _aside(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Where each word's name stands at its mark: on the side away from the nearest other one."""
    apart = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    return [
        f"{'top' if above else 'bottom'} {'right' if right else 'left'}"
        for above, right in zip(y >= y[nearest], x >= x[nearest], strict=True)
    ]
