"""Figures about the KL curves of many chunks: all of them with the selected one, kinds of direction at equal norm, and
finite steps along random directions.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, SEQUENTIAL, STEERED, TEMPLATE, blank, direction_colour
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import direction_order, position_words, studied_words, unit_words
from backend.geometry.anisotropy import Ratio

_KL = "KL(steered ‖ unsteered), nats"
_FAINT = 0.22
_BINS_A_DECADE = 8


class ChunkCurve(TypedDict):
    """KL(β) of a chunk along a kind of direction, mean over the kind's directions."""

    chunk_id: str
    kind: str
    position: str
    betas: Sequence[float]  # rising
    kl: Sequence[float]  # nats


class Quartiles(TypedDict):
    """Over chunks, at one β."""

    kind: NotRequired[str]
    position: NotRequired[str]
    beta: float
    low: float
    median: float
    high: float
    n: int


class KindRatio(TypedDict):
    """KL along a kind over KL along the random directions, median over chunks, at one β."""

    kind: str
    beta: float
    ratio: float | None
    low: float | None
    high: float | None
    n: int
    n_problems: int


class RandomCurve(TypedDict):
    """KL(ε) of a chunk, mean over its random directions."""

    chunk_id: str
    epsilons: Sequence[float]
    random_kl: Sequence[float]  # nats
    noise_floor: float | None
    isotropic_steepness: float | None


class Anisotropy(TypedDict):
    """How unequal a chunk's random directions are at magnitude 1."""

    chunk_id: str
    number: int  # from 1
    text: str
    ratio: float | None  # largest over smallest; where the smallest is at the floor, over the floor
    is_clipped: bool
    mean_kl: float | None  # nats
    cv: float | None


@takes_rows
def all_curves(
    curves: Frame[ChunkCurve], over_chunks: Frame[Quartiles], *, unit: str, selected: str | None, logarithmic: bool
) -> go.Figure:
    """Every chunk's KL(β), a panel for each kind of direction and position, all with one vertical axis: faint lines,
    median and quartiles over chunks, the selected chunk strong. On a logarithmic axis what is 0 has no place.
    """
    if curves.empty:
        return blank("No chunk has been steered here", height=360)
    kinds, positions = direction_order(curves["kind"]), sorted(set(curves["position"]))
    figure = _panels(kinds, positions)
    for row, position in enumerate(positions, start=1):
        for column, kind in enumerate(kinds, start=1):
            at, first = {"row": row, "col": column}, row == column == 1
            own = curves[(curves["kind"] == kind) & (curves["position"] == position)]
            if own.empty:
                continue
            figure.add_trace(_bundle(own, "betas", "kl", direction_colour(kind), logarithmic=logarithmic), **at)
            here = over_chunks[(over_chunks["kind"] == kind) & (over_chunks["position"] == position)]
            for trace in _middle(here, direction_colour(kind), named=first, logarithmic=logarithmic):
                figure.add_trace(trace, **at)
            for trace in _strong(own[own["chunk_id"] == selected], "betas", "kl", named=first, logarithmic=logarithmic):
                figure.add_trace(trace, **at)
    figure.update_xaxes(title=f"β ({unit_words(unit)})", row=len(positions))
    figure.update_yaxes(type="log" if logarithmic else "linear", exponentformat="power" if logarithmic else "e")
    figure.update_yaxes(title=_KL + (", log scale" if logarithmic else ""), col=1)
    return figure


def _panels(kinds: Sequence[str], positions: Sequence[str]) -> go.Figure:
    titles = [
        f"{for_plotly(studied_words(kind), limit=34)}"
        + (f"<br>{position_words(position)}" if len(positions) > 1 else "")
        for position in positions
        for kind in kinds
    ]
    figure = make_subplots(
        rows=len(positions),
        cols=len(kinds),
        shared_yaxes="all",
        shared_xaxes="all",
        horizontal_spacing=0.012,
        vertical_spacing=0.16,
        subplot_titles=titles,
    )
    figure.update_layout(
        template=TEMPLATE,
        height=80 + 340 * len(positions),
        margin={"l": 66, "r": 10, "t": 70, "b": 50},
        dragmode="pan",
        legend={"orientation": "h", "y": 1.07 if len(positions) > 1 else 1.12, "yanchor": "bottom", "x": 0},
    )
    return figure.update_annotations(font_size=12)


