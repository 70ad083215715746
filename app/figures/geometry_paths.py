"""Paths of chains of thought: each measure against the number of chunks, and correct against wrong ones."""

from collections.abc import Mapping
from typing import TypedDict

import plotly.graph_objects as go

from app.figures.panels import bars, laid_out, side_by_side
from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, CORRECT, FITTED, STEERED, UNKNOWN, WRONG, blank
from app.shell.untrusted import for_plotly

_VERDICTS = {"correct": (CORRECT, "circle"), "wrong": (WRONG, "x"), "no verdict": (UNKNOWN, "circle-open")}
_COLOURS = (UNKNOWN, STEERED, ACCENT, "#7D5BF7")  # of comparisons, in their order


class PathRow(TypedDict):
    """A CoT's path."""

    n_chunks: int
    verdict: str  # correct, wrong, no verdict
    value: float | None
    shuffled: float | None
    walk: float | None
    label: str  # what hovering says


class OutcomeRow(TypedDict):
    """A comparison of correct and wrong CoTs at one layer of a model."""

    panel: str
    comparison: str
    label: str  # of the comparison
    layer: int
    difference: float | None
    low: float | None
    high: float | None


@takes_rows
def path_by_length(rows: Frame[PathRow], *, axis: str, dodge: Mapping[str, float]) -> go.Figure:
    """A mark a CoT over its number of chunks, moved aside by its verdict; lines: what random orders of the same chunks,
    and random walks of as many, have on average.
    """
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No chain here has a path with this measure")
    figure = go.Figure()
    nulls = {"shuffled": ("random order, mean", FITTED, "dash"), "walk": ("random walk, mean", CONTROL, "dot")}
    for null, (name, colour, dash) in nulls.items():
        mean = known.groupby("n_chunks")[null].mean()
        figure.add_scatter(
            x=mean.index.tolist(),
            y=mean.tolist(),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "dash": dash, "width": 2},
            name=name,
            hovertemplate=f"{name}, %{{x}} chunks: %{{y:.3g}}<extra></extra>",
        )
    for verdict, (colour, symbol) in _VERDICTS.items():
        own = known[known["verdict"] == verdict]
        if len(own):
            figure.add_scatter(
                x=(own["n_chunks"] + dodge.get(verdict, 0)).tolist(),
                y=own["value"].tolist(),
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
                name=f"{verdict}, n = {len(own)}",
                text=[for_plotly(label) for label in own["label"]],
                hovertemplate="%{text}: %{y:.3g}<extra></extra>",
            )
    figure.update_xaxes(title="chunks of the CoT")
    figure.update_yaxes(title=axis)
    return laid_out(figure, height=380, top=56)


@takes_rows
def outcomes_by_layer(rows: Frame[OutcomeRow], *, axis: str) -> go.Figure:
    """One panel a model: the difference of correct and wrong CoTs with its interval, a mark a comparison and layer."""
    known = rows[rows["difference"].notna()]
    if known.empty:
        return blank("No stratum has both a correct and a wrong CoT")
    panels, layers = list(dict.fromkeys(known["panel"])), sorted(known["layer"].unique())
    kinds = list(dict.fromkeys(known["comparison"]))
    place = {layer: number for number, layer in enumerate(layers)}
    figure = side_by_side(panels)
    for column, panel in enumerate(panels, start=1):
        for number, kind in enumerate(kinds):
            own = known[(known["panel"] == panel) & (known["comparison"] == kind)]
            if own.empty:
                continue
            aside = 0.16 * (number - (len(kinds) - 1) / 2)
            figure.add_scatter(
                x=[place[layer] + aside for layer in own["layer"]],
                y=own["difference"].tolist(),
                error_y=bars(own["difference"], own["low"], own["high"], width=2),
                mode="markers",
                marker={"color": _COLOURS[number % len(_COLOURS)], "size": 7},
                name=for_plotly(own["label"].iloc[0], limit=50),
                legendgroup=kind,
                showlegend=column == 1,
                customdata=own["layer"].tolist(),
                hovertemplate="layer %{customdata}: %{y:.3g}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_hline(y=0, line={"color": UNKNOWN, "width": 1}, row=1, col=column)
    figure.update_xaxes(title="layer", tickvals=list(place.values()), ticktext=[str(layer) for layer in layers])
    figure.update_yaxes(title=axis, col=1)
    return laid_out(figure, height=390, top=84)
