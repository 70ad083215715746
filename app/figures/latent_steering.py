"""Figures of steered latents: the map beside its random vectors, published defects taken apart, fitted vectors."""

from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CATEGORY_COLOURS, CONTROL, DIVERGING, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_ROW, _LEAST = 24, 300  # pixels of a pair's row, and of a map
_INVISIBLE = "rgba(0,0,0,0)"


class SteeredCell(TypedDict):
    """A pair added at a target latent. Changes of accuracy are shares."""

    cell: str  # what a click on it says
    pair: str
    target: int
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    unsteered: float
    difference: float
    low: float
    high: float
    p_holm: float
    n_random: int
    n_random_as_far: int


class RandomCell(TypedDict):
    """A random vector added at a target latent."""

    vector: str
    target: int
    difference: float


class TakenApart(TypedDict):
    """One way to draw the map."""

    label: str
    group: str  # published or ours
    change: float | None  # mean over the map, a share
    change_low: float | None
    change_high: float | None
    random: float | None  # of random vectors
    likeness: float | None  # correlation with the published map
    likeness_low: float | None
    likeness_high: float | None


class FittedCell(TypedDict):
    """A vector fitted by gradient at a target latent."""

    space: str
    target: int
    bound: float  # in typical lengths of the differences
    lengths: float  # its own, likewise
    n: int
    accuracy: float
    unsteered: float
    difference: float
    low: float
    high: float
    p_holm: float


@takes_rows
def steering_map(
    cells: Frame[SteeredCell], randoms: Frame[RandomCell], *, alpha: float, exit_words: str, selected: str | None = None
) -> go.Figure:
    """Pairs down, target latents to the right; colour is the change of accuracy in points, the same scale for both
    parts. A star: significant after Holm. A click on a cell says its `cell`.
    """
    if cells.empty:
        return blank("No pair of latents was steered here")
    targets, pairs = sorted(set(cells["target"])), list(dict.fromkeys(cells["pair"]))
    reach = 100 * max(0.01, float(np.nanmax(np.abs(pd.concat([cells["difference"], randoms["difference"]])))))
    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.64, 0.36],
        horizontal_spacing=0.09,
        subplot_titles=[f"{len(pairs)} pairs", f"{randoms['vector'].nunique()} random vectors as long"],
    )
    scale = {"colorscale": DIVERGING, "zmin": -reach, "zmax": reach}
    stars = cells.assign(
        z=cells["difference"] * 100,
        text=[_star(d, p, alpha) for d, p in zip(cells["difference"], cells["p_holm"], strict=True)],
    )
    figure.add_heatmap(
        x=targets,
        y=pairs,
        z=_grid(stars, "z", "pair", pairs, targets),
        text=_grid(stars, "text", "pair", pairs, targets),
        texttemplate="%{text}",
        textfont={"size": 11, "color": "#000000"},
        hoverinfo="skip",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "accuracy − unsteered, points", "side": "right"}, "thickness": 12},
        **scale,
        row=1,
        col=1,
    )
    _add_marks(figure, cells)
    if len(randoms):
        _add_randoms(figure, randoms, targets, scale)
    if selected in set(cells["cell"]):
        _frame(figure, cells[cells["cell"] == selected].iloc[0], pairs)
    unsteered = cells.drop_duplicates("target").set_index("target")["unsteered"]
    ticks = [f"{target}<br>{100 * unsteered[target]:.0f} %" for target in targets]
    figure.update_xaxes(tickvals=targets, ticktext=ticks, showgrid=False, title="latent moved; below: unsteered")
    figure.update_xaxes(tickvals=targets, ticktext=[str(target) for target in targets], title="latent moved", col=2)
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(showgrid=False, type="category", automargin=True)
    figure.update_yaxes(title="mean A − mean B", range=[len(pairs) - 0.5, -0.5], row=1, col=1)
    n_random = randoms["vector"].nunique()
    figure.update_yaxes(
        showticklabels=False, ticks="", title="random vector", range=[n_random - 0.5, -0.5], row=1, col=2
    )
    figure.update_layout(
        template=TEMPLATE,
        dragmode="pan",
        hovermode="closest",
        height=max(_LEAST, 150 + _ROW * len(pairs)),
        margin={"l": 70, "r": 8, "t": 56, "b": 64},
        title={"text": exit_words, "y": 0.99, "yanchor": "top"},
    )
    return figure.update_annotations(font_size=12)


def _star(difference: float, p: float, alpha: float) -> str:
    points = round(100 * difference)
    return f"{f'{points:+d}' if points else '0'}{' ★' if p <= alpha else ''}"


def _grid(rows: pd.DataFrame, value: str, by: str, order: list[str], targets: list[int]) -> list[list[object]]:
    wide = rows.pivot(index=by, columns="target", values=value).reindex(index=order, columns=targets).astype(object)
    return wide.where(wide.notna(), None).to_numpy().tolist()


def _add_marks(figure: go.Figure, cells: pd.DataFrame) -> None:
    """A heat map takes no clicks: invisible marks above its cells do, and say what they hold."""
    words = [
        f"{cell.pair} at latent {cell.target}: {100 * cell.difference:+.1f} points [{100 * cell.low:+.1f},"
        f" {100 * cell.high:+.1f}]<br>accuracy {100 * cell.accuracy:.1f} % [{100 * cell.accuracy_low:.1f},"
        f" {100 * cell.accuracy_high:.1f}], unsteered {100 * cell.unsteered:.1f} %, n = {cell.n}<br>p after Holm"
        f" {cell.p_holm:.2g}; {cell.n_random_as_far} of {cell.n_random} random vectors move it as far"
        for cell in cells.itertuples()
    ]
    figure.add_scatter(
        x=cells["target"].tolist(),
        y=cells["pair"].tolist(),
        mode="markers",
        marker={"symbol": "square", "size": 18, "color": _INVISIBLE},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        showlegend=False,
        customdata=cells["cell"].tolist(),
        text=words,
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=1,
    )