def _bundle(rows: pd.DataFrame, x: str, y: str, colour: str, *, logarithmic: bool) -> go.Scattergl:
    """All curves as one trace, with gaps between them; marks that are not seen take the clicks."""
    xs, ys, names = [], [], []
    for name, at, kl in zip(rows["chunk_id"], rows[x], rows[y], strict=True):
        xs += [*np.asarray(at, float).tolist(), None]
        ys += [*_drawable(kl, logarithmic=logarithmic), None]
        names += [name] * (len(at) + 1)
    return go.Scattergl(
        x=xs,
        y=ys,
        customdata=names,
        mode="lines+markers",
        line={"color": colour, "width": 0.7},
        marker={"color": colour, "size": 5, "opacity": 0},
        opacity=_FAINT if len(rows) > 60 else 0.5,
        name=f"chunks ({len(rows)})",
        showlegend=False,
        hovertemplate="%{x:.3g}: %{y:.3g} nats<br>click: choose this chunk<extra></extra>",
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
    )


def _drawable(kl: Sequence[float], *, logarithmic: bool) -> list[float | None]:
    return [
        float(value) if np.isfinite(value) and (value > 0 or not logarithmic) else None
        for value in np.asarray(kl, float)
    ]


def _middle(rows: pd.DataFrame, colour: str, *, named: bool, logarithmic: bool) -> list[BaseTraceType]:
    """Median and quartiles over chunks; on a logarithmic axis with a gap where a quartile is 0."""
    gap = (rows["low"] <= 0) & logarithmic
    part = gap.cumsum()[~gap]
    bands = [
        go.Scatter(
            x=[*own["beta"], *own["beta"][::-1]],
            y=[*own["high"], *own["low"][::-1]],
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor=_see_through(colour),
            hoverinfo="skip",
            name="quartiles over chunks",
            legendgroup="quartiles",
            showlegend=named and number == 0,
        )
        for number, (_, own) in enumerate(rows[~gap].groupby(part))
    ]
    median = go.Scattergl(
        x=rows["beta"],
        y=rows["median"].where(~gap),
        customdata=rows["n"],
        mode="lines",
        line={"color": colour, "width": 3},
        name="median over chunks",
        showlegend=named,
        hovertemplate="%{x:.3g}: median %{y:.3g} nats, n = %{customdata}<extra></extra>",
    )
    return [*bands, median]


def _strong(rows: pd.DataFrame, x: str, y: str, *, named: bool, logarithmic: bool) -> list[go.Scattergl]:
    """The selected chunk's curve, on the canvas of the others: over them."""
    return [
        go.Scattergl(
            x=np.asarray(at, float),
            y=_drawable(kl, logarithmic=logarithmic),
            mode="lines+markers",
            line={"color": ACCENT, "width": 2.5},
            marker={"color": ACCENT, "size": 6},
            name="selected chunk",
            showlegend=named,
            hovertemplate="selected chunk<br>%{x:.3g}: %{y:.3g} nats<extra></extra>",
        )
        for at, kl in zip(rows[x], rows[y], strict=True)
    ]


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"


@takes_rows
def kinds_at_equal_norm(
    over_chunks: Frame[Quartiles], ratios: Frame[KindRatio], *, unit: str, reference: str
) -> go.Figure:
    """Left: median and quartiles of KL(β) over chunks for each kind, log axis. Right: each kind's KL over that along
    the reference kind at the same chunk and β, median with its interval over problems; 1 is no difference.
    """
    if over_chunks.empty:
        return blank("No chunk has been steered here", height=360)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    kinds = direction_order(over_chunks["kind"])
    for kind in kinds:
        own, colour = over_chunks[over_chunks["kind"] == kind], direction_colour(kind)
        *bands, median = _middle(own, colour, named=False, logarithmic=True)
        label = f"{for_plotly(studied_words(kind), limit=60)} (n = {int(own['n'].max())})"
        for band in bands:
            figure.add_trace(band.update(legendgroup=kind), row=1, col=1)
        figure.add_trace(median.update(name=label, showlegend=True, legendgroup=kind), row=1, col=1)
        part = ratios[(ratios["kind"] == kind) & ratios["ratio"].notna()]
        figure.add_trace(
            go.Scatter(
                x=part["beta"],
                y=part["ratio"],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": part["high"] - part["ratio"],
                    "arrayminus": part["ratio"] - part["low"],
                    "width": 3,
                    "thickness": 1.2,
                },
                customdata=part[["n", "n_problems"]].to_numpy(),
                mode="markers+lines",
                line={"color": colour, "width": 1},
                marker={"color": colour, "size": 7},
                legendgroup=kind,
                showlegend=False,
                hovertemplate="β = %{x:.3g}: ratio %{y:.3g}<br>n = %{customdata[0]} chunks of %{customdata[1]}"
                " problems<extra></extra>",
            ),
            row=1,
            col=2,
        )
    figure.add_hline(y=1, line={"dash": "dash", "color": MISSING, "width": 1.5}, row=1, col=2)
    figure.update_xaxes(title=f"β ({unit_words(unit)})")
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_yaxes(title=f"{_KL}, log scale<br>median and quartiles over chunks", row=1, col=1)
    words = for_plotly(studied_words(reference), limit=60)
    figure.update_yaxes(title=f"ratio to {words}<br>median over chunks, 95 % over problems", row=1, col=2)
    return figure.update_layout(
        template=TEMPLATE,
        height=440,
        margin={"l": 84, "r": 10, "t": 84, "b": 50},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0},
    )


