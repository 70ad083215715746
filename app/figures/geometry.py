"""Figures about local geometry: what the sweep says against what is exact, along the manifold and off it, before a
chunk and after it.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, TypeGuard

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import unit_words
from backend.statistics.changepoint import Changepoint
from backend.statistics.resampling import spearman

_SWEPT = {"steepness": ("|a| of the quadratic", STEERED), "amplitude": ("pure square", ACCENT)}
_SIDES = {"before": ("steered just before the chunk", STEERED), "after": ("steered just after it", ACCENT)}
KLS = {"kl_rest": ("the rest of the CoT", "n_rest"), "kl_answer": ("the answer alone", "n_answer")}


class Named(TypedDict):
    """A chunk as a mark names it."""

    chunk_id: str
    number: int  # from 1
    text: str


class Swept(Named):
    """A chunk's steepness along its directions, by the sweep and exactly."""

    fisher_steepness: float | None
    steepness: float | None
    amplitude: float | None
    below_floor: bool | None


class Isotropic(Named):
    """A chunk's steepness in any direction: exactly, and as the swept random directions have it."""

    isotropic_steepness: float | None
    isotropic_se: float | None
    steepness: float | None
    n_directions: int | None


class OnAndOff(Named):
    """A chunk's steepness along the tangents of its nearest chunks, and orthogonal to them."""

    on_manifold_steepness: float | None
    off_manifold_steepness: float | None


class Side(TypedDict):
    """What follows a chunk when the model is steered on one side of it, along one sample of the direction."""

    chunk_id: str
    number: int  # from 1
    side: str  # before, after
    kl_rest: float | None  # nats
    kl_answer: float | None  # nats
    noise_floor: NotRequired[float | None]


@takes_rows
def swept_against_fisher(rows: Frame[Swept], *, unit: str, selected: str | None) -> go.Figure:
    """Steepness by the sweep against ½·vᵀGv on log axes: |a| and the pure square, with the line on which they agree.

    Hollow: below the noise floor. Values of 0 and unknown ones have no place and are counted.
    """
    figure, facts = _log_axes(), []
    for name, (label, colour) in _SWEPT.items():
        known = rows[(rows["fisher_steepness"] > 0) & (rows[name] > 0)]
        facts.append(_agreement(label, known["fisher_steepness"], known[name], left_out=len(rows) - len(known)))
        if len(known):
            _add_marks(
                figure,
                known,
                "fisher_steepness",
                name,
                label,
                colour,
                hollow=known["below_floor"].fillna(False).astype(bool),
            )
    if not figure.data:
        return blank("No curve has both a swept and a Fisher steepness", height=420)
    _add_ring(figure, rows, "fisher_steepness", list(_SWEPT), selected)
    hollow = int(rows["below_floor"].fillna(False).astype(bool).sum())
    return _finish(
        figure,
        f"Fisher steepness ½·vᵀGv<br>{_per_beta(unit)}, log scale",
        f"steepness by the sweep<br>{_per_beta(unit)}, log scale",
        [*facts, f"dashed: equal · hollow: {hollow} below the noise floor"],
    )


@takes_rows
def isotropic_against_random(rows: Frame[Isotropic], *, unit: str, selected: str | None) -> go.Figure:
    """The mean of |a| over the swept random directions against tr(G)/2d, with its standard error; both on log axes."""
    known = rows[(rows["isotropic_steepness"] > 0) & (rows["steepness"] > 0)]
    if known.empty:
        return blank("No chunk has both tr(G)/2d and swept random directions", height=420)
    figure = _log_axes()
    _add_marks(
        figure,
        known,
        "isotropic_steepness",
        "steepness",
        "chunks",
        CONTROL,
        error_x=known["isotropic_se"].tolist(),
    )
    _add_ring(figure, known, "isotropic_steepness", ["steepness"], selected)
    directions = known["n_directions"]
    swept = f"{directions.min():.0f}" + (f" to {directions.max():.0f}" if directions.min() < directions.max() else "")
    facts = _agreement(
        "mean of random directions", known["isotropic_steepness"], known["steepness"], left_out=len(rows) - len(known)
    )
    return _finish(
        figure,
        f"isotropic steepness tr(G)/2d, ± standard error<br>{_per_beta(unit)}, log scale",
        f"mean |a| over {swept} random directions<br>{_per_beta(unit)}, log scale",
        [facts, "dashed: equal"],
    )


