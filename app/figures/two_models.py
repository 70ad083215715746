"""Both models of a pair along β of one feature: what thinking, self-reflection, accuracy, answers and KL come to, over
the band of random rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.crosscoder import MODELS
from app.figures.steering import Quantity
from app.shell.theme import CONTROL, TEMPLATE, blank
from backend.models.names import role_words

QUANTITIES = {  # of the rows, and what its axis says
    "thinking": "thinking,<br>tokens",
    "reflection_rate": "self-reflection<br>words, % of tokens",
    "accuracy": "accuracy",
    "moved": "answers moved<br>from β = 0",
    "kl": "KL(steered ‖<br>base), nats",
}


class Along(TypedDict):
    """One model along β."""

    role: str
    steps: Sequence[float]  # β of each row, in the x axis's unit, rising
    rows: Sequence[Mapping[str, Any]]  # of `along.along`: the quantities at each β
    controls: Sequence[Sequence[Mapping[str, Any]]]  # the same under each random row


@dataclass(frozen=True)
class Curve:
    """One quantity of one model along β; unknown is None."""

    values: list[Quantity]
    lowest: list[float | None]  # over the random rows
    highest: list[float | None]

    @property
    def n_unknown(self) -> int:
        return sum(found["value"] is None for found in self.values)


def curve_of(model: Along, quantity: str) -> Curve:
    """The quantity of the feature, and the least and most that random rows came to at each β."""
    values = [_quantity(row, quantity) for row in model["rows"]]
    known = [
        [found for rows in model["controls"] if (found := _quantity(rows[k], quantity)["value"]) is not None]
        for k in range(len(values))
    ]
    return Curve(values, [min(found, default=None) for found in known], [max(found, default=None) for found in known])


def _quantity(row: Mapping[str, Any], quantity: str) -> Quantity:
    found = row[quantity]
    if isinstance(found, Mapping):
        return {"value": found["value"], "low": found["low"], "high": found["high"], "n": found["n"]}
    return {"value": found, "low": None, "high": None}


def two_models_along(models: Sequence[Along], *, axis: str) -> go.Figure:
    """A row of panels a quantity, a column a model; lines: the feature with 95 % intervals, band: least to most of the
    random rows. What is unknown at every β is said in its panel.
    """
    if not models:
        return blank("No run along β in both models yet", height=200)
    figure = make_subplots(
        rows=len(QUANTITIES),
        cols=len(models),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.035,
        horizontal_spacing=0.04,
        column_titles=[_title(model) for model in models],
    )
    figure.update_layout(
        template=TEMPLATE, height=150 * len(QUANTITIES) + 120, margin={"l": 84, "r": 16, "t": 78, "b": 50}
    )
    for column, model in enumerate(models, start=1):
        for row, quantity in enumerate(QUANTITIES, start=1):
            _add_curve(figure, model, curve_of(model, quantity), at={"row": row, "col": column}, first=row == 1)
    for row, (quantity, words) in enumerate(QUANTITIES.items(), start=1):
        figure.update_yaxes(title=words, title_font_size=12, rangemode="tozero", row=row, col=1)
        if quantity in ("accuracy", "moved"):
            # No range of its own: plotly.js draws every group of matched axes after one with a range from 0 to 4.
            figure.update_yaxes(autorangeoptions_include=[0, 1], tickformat=".0%", row=row)
    figure.update_xaxes(zeroline=True, tickvals=list(models[0]["steps"]))
    figure.update_xaxes(title=axis, row=len(QUANTITIES))
    return figure.update_layout(legend={"orientation": "h", "y": 1.05, "yanchor": "bottom", "x": 0})


def _title(model: Along) -> str:
    n = max((row["n"] for row in model["rows"]), default=0)
    return f"{role_words(model['role'])} · n = {n} at each β"


def _add_curve(figure: go.Figure, model: Along, curve: Curve, *, at: Mapping[str, int], first: bool) -> None:
    steps, k = list(model["steps"]), len(model["controls"])
    band = [(x, low, high) for x, low, high in zip(steps, curve.lowest, curve.highest, strict=True) if low is not None]
    if band:
        xs, lows, highs = (list(part) for part in zip(*band, strict=True))
        figure.add_scatter(
            x=[*xs, *xs[::-1]],
            y=[*highs, *lows[::-1]],
            fill="toself",
            fillcolor="rgba(138,143,152,0.28)",
            mode="lines",
            line={"width": 1, "color": CONTROL},
            name=f"{k} random rows of equal norm, least to most",
            legendgroup="random",
            showlegend=first and at["col"] == 1,
            hoverinfo="skip",
            **at,
        )
    ends = [(found["value"], found["low"], found["high"]) for found in curve.values]
    figure.add_scatter(
        x=steps,
        y=[value for value, _, _ in ends],
        mode="lines+markers",
        name=f"the feature, {role_words(model['role'])}",
        line={"color": MODELS[model["role"]], "width": 1.6},
        marker={"size": 7},
        showlegend=first,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [None if value is None or high is None else high - value for value, _, high in ends],
            "arrayminus": [None if value is None or low is None else value - low for value, low, _ in ends],
            "thickness": 1.2,
            "width": 4,
        },
        customdata=[found.get("n") for found in curve.values],
        hovertemplate=f"{role_words(model['role'])}, β = %{{x:.3~g}}: %{{y:.3g}}, n = %{{customdata}}<extra></extra>",
        **at,
    )
    if curve.n_unknown:
        where = "every" if curve.n_unknown == len(steps) else f"{curve.n_unknown} of {len(steps)}"
        figure.add_annotation(
            text=f"unknown at {where} β",
            showarrow=False,
            xref="x domain",
            yref="y domain",
            x=1,
            y=1,
            xanchor="right",
            yanchor="bottom",
            font={"size": 11},
            **at,
        )