@takes_rows
def random_curves(
    curves: Frame[RandomCurve], over_chunks: Frame[Quartiles], *, unit: str, selected: str | None, n_random: str
) -> go.Figure:
    """KL(ε) of every chunk, mean over its random directions, log axes: faint lines, median and quartiles over chunks,
    the selected one strong with its limit tr(G)/2d · ε² and its noise floor.
    """
    if curves.empty:
        return blank("No finite steps along random directions were made here", height=360)
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 460, "margin": {"l": 76, "r": 10, "t": 84, "b": 50}, "dragmode": "pan"}
    )
    figure.add_trace(_bundle(curves, "epsilons", "random_kl", CONTROL, logarithmic=True))
    for trace in (
        *_middle(over_chunks, CONTROL, named=True, logarithmic=True),
        *_strong(curves[curves["chunk_id"] == selected], "epsilons", "random_kl", named=True, logarithmic=True),
    ):
        figure.add_trace(trace)
    for row in curves[curves["chunk_id"] == selected].itertuples():
        _add_limits(figure, row.epsilons, row.isotropic_steepness, row.noise_floor)
    figure.update_xaxes(title=f"ε ({unit_words(unit)}), log scale", type="log")
    figure.update_yaxes(
        title=f"{_KL}, log scale<br>mean over {n_random} random directions", type="log", exponentformat="power"
    )
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


def _add_limits(figure: go.Figure, epsilons: Sequence[float], trace: float | None, floor: float | None) -> None:
    """tr(G)/2d · ε² and the noise floor of the selected chunk, where they are known."""
    at = np.asarray(epsilons, float)
    if trace is not None and pd.notna(trace):
        figure.add_scatter(
            x=at,
            y=trace * at**2,
            mode="lines",
            name="its limit tr(G)/2d · ε²",
            line={"dash": "dash", "color": STEERED, "width": 2},
            hoverinfo="skip",
        )
    if floor is not None and pd.notna(floor) and floor > 0:
        figure.add_scatter(
            x=[at.min(), at.max()],
            y=[floor] * 2,
            mode="lines",
            name=f"its noise floor {floor:.1g}",
            line={"dash": "dot", "color": MISSING, "width": 1.5},
            hoverinfo="skip",
        )


