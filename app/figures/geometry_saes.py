"""Small autoencoders and their trained nulls by layer: how far decoder rows cluster, and how good each is."""

from collections.abc import Mapping
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.panels import laid_out, name_layers, side_by_side
from app.figures.rows import Frame, takes_rows
from app.shell.theme import CATEGORY_COLOURS, FITTED, MISSING, blank
from app.shell.untrusted import for_plotly

_LOOKS = {  # colour and symbol of each source, in order
    number: look
    for number, look in enumerate(
        (
            (CATEGORY_COLOURS["problem_setup"], "circle"),
            (CATEGORY_COLOURS["plan_generation"], "diamond"),
            (CATEGORY_COLOURS["active_computation"], "square"),
        )
    )
}


class SaeTail(TypedDict):
    """One training."""

    panel: str  # of its model
    source: str  # what it was trained on, in words
    layer: int
    seed: int
    times: float | None  # its share of pairs beyond the threshold, in shares of isotropic ones


class SaeQuality(TypedDict):
    """One training."""

    panel: str
    source: str
    layer: int
    seed: int
    variance_explained: float
    l0: float
    dead: float


QUALITIES = {
    "variance_explained": "variance explained",
    "l0": "L0, features a token",
    "dead": "dead, share of features",
}


@takes_rows
def tails_by_layer(rows: Frame[SaeTail], *, middle: Mapping[str, tuple[float, float]]) -> go.Figure:
    """One panel a model: a mark a training, a line through the geometric mean of each layer's seeds. The red line is
    isotropic; `middle`, by panel, are the ends of the middle third of its layers.
    """
    known = rows[rows["times"].notna() & (rows["times"] > 0)]
    if known.empty:
        return blank("No pair of any dictionary exceeds the threshold")
    panels = list(dict.fromkeys(known["panel"]))
    figure = side_by_side(panels)
    for column, panel in enumerate(panels, start=1):
        own = known[known["panel"] == panel]
        for number, source in enumerate(dict.fromkeys(known["source"])):
            some = own[own["source"] == source]
            means = some.groupby("layer")["times"].agg(lambda values: values.prod() ** (1 / len(values)))
            _add(figure, source, number, some, means, "times", (1, column))
        figure.add_hline(y=1, line={"color": FITTED, "width": 1.5}, row=1, col=column)
        low, high = middle[panel]
        figure.add_vrect(low, high, fillcolor=MISSING, opacity=0.12, line_width=0, layer="below", row=1, col=column)
    figure.update_yaxes(type="log")
    figure.update_yaxes(title_text="pairs beyond, times isotropic", row=1, col=1)
    name_layers(figure, known["layer"])
    return laid_out(figure, height=380, top=66)


@takes_rows
def quality_by_layer(rows: Frame[SaeQuality]) -> go.Figure:
    """A row of panels for each of QUALITIES, a column a model."""
    if rows.empty:
        return blank("No dictionary was trained")
    panels = list(dict.fromkeys(rows["panel"]))
    figure = side_by_side(panels, n_rows=len(QUALITIES))
    for column, panel in enumerate(panels, start=1):
        own = rows[rows["panel"] == panel]
        for number, source in enumerate(dict.fromkeys(rows["source"])):
            some = own[own["source"] == source]
            for line, quality in enumerate(QUALITIES, start=1):
                _add(figure, source, number, some, some.groupby("layer")[quality].mean(), quality, (line, column))
    for line, words in enumerate(QUALITIES.values(), start=1):
        figure.update_yaxes(title_text=words, rangemode="tozero", row=line, col=1)
    name_layers(figure, rows["layer"], row=len(QUALITIES))
    return laid_out(figure, height=560, top=66)


def _add(
    figure: go.Figure, source: str, number: int, rows: pd.DataFrame, means: pd.Series, value: str, at: tuple[int, int]
) -> None:
    colour, symbol = _LOOKS[number % len(_LOOKS)]
    first = at == (1, 1)
    figure.add_scatter(
        x=means.index.tolist(),
        y=means.tolist(),
        mode="lines",
        line={"color": colour, "width": 1.5},
        legendgroup=source,
        showlegend=False,
        hoverinfo="skip",
        row=at[0],
        col=at[1],
    )
    figure.add_scatter(
        x=rows["layer"].tolist(),
        y=rows[value].tolist(),
        customdata=rows["seed"].tolist(),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.75},
        name=for_plotly(source, limit=60),
        legendgroup=source,
        showlegend=first,
        hovertemplate="layer %{x}: %{y:.3g}<br>seed %{customdata}<extra></extra>",
        row=at[0],
        col=at[1],
    )
