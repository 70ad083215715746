"""KL(β) of one chunk at two places, one line each."""

from typing import TypedDict

import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import FITTED, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import unit_words

_LOOKS = ((STEERED, "circle", "solid"), (FITTED, "diamond", "dash"))


class CurvePoint(TypedDict):
    """A point of a curve; `place` is what it is called."""

    place: str
    beta: float
    kl: float | None
    unit: str


@takes_rows
def curves_beside(points: Frame[CurvePoint]) -> go.Figure:
    """A line a place, in the order in which they come; at most two. Unknown points are left out."""
    known = points.dropna(subset=["kl"])
    if known.empty:
        return blank("No KL(β) is known at either place", height=260)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 300, "margin": {"l": 60, "r": 12, "t": 20, "b": 46}})
    for (colour, symbol, dash), place in zip(_LOOKS, dict.fromkeys(points["place"]), strict=False):
        own = known[known["place"] == place]
        name = for_plotly(place, limit=60)
        figure.add_scatter(
            x=own["beta"],
            y=own["kl"],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 1.5, "dash": dash},
            marker={"color": colour, "size": 7, "symbol": symbol},
            hovertemplate=f"{name}<br>β = %{{x:.3~g}}<br>KL = %{{y:.3g}} nats<extra></extra>",
        )
    figure.update_xaxes(title=f"β ({unit_words(points['unit'].iloc[0])})")
    figure.update_yaxes(title="KL(steered ‖ unsteered), nats", rangemode="tozero")
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, showlegend=True)