@takes_rows
def anisotropy_histogram(rows: Frame[Anisotropy], *, expected: Ratio, n_random: str) -> go.Figure:
    """Largest over smallest KL of a chunk's random directions at magnitude 1, chunks counted in bins of equal width in
    the logarithm. What is divided by the noise floor, because the smallest KL lies at or below it, is a bar of its own
    colour: at least that.
    """
    known = rows[rows["ratio"] > 0]
    if known.empty:
        return blank("No chunk has a largest and a smallest KL over random directions", height=360)
    figure = go.Figure(
        layout={
            "template": TEMPLATE,
            "height": 400,
            "margin": {"l": 60, "r": 10, "t": 84, "b": 64},
            "barmode": "stack",
            "bargap": 0.06,
        }
    )
    bins = np.floor(np.log10(known["ratio"].astype(float)) * _BINS_A_DECADE + 1e-9).astype(int)
    every = range(int(bins.min()), int(bins.max()) + 1)
    clipped = known["is_clipped"].astype(bool)
    for part, name, colour in (
        (~clipped, f"above the noise floor ({int((~clipped).sum())})", CONTROL),
        (clipped, f"smallest at the floor: at least this ({int(clipped.sum())})", ACCENT),
    ):
        counts = bins[part].value_counts()
        figure.add_bar(
            x=[10 ** ((k + 0.5) / _BINS_A_DECADE) for k in every],
            y=[int(counts.get(k, 0)) for k in every],
            width=[10 ** ((k + 1) / _BINS_A_DECADE) - 10 ** (k / _BINS_A_DECADE) for k in every],
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="about %{x:.3g}: %{y} chunks<extra></extra>",
        )
    _mark_expected(figure, expected, vertical=True)
    figure.update_xaxes(
        title=f"largest / smallest KL over {n_random} random directions<br>at ε = 1 RMS, log scale", type="log"
    )
    tallest = int(bins.value_counts().max())
    figure.update_yaxes(title=f"chunks (n = {len(known)})", dtick=1 if tallest <= 8 else None)
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


@takes_rows
def anisotropy_against_size(
    rows: Frame[Anisotropy], *, expected: Ratio, selected: str | None, n_random: str
) -> go.Figure:
    """The ratio against the mean KL of the same directions, log axes, coloured by their coefficient of variation. A
    triangle is at least that: its smallest KL lies at the noise floor.
    """
    known = rows[(rows["ratio"] > 0) & (rows["mean_kl"] > 0)]
    if known.empty:
        return blank("No chunk has a ratio and a mean KL over random directions", height=360)
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 400, "margin": {"l": 70, "r": 10, "t": 84, "b": 64}, "dragmode": "pan"}
    )
    figure.add_trace(
        go.Scattergl(
            x=known["mean_kl"].tolist(),
            y=known["ratio"].tolist(),
            mode="markers",
            name=f"chunks ({len(known)})",
            showlegend=False,
            customdata=known["chunk_id"].tolist(),
            hovertext=[
                f"<b>{n}</b> {for_plotly(text, limit=120)}"
                for n, text in zip(known["number"], known["text"], strict=True)
            ],
            hovertemplate="%{hovertext}<br>ratio %{y:.3g}, mean KL %{x:.3g}, CV %{marker.color:.2f}<extra></extra>",
            marker={
                "size": 8,
                "opacity": 0.85,
                "symbol": ["triangle-up" if clipped else "circle" for clipped in known["is_clipped"]],
                "color": known["cv"].astype(float).tolist(),
                "colorscale": SEQUENTIAL,
                "colorbar": {"title": {"text": "CV"}, "thickness": 12},
            },
            unselected={"marker": {"opacity": 0.85}},
        )
    )
    own = known[known["chunk_id"] == selected]
    if len(own):
        figure.add_scatter(
            x=own["mean_kl"],
            y=own["ratio"],
            mode="markers",
            name="selected chunk",
            hoverinfo="skip",
            marker={"size": 16, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3, "color": ACCENT}},
        )
    _mark_expected(figure, expected, vertical=False)
    figure.update_xaxes(title="mean KL of these directions, nats, log scale", type="log", exponentformat="power")
    figure.update_yaxes(title=f"largest / smallest KL<br>over {n_random} random directions, log scale", type="log")
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


def _mark_expected(figure: go.Figure, expected: Ratio, *, vertical: bool) -> None:
    """1, where every direction costs the same, and what chance makes of the variation that was measured. The two have
    their words in the legend: a line there is a trace without points.
    """
    add, band = (figure.add_vline, figure.add_vrect) if vertical else (figure.add_hline, figure.add_hrect)
    key, lines = ("x", "y")[not vertical], [(1.0, "if G were the same in all directions: 1", MISSING, "dash")]
    if np.isfinite(expected.median):
        lines.append((expected.median, "by chance, at the median CV measured (95 % shaded)", STEERED, "dot"))
        band(**{f"{key}0": expected.low, f"{key}1": expected.high}, fillcolor=STEERED, opacity=0.1, line_width=0)
    for value, name, colour, dash in lines:
        add(**{key: value}, line={"color": colour, "dash": dash, "width": 2})
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=name, line={"color": colour, "dash": dash, "width": 2}
        )
