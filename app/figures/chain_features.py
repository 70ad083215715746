"""Features of a crosscoder along one text: a heat map for each model, feature by token or feature by chunk."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, DIVERGING, SEQUENTIAL, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_ROW_HEIGHT = 17  # pixels
_INVISIBLE = "rgba(0,0,0,0)"


class Cell(TypedDict):
    """A feature that fires at a place; of the roles there are, what it adds to the model's residual stream."""

    feature: int
    place: int  # token or chunk
    code: float
    base: NotRequired[float]
    distilled: NotRequired[float]
    model: NotRequired[float]


@takes_rows
def chain_heat(
    cells: Frame[Cell],
    *,
    rows: Mapping[int, str],
    panels: Mapping[str, str],
    places: range,
    labels: Mapping[int, str],
    ticks: Mapping[int, str],
    columns: str,
    marked: range | None = None,
    selected: int | None = None,
    view: str = "",
) -> go.Figure:
    """One heat map for each model, above each other on one axis and one colour scale; what does not fire is not drawn.

    `panels` are the columns of what a feature adds, each with its title. `rows` names the features to draw, from the
    top; `labels` the places; `ticks` are drawn on the axis; `marked` places are framed; the row of the `selected`
    feature is marked. While `view` is the same, so is the zoom. A heat map takes no clicks: invisible marks above its
    cells do, with `feature.place` as customdata. Where codes have either sign, so has the scale.
    """
    drawn = cells[cells["feature"].isin(list(rows)) & cells["place"].isin(places)]
    if drawn.empty:
        return blank("None of these features fires here", height=260)
    names = {
        feature: f"{'▸ ' if feature == selected else ''}{for_plotly(name, limit=46, width=46)}"
        for feature, name in rows.items()
    }
    figure = make_subplots(
        rows=len(panels), shared_xaxes=True, subplot_titles=list(panels.values()), vertical_spacing=0.06
    )
    along, down = {place: at for at, place in enumerate(places)}, {feature: at for at, feature in enumerate(rows)}
    for number, column in enumerate(panels, start=1):
        known = drawn[drawn[column].notna()]
        values = np.full((len(rows), len(places)), None, dtype=object)
        values[known["feature"].map(down), known["place"].map(along)] = [
            float(f"{value:.3g}") for value in known[column]
        ]
        figure.add_heatmap(
            x=list(places),
            y=list(names.values()),
            z=values.tolist(),
            coloraxis="coloraxis",
            hoverinfo="skip",
            hoverongaps=False,
            row=number,
            col=1,
        )
        figure.add_scattergl(
            x=known["place"].tolist(),
            y=[names[feature] for feature in known["feature"]],
            mode="markers",
            showlegend=False,
            marker={"symbol": "square", "size": 10, "color": _INVISIBLE},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=[f"{feature}.{place}" for feature, place in zip(known["feature"], known["place"], strict=True)],
            hovertext=_hovers(known, rows, panels, labels),
            hoverinfo="text",
            row=number,
            col=1,
        )
        figure.update_yaxes(
            type="category",
            categoryorder="array",
            categoryarray=list(names.values())[::-1],
            row=number,
            col=1,
            tickfont={"size": 11},
            showgrid=False,
            automargin=True,
        )
    if marked:
        figure.add_vrect(
            x0=marked.start - 0.5,
            x1=marked.stop - 0.5,
            line={"color": ACCENT, "width": 1.5},
            fillcolor=ACCENT,
            opacity=0.15,
        )
    figure.update_xaxes(
        tickvals=list(ticks),
        ticktext=[for_plotly(head, limit=16, width=16) for head in ticks.values()],
        tickangle=-90 if any(not head.isdigit() for head in ticks.values()) else 0,
        tickfont={"size": 10},
        showgrid=False,
        range=[places.start - 0.5, places.stop - 0.5],
    )
    figure.update_xaxes(title=columns, row=len(panels), col=1)
    is_signed = bool((drawn["code"] < 0).any())
    height = 90 + len(panels) * (34 + _ROW_HEIGHT * len(rows))
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        margin={"l": 8, "r": 8, "t": 30, "b": 48},
        dragmode="pan",
        hovermode="closest",
        uirevision=view,
        coloraxis={
            **({"colorscale": DIVERGING, "cmid": 0} if is_signed else {"colorscale": SEQUENTIAL, "cmin": 0}),
            "colorbar": {"title": {"text": "f·‖W‖", "side": "top"}, "thickness": 12},
        },
    )
    return figure.update_annotations(font_size=13, x=0, xanchor="left")


def _hovers(
    cells: pd.DataFrame, rows: Mapping[int, str], panels: Mapping[str, str], labels: Mapping[int, str]
) -> list[str]:
    told: Sequence[dict[str, Any]] = cells.to_dict("records")
    return [
        "<br>".join(
            [
                for_plotly(rows[cell["feature"]], limit=120),
                for_plotly(labels[cell["place"]], limit=160),
                f"f {cell['code']:.3g}",
                *(f"{name}: adds {cell[name]:.3g}" for name in panels if pd.notna(cell[name])),
            ]
        )
        for cell in told
    ]
