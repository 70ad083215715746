"""The small figures of findings: estimates with what chance gives, a measure along layers, and how features lean."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_BAND = "rgba(138,143,152,0.3)"
_HEIGHT = 190


class EstimateRow(TypedDict):
    """One estimate; `claimed` ones are told from chance."""

    label: str
    value: float | None
    low: float | None  # 95 % interval
    high: float | None
    chance_low: float | None  # where nothing is to be found
    chance_high: float | None
    control: float | None
    claimed: bool
    told: str  # when pointed at


class AtLayer(TypedDict):
    """What is measured at a layer, and its control."""

    layer: int
    value: float | None
    low: float | None
    high: float | None
    control: float | None


class Leaning(TypedDict):
    """A live feature, and the band of the null pairs."""

    nrn: float
    claimed: bool
    band_low: float | None
    band_high: float | None


@takes_rows
def estimates(rows: Frame[EstimateRow], *, axis: str) -> go.Figure:
    """A line an estimate with its interval, in the order of the rows: filled where it is claimed, over the grey of what
    chance or the control gives, and from 0.
    """
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("Nothing is known of it", height=_HEIGHT)
    heights = list(range(len(known)))
    figure = _figure(height=78 + 30 * len(known))
    band = known["chance_high"].astype(float) - known["chance_low"].astype(float)
    if band.notna().any():
        figure.add_bar(
            y=heights,
            x=band,
            base=known["chance_low"].astype(float),
            orientation="h",
            width=0.6,
            marker={"color": _BAND, "line": {"width": 0}},
            hoverinfo="skip",
        )
    if known["control"].notna().any():
        figure.add_scatter(
            y=heights,
            x=known["control"].astype(float),
            mode="markers",
            marker={"color": CONTROL, "size": 14, "symbol": "line-ns-open", "line": {"width": 2}},
            hoverinfo="skip",
        )
    colours = [STEERED if claimed else MISSING for claimed in known["claimed"]]
    for height, colour, row in zip(heights, colours, known.itertuples(), strict=True):
        if pd.notna(row.low) and pd.notna(row.high):
            figure.add_scatter(
                x=[row.low, row.high],
                y=[height] * 2,
                mode="lines",
                line={"color": colour, "width": 2},
                hoverinfo="skip",
            )
    figure.add_scatter(
        x=known["value"].astype(float),
        y=heights,
        mode="markers",
        marker={
            "color": colours,
            "size": 10,
            "symbol": ["circle" if claimed else "circle-open" for claimed in known["claimed"]],
            "line": {"width": 2, "color": colours},
        },
        hovertext=[f"{for_plotly(str(row.told))}<br>{row.value:.3g}" for row in known.itertuples()],
        hoverinfo="text",
    )
    figure.add_vline(x=0, line={"color": MISSING, "width": 1})
    figure.update_xaxes(title=for_plotly(axis))
    return figure.update_yaxes(
        tickmode="array",
        tickvals=heights,
        ticktext=[for_plotly(str(label), limit=44) for label in known["label"]],
        range=[len(known) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )


@takes_rows
def by_layer(rows: Frame[AtLayer], *, axis: str) -> go.Figure:
    """The measure along layers with its interval, and its control, dashed."""
    known = rows[rows["value"].notna()].sort_values("layer")
    if known.empty:
        return blank("No layer of the two models has been compared", height=_HEIGHT)
    figure = _figure()
    banded = known[known["low"].notna() & known["high"].notna()]
    figure.add_scatter(
        x=[*banded["layer"], *banded["layer"][::-1]],
        y=[*banded["high"].astype(float), *banded["low"].astype(float)[::-1]],
        fill="toself",
        mode="none",
        fillcolor="rgba(43,131,186,0.2)",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=known["layer"],
        y=known["value"].astype(float),
        mode="lines",
        line={"color": STEERED, "width": 2.5},
        hovertemplate="layer %{x}: %{y:.3g}<extra></extra>",
    )
    figure.add_scatter(
        x=known["layer"],
        y=known["control"].astype(float),
        mode="lines",
        line={"color": CONTROL, "width": 1.5, "dash": "dash"},
        hovertemplate="layer %{x}, control: %{y:.3g}<extra></extra>",
    )
    figure.update_xaxes(title="layer")
    return figure.update_yaxes(title=for_plotly(axis, width=30), rangemode="tozero")


@takes_rows
def leaning(rows: Frame[Leaning]) -> go.Figure:
    """How many live features have which NRN (log scale), those that are claimed in colour, the nulls' band in grey."""
    if rows.empty:
        return blank("No feature fires", height=_HEIGHT)
    figure = _figure()
    bins = {"start": 0, "end": 1.0001, "size": 0.025}
    for claimed, name, colour in ((False, "not claimed", CONTROL), (True, "claimed", ACCENT)):
        own = rows.loc[rows["claimed"].astype(bool) == claimed, "nrn"]
        if len(own):
            figure.add_histogram(x=own, xbins=bins, autobinx=False, name=name, marker={"color": colour})
    first = rows.iloc[0]
    if pd.notna(first["band_low"]):
        figure.add_vrect(x0=first["band_low"], x1=first["band_high"], fillcolor=CONTROL, opacity=0.18, line_width=0)
    figure.add_vline(x=0.5, line={"color": MISSING, "width": 1, "dash": "dot"})
    figure.update_layout(barmode="stack", bargap=0.05)
    figure.update_xaxes(title="NRN (0: base alone, 1: the other alone)", range=[0, 1])
    return figure.update_yaxes(title="live features", type="log", dtick=1)


def _figure(height: int = _HEIGHT) -> go.Figure:
    return go.Figure(
        layout={
            "template": TEMPLATE,
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 10, "b": 8},
            "showlegend": False,
            "dragmode": False,
            "xaxis": {"automargin": True, "title": {"standoff": 4, "font": {"size": 12}}},
            "yaxis": {"automargin": True, "title": {"standoff": 4, "font": {"size": 12}}},
        }
    )