@takes_rows
def on_and_off_manifold(rows: Frame[OnAndOff], *, unit: str, selected: str | None) -> go.Figure:
    """Steepness along the tangents of the nearest chunks against steepness orthogonal to them, on log axes."""
    known = rows[(rows["on_manifold_steepness"] > 0) & (rows["off_manifold_steepness"] > 0)]
    if known.empty:
        return blank("No chunk has an on-manifold and an off-manifold steepness", height=420)
    figure = _log_axes()
    _add_marks(figure, known, "off_manifold_steepness", "on_manifold_steepness", "chunks", STEERED)
    _add_ring(figure, known, "off_manifold_steepness", ["on_manifold_steepness"], selected)
    ratio = known["on_manifold_steepness"] / known["off_manifold_steepness"]
    facts = [
        f"on-manifold is the steeper at {int((ratio > 1).sum())} of {len(known)} chunks · median ratio on / off"
        f" {ratio.median():.3g}" + _left_out(len(rows) - len(known)),
        "dashed: equal",
    ]
    x_title, y_title = (f"{which}-manifold steepness<br>{_per_beta(unit)}, log scale" for which in ("off", "on"))
    return _finish(figure, x_title, y_title, facts)


def eigenvalues(values: Sequence[float], *, unit: str) -> go.Figure:
    """Half the leading eigenvalues of G, the steepness along their eigenvectors, largest first, on a log axis; those
    that are not above 0 have no bar and are counted.
    """
    known = np.asarray(values, float)
    ranks = np.flatnonzero(known > 0)
    if not len(ranks):
        return blank("No leading eigenvalue is above 0", height=160)
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 190, "margin": {"l": 64, "r": 8, "t": 8, "b": 44}, "bargap": 0.2}
    )
    figure.add_bar(
        x=ranks + 1,
        y=known[ranks] / 2,
        marker={"color": STEERED, "line": {"width": 0}},
        hovertemplate="steepness along eigenvector %{x}: λ/2 = %{y:.3g}<extra></extra>",
    )
    lost = len(values) - len(ranks)
    figure.update_xaxes(
        title="leading eigenvalue" + (f" ({lost} not above 0)" if lost else ""), dtick=1 if len(values) <= 16 else 4
    )
    figure.update_yaxes(title=f"λ/2, {_per_beta(unit)}", type="log", exponentformat="power")
    return figure


@takes_rows
def before_and_after(
    rows: Frame[Side],
    *,
    measure: str,
    unit: str,
    step: Changepoint | None,
    selected: str | None,
    n_chunks: int | None = None,
) -> go.Figure:
    """KL of what follows when the model is steered just before each chunk of a CoT, and just after it, in reading
    order.

    Several directions of a chunk are averaged. `measure` is kl_rest or kl_answer. `step` is that of `along_the_cot`,
    whose x is the number of chunks before the steered place, so that x + ½ is a chunk's number. KL that is 0 or unknown
    has no place on the log axis and is counted.
    """
    known = rows[rows[measure].notna()]
    means = known.groupby(["side", "number", "chunk_id"], as_index=False)[measure].mean()
    drawn = means[means[measure] > 0]
    if drawn.empty:
        return blank(f"No KL on {KLS[measure][0]} is known along this CoT", height=320)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 360, "margin": {"l": 84, "r": 12, "t": 62, "b": 48}})
    for side, (label, colour) in _SIDES.items():
        part = drawn[drawn["side"] == side]
        figure.add_scatter(
            x=part["number"],
            y=part[measure],
            mode="lines+markers",
            name=label,
            customdata=part["chunk_id"].tolist(),
            line={"color": colour, "width": 1},
            marker={"color": colour, "size": 7},
            hovertemplate=f"chunk %{{x}}, {label}<br>KL %{{y:.3g}} nats<extra></extra>",
        )
    floors = rows["noise_floor"].dropna() if "noise_floor" in rows and measure == "kl_rest" else pd.Series(dtype=float)
    if len(floors) and floors.max() > 0:
        figure.add_hline(y=float(floors.max()), line={"dash": "dot", "color": MISSING, "width": 1.5})
    if step is not None:
        figure.add_vline(x=step.location + 0.5, line={"dash": "dash", "color": MISSING, "width": 2})
        if np.isfinite(step.low) and np.isfinite(step.high):
            figure.add_vrect(x0=step.low + 0.5, x1=step.high + 0.5, fillcolor=MISSING, opacity=0.12, line_width=0)
    chosen = drawn.loc[drawn["chunk_id"] == selected, "number"]
    if len(chosen):
        figure.add_vline(x=float(chosen.iloc[0]), line={"color": ACCENT, "width": 1})
    figure.update_xaxes(title="chunk")
    figure.update_yaxes(
        title=f"KL(steered ‖ unsteered), nats, log scale<br>on {KLS[measure][0]}", type="log", exponentformat="power"
    )
    unknown, zero = int(len(rows) - len(known)), int(len(means) - len(drawn))
    facts = (
        f"n = {drawn['chunk_id'].nunique()} chunks"
        + (f" of {n_chunks}" if n_chunks else "")
        + f", β in {unit_words(unit)}"
    )
    facts += f" · not drawn: {unknown} unknown, {zero} points of exactly 0" if unknown or zero else ""
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return figure.update_layout(title={"text": facts, "font": {"size": 13}}, legend=legend)


