"""Plain and pull-back cosines of all pairs of directions, beside pairs that were drawn."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, SEQUENTIAL, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_POWERS = {power: f"10<sup>{power}</sup>".replace("-", "−") for power in range(-7, 0)}


class Bin(TypedDict):
    """Pairs in one bin of both cosines."""

    drawn: str
    cosine_bin: int
    pullback_bin: int
    n: int


@takes_rows
def pullback_map(
    bins: Frame[Bin],
    *,
    panels: Mapping[str, str],
    edges: np.ndarray,
    hidden: tuple[float, float],
    apart: tuple[float, float],
) -> go.Figure:
    """One panel a kind of pair, by its name in `drawn`; colour is the share of its pairs, as a power of ten. Lines
    frame pairs that interfere in hiding, dotted ones those that only look alike: (|cosine|, |pull-back cosine|) each.
    """
    if bins.empty:
        return blank("No pair of directions has been compared")
    shown = [name for name in panels if name in set(bins["drawn"])]
    figure = make_subplots(
        cols=len(shown),
        shared_yaxes=True,
        subplot_titles=[for_plotly(panels[name], limit=60, width=34) for name in shown],
        horizontal_spacing=0.03,
    )
    middle, n_bins = (edges[1:] + edges[:-1]) / 2, len(edges) - 1
    for column, name in enumerate(shown, start=1):
        own = bins[bins["drawn"] == name]
        counts = np.zeros((n_bins, n_bins))
        counts[own["pullback_bin"].astype(int), own["cosine_bin"].astype(int)] = own["n"]
        share = np.where(counts > 0, counts / counts.sum(), np.nan)
        figure.add_heatmap(
            x=middle,
            y=middle,
            z=np.log10(share),
            customdata=counts,
            zmin=min(_POWERS),
            zmax=max(_POWERS),
            colorscale=SEQUENTIAL,
            showscale=column == len(shown),
            colorbar={
                "title": {"text": "share of pairs in the cell", "side": "right"},
                "tickvals": list(_POWERS),
                "ticktext": list(_POWERS.values()),
                "thickness": 12,
            },
            hovertemplate="cosine %{x:.2f}<br>pull-back cosine %{y:.2f}<br>%{customdata:,} pairs<extra></extra>",
            row=1,
            col=column,
        )
        for sign in (-1, 1):
            _box(figure, column, (-hidden[0], hidden[0]), sorted((sign * hidden[1], sign * 1.0)), "solid")
            _box(figure, column, sorted((sign * apart[0], sign * 1.0)), (-apart[1], apart[1]), "dot")
    figure.update_xaxes(title_text="cosine", range=[-1, 1], tickvals=[-0.5, 0, 0.5])
    figure.update_yaxes(range=[-1, 1])
    figure.update_yaxes(title_text="pull-back cosine", col=1)
    figure.update_layout(template=TEMPLATE, height=360, margin={"l": 60, "r": 10, "t": 50, "b": 50})
    return figure.update_annotations(font_size=12)


def _box(figure: go.Figure, column: int, x: Sequence[float], y: Sequence[float], dash: str) -> None:
    line = {"color": ACCENT, "width": 1, "dash": dash}
    figure.add_shape(type="rect", x0=x[0], x1=x[1], y0=y[0], y1=y[1], line=line, row=1, col=column)