def _add_randoms(figure: go.Figure, randoms: pd.DataFrame, targets: list[int], scale: dict[str, object]) -> None:
    points = randoms.assign(z=randoms["difference"] * 100)
    order = points.groupby("vector")["z"].mean().sort_values(ascending=False).index.tolist()
    figure.add_heatmap(
        x=targets,
        y=order,
        z=_grid(points, "z", "vector", order, targets),
        hovertemplate="%{y} at latent %{x}: %{z:+.1f} points<extra></extra>",
        hoverongaps=False,
        showscale=False,
        xgap=1,
        ygap=1,
        **scale,
        row=1,
        col=2,
    )


def _frame(figure: go.Figure, cell: pd.Series, pairs: list[str]) -> None:
    at = pairs.index(cell["pair"])
    edge = {"x0": cell["target"] - 0.5, "x1": cell["target"] + 0.5, "y0": at - 0.5, "y1": at + 0.5}
    figure.add_shape(type="rect", **edge, line={"color": ACCENT, "width": 3}, row=1, col=1)


@takes_rows
def taken_apart(rows: Frame[TakenApart]) -> go.Figure:
    """A row a way to draw the map: how far accuracy moves over it, beside random vectors, and how like it is to the
    published one. Bars are 95 % over problems; what is unknown is not drawn.
    """
    if rows.empty or rows["change"].isna().all():
        return blank("The published map has not been remade here")
    labels = rows["label"].tolist()
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.08)
    colours = [ACCENT if group == "published" else STEERED for group in rows["group"]]
    for column, name, factor in ((1, "change", 100), (2, "likeness", 1)):
        value = rows[name].astype(float) * factor
        figure.add_bar(
            x=value,
            y=labels,
            orientation="h",
            marker={"color": colours, "opacity": 0.75},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (rows[f"{name}_high"].astype(float) * factor - value).tolist(),
                "arrayminus": (value - rows[f"{name}_low"].astype(float) * factor).tolist(),
                "color": "rgba(128,128,128,0.9)",
                "thickness": 1.5,
            },
            hovertemplate="%{y}: %{x:.3g}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
    figure.add_scatter(
        x=rows["random"].astype(float) * 100,
        y=labels,
        mode="markers",
        marker={"symbol": "diamond-open", "size": 10, "color": CONTROL, "line": {"width": 2}},
        name="random vectors as long",
        hovertemplate="random vectors: %{x:.3g} points<extra></extra>",
        row=1,
        col=1,
    )
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure.update_xaxes(title="mean change of accuracy over the map, points", zeroline=True, row=1, col=1)
    figure.update_xaxes(title="correlation with the published map", range=[-1.05, 1.05], zeroline=True, row=1, col=2)
    return figure.update_layout(
        template=TEMPLATE,
        height=110 + 26 * len(rows),
        bargap=0.35,
        margin={"l": 8, "r": 8, "t": 34, "b": 48},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


@takes_rows
def fitted_vectors(rows: Frame[FittedCell]) -> go.Figure:
    """A panel a space, a line a bound: accuracy at an early exit with the fitted vector, beside the unsteered run."""
    if rows.empty:
        return blank("No vector has been fitted to this model", height=240)
    spaces = list(dict.fromkeys(rows["space"]))
    figure = make_subplots(
        rows=1, cols=len(spaces), shared_yaxes=True, subplot_titles=[for_plotly(name) for name in spaces]
    )
    bounds = sorted(set(rows["bound"]))
    colours = dict(zip(bounds, list(CATEGORY_COLOURS.values()), strict=False))
    for column, space in enumerate(spaces, start=1):
        own = rows[rows["space"] == space]
        plain = own.drop_duplicates("target").sort_values("target")
        _add_line(figure, plain, "unsteered", "unsteered", MISSING, column)
        for bound in bounds:
            some = own[own["bound"] == bound].sort_values("target")
            _add_line(figure, some, "accuracy", f"up to {bound:g} typical lengths", colours[bound], column)
    figure.update_xaxes(title="latent moved, and last one run", dtick=1)
    figure.update_yaxes(range=[-3, 103], rangemode="tozero")
    figure.update_yaxes(title="accuracy, %", row=1, col=1)
    figure.update_layout(
        template=TEMPLATE,
        height=330,
        margin={"l": 64, "r": 8, "t": 62, "b": 48},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )
    return figure.update_annotations(font_size=12)


def _add_line(figure: go.Figure, rows: pd.DataFrame, value: str, name: str, colour: str, column: int) -> None:
    is_plain = value == "unsteered"
    bars = {
        "type": "data",
        "symmetric": False,
        "array": ((rows["high"] - rows["difference"]) * 100).tolist(),
        "arrayminus": ((rows["difference"] - rows["low"]) * 100).tolist(),
        "thickness": 1,
    }
    figure.add_scatter(
        x=rows["target"].tolist(),
        y=(rows[value] * 100).tolist(),
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": "dash" if is_plain else "solid"},
        error_y=None if is_plain else bars,
        name=name,
        legendgroup=name,
        showlegend=column == 1,
        text=[f"p after Holm {p:.2g}, n = {n}" for p, n in zip(rows["p_holm"], rows["n"], strict=True)],
        hovertemplate=f"{name}: %{{y:.1f}} %<br>%{{text}}<extra></extra>",
        row=1,
        col=column,
    )