def _log_axes() -> go.Figure:
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 480, "margin": {"l": 88, "r": 12, "t": 92, "b": 70}, "dragmode": "pan"}
    )
    figure.update_xaxes(type="log", exponentformat="power")
    return figure.update_yaxes(type="log", exponentformat="power")


def _add_marks(
    figure: go.Figure,
    rows: pd.DataFrame,
    x: str,
    y: str,
    name: str,
    colour: str,
    *,
    hollow: pd.Series | None = None,
    error_x: list[float] | None = None,
) -> None:
    symbols = "circle" if hollow is None else ["circle-open" if floored else "circle" for floored in hollow]
    texts = [f"<b>{n}</b> {for_plotly(text, limit=120)}" for n, text in zip(rows["number"], rows["text"], strict=True)]
    errors = (
        {}
        if error_x is None
        else {"error_x": {"array": error_x, "color": "rgba(128,128,128,0.5)", "thickness": 1, "width": 0}}
    )
    figure.add_trace(
        go.Scattergl(
            x=rows[x].tolist(),
            y=rows[y].tolist(),
            mode="markers",
            name=f"{name} ({len(rows)})",
            customdata=rows["chunk_id"].tolist(),
            hovertext=texts,
            hovertemplate="%{hovertext}<br>x %{x:.3g}, y %{y:.3g}<extra></extra>",
            marker={"size": 7, "color": colour, "opacity": 0.7, "symbol": symbols},
            unselected={"marker": {"opacity": 0.7}},
            **errors,
        )
    )


def _add_ring(figure: go.Figure, rows: pd.DataFrame, x: str, ys: Sequence[str], selected: str | None) -> None:
    own = rows[(rows["chunk_id"] == selected) & (rows[x] > 0)]
    values = [(a, b) for y in ys for a, b in zip(own[x], own[y], strict=True) if b > 0]
    if values:
        figure.add_trace(
            go.Scattergl(
                x=[a for a, _ in values],
                y=[b for _, b in values],
                mode="markers",
                name="selected chunk",
                showlegend=False,
                customdata=[selected] * len(values),
                hoverinfo="skip",
                marker={"size": 15, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3, "color": ACCENT}},
            )
        )


def _finish(figure: go.Figure, x_title: str, y_title: str, facts: Sequence[str]) -> go.Figure:
    """Titles, and the line of equal values across what is drawn."""
    values = [value for trace in figure.data for value in (*trace.x, *trace.y)]
    ends, dashes = [min(values), max(values)], {"dash": "dash", "color": MISSING, "width": 1.5}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=dashes, showlegend=False, hoverinfo="skip")
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title)
    return figure.update_layout(
        title={
            "text": "<br>".join(f'<span style="font-weight:400">{line}</span>' for line in facts),
            "y": 0.955,
            "yanchor": "top",
        },
        title_font_size=13,
        legend={"orientation": "h", "y": 0.01, "yanchor": "bottom", "x": 0.99, "xanchor": "right"},
    )


def _agreement(label: str, x: pd.Series, y: pd.Series, *, left_out: int) -> str:
    if len(x) < 3:
        return f"{label}: n = {len(x)}, too few for a rank correlation" + _left_out(left_out)
    rho = spearman(x.to_numpy(float), y.to_numpy(float))
    words = "unknown" if np.isnan(rho) else f"{rho:.3f}".replace("-", "−")
    return f"{label}: Spearman ρ = {words}, median ratio {(y / x).median():.3g}, n = {len(x)}" + _left_out(left_out)


def _left_out(n: int) -> str:
    return f" · {n} unknown or 0, not drawn" if n else ""


def _per_beta(unit: str) -> str:
    return f"nats per β² (β in {unit_words(unit)})"


def _is_list(value: Sequence[float] | None) -> TypeGuard[Sequence[float]]:
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) > 0
