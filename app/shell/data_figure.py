"""Figures of data, in one way: below each stands what its axes and scales of colour mean."""

from collections.abc import Iterator, Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.shell import axes

_SCALES = ("contour", "heatmap", "histogram2d", "surface")  # traces that may have a scale of colour of their own
DOOR = "Axes"


def data_figure(figure: go.Figure, *, words: Mapping[str, str] | None = None, **how: Any) -> Any:
    """`st.plotly_chart` of the figure, `how` as there; words for its axes stand behind a sign below it.

    `words` are those of terms that mean something of their own in this figure, as its titles have them.
    """
    said = axes.explained(tuple(dict.fromkeys(titles(figure))), axes.own_words(words or {}))
    if not said:
        return st.plotly_chart(figure, **how)
    with st.container(gap=None):
        drawn = st.plotly_chart(figure, **how)
        st.caption(DOOR, help=said)
    return drawn


def titles(figure: go.Figure) -> Iterator[str]:
    """What stands along its axes and its scales of colour, as the figure has it; none of what is not seen."""
    layout = figure.layout
    scenes = [layout[name] for name in layout if name.startswith("scene")]
    own = [*figure.select_xaxes(), *figure.select_yaxes()]
    own += [scene[name] for scene in scenes for name in ("xaxis", "yaxis", "zaxis")]
    bars = [layout[name].colorbar for name in layout if name.startswith("coloraxis")]
    for trace in figure.data:
        bars += [trace.colorbar] if trace.type in _SCALES else []
        bars += [trace.marker.colorbar] if "marker" in trace and trace.marker.showscale else []
    for part in [*(axis for axis in own if axis.visible is not False), *bars]:
        if part.title.text:
            yield part.title.text
