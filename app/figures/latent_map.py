"""The latent map: every chunk where UMAP or PCA put its activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import (
    ACCENT,
    CATEGORY_COLOURS,
    DIMMED,
    DIVERGING,
    MISSING,
    PATH,
    SEQUENTIAL,
    TEMPLATE,
    UNKNOWN,
    blank,
    category_colour,
    category_symbol,
)
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import CATEGORIES, category

OTHERS = "others"  # words that have no colour of their own
WORD_COLOURS = tuple(colour for tag, colour in CATEGORY_COLOURS.items() if tag not in ("unknown", "untagged"))
MOST_POINTS = 50_000  # what WebGL in Plotly draws without waiting


class Point(TypedDict):
    """A chunk where the map puts it."""

    chunk_id: str
    number: int  # from 1
    text: str
    category: str | None
    value: float | str | None  # of the colour
    x: float
    y: float
    z: float | None
    lit: bool


@dataclass(frozen=True)
class Colour:
    """What `value` is, in words; of words there are a few, each with a colour of its own."""

    label: str
    unit: str = ""
    signed: bool = False  # may be below 0
    of_words: bool = False


@takes_rows
def latent_map(
    points: Frame[Point],
    *,
    axes: Sequence[str],
    colour: Colour | None,
    path: Frame[Point],
    selected: str | None,
) -> go.Figure:
    """One marker a chunk.

    `colour` None colours by tag; otherwise by `value`: a number on a scale, centred on 0 when it is signed, or words,
    each with a colour; unknown ones are hollow, grey and counted. Chunks that are not `lit` are dimmed, never hidden.
    `path` (a part of `points`, in reading order) is drawn as a line; `selected` gets a ring. Three axis titles make it
    3-D. Each trace's `customdata` holds its chunk ids.
    """
    if points.empty:
        return blank("No chunk has been placed on this map yet", height=560)
    solid = len(axes) == 3
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 580, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "hovermode": "closest"}
    )
    size = (8 if len(points) <= 1000 else 6 if len(points) <= 10_000 else 4) - 3 * solid
    if colour is None:
        _by_category(figure, points, solid, size)
    elif colour.of_words:
        _by_word(figure, points, solid, size, colour)
    else:
        _by_value(figure, points, solid, size, colour)
    if len(path) > 1:
        _draw(
            figure,
            path,
            solid,
            mode="lines",
            line={"color": PATH, "width": 3 if solid else 2},
            name=f"path of this CoT ({len(path)})",
            hoverinfo="skip",
            opacity=0.8,
        )
    if len(path):
        _number_path(figure, path, solid)
    ring = points[points["chunk_id"] == selected]
    if len(ring):
        _draw(
            figure,
            ring,
            solid,
            mode="markers",
            name="selected chunk",
            showlegend=False,
            hovertext=_hovers(ring, colour),
            hoverinfo="text",
            customdata=ring["chunk_id"].tolist(),
            marker={"size": size + 8, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3, "color": ACCENT}},
        )
    _axes(figure, axes)
    return figure.update_layout(legend={"y": 1, "yanchor": "top", "x": 1.01, "font": {"size": 12}})


def _by_category(figure: go.Figure, points: pd.DataFrame, solid: bool, size: int) -> None:
    tags = points["category"].fillna("untagged")
    order = [tag for tag in CATEGORIES if (tags == tag).any()] + sorted(set(tags) - set(CATEGORIES))
    for tag in order:
        its = points[tags == tag]
        for lit, rows in its.groupby("lit", sort=True):  # the bright ones last, hence on top
            marker = {
                "size": size,
                "color": category_colour(tag),
                "symbol": "circle" if solid else category_symbol(tag),
            }
            _draw(
                figure,
                rows,
                solid,
                mode="markers",
                name=f"{for_plotly(category(tag), limit=40)} ({len(its)})",
                legendgroup=tag,
                showlegend=bool(lit) or not its["lit"].any(),
                hovertext=_hovers(rows),
                hoverinfo="text",
                customdata=rows["chunk_id"].tolist(),
                marker=marker | {"opacity": 0.9 if lit else DIMMED},
            )


def _by_word(figure: go.Figure, points: pd.DataFrame, solid: bool, size: int, colour: Colour) -> None:
    _unknown(figure, points[points["value"].isna()], solid, size, colour)
    counts = points["value"].value_counts()
    words = sorted(set(counts.index) - {OTHERS}, key=lambda word: (-counts[word], word))
    shades = dict(zip(words, WORD_COLOURS, strict=False))
    for word in [*words, *([OTHERS] if OTHERS in counts else [])]:
        its = points[points["value"] == word]
        for lit, rows in its.groupby("lit", sort=True):
            _draw(
                figure,
                rows,
                solid,
                mode="markers",
                name=f"{for_plotly(word, limit=40)} ({len(its)})",
                legendgroup=f"word {word}",
                showlegend=bool(lit) or not its["lit"].any(),
                hovertext=_hovers(rows, colour),
                hoverinfo="text",
                customdata=rows["chunk_id"].tolist(),
                marker={"size": size, "color": shades.get(word, UNKNOWN), "opacity": 0.9 if lit else DIMMED},
            )


def _unknown(figure: go.Figure, unknown: pd.DataFrame, solid: bool, size: int, colour: Colour) -> None:
    for lit, rows in unknown.groupby("lit", sort=True):
        _draw(
            figure,
            rows,
            solid,
            mode="markers",
            name=f"unknown ({len(unknown)})",
            legendgroup="unknown",
            showlegend=bool(lit) or not unknown["lit"].any(),
            hovertext=_hovers(rows, colour),
            hoverinfo="text",
            customdata=rows["chunk_id"].tolist(),
            marker={"size": size, "symbol": "circle-open", "color": MISSING, "opacity": 1.0 if lit else DIMMED},
        )


def _by_value(figure: go.Figure, points: pd.DataFrame, solid: bool, size: int, colour: Colour) -> None:
    known = points[points["value"].notna()]
    _unknown(figure, points[points["value"].isna()], solid, size, colour)
    if known.empty:
        return
    values = known["value"].astype(float)
    reach, least = float(values.abs().max()) or 1.0, _start(values)
    scale = (
        {"colorscale": DIVERGING, "cmin": -reach, "cmax": reach}
        if colour.signed
        else {"colorscale": SEQUENTIAL, "cmin": least, "cmax": max(_end(values), least + 1e-9)}
    )
    for lit, rows in known.groupby("lit", sort=True):
        named = bool(lit) or not known["lit"].any()
        marker = {
            "size": size,
            "color": rows["value"].astype(float).tolist(),
            **scale,
            "opacity": 1.0 if lit else DIMMED,
        }
        if named:
            marker |= {
                "showscale": True,
                "colorbar": _colour_bar(colour, cut=not colour.signed and _end(values) < values.max()),
            }
        _draw(
            figure,
            rows,
            solid,
            mode="markers",
            name=f"known ({len(known)})",
            showlegend=named,
            hovertext=_hovers(rows, colour),
            hoverinfo="text",
            customdata=rows["chunk_id"].tolist(),
            marker=marker,
        )


def _start(values: pd.Series) -> float:
    """Where the scale begins: at 0, where the values begin near it."""
    least = float(values.min())
    return 0.0 if 0 <= least < float(values.max()) / 2 else least


def _end(values: pd.Series) -> float:
    """Where the scale ends: at the largest, or where a few of them are far from all others, before these."""
    usual, most = float(values.quantile(0.98)), float(values.max())
    return usual if 0 < usual < most / 2 else most


def _colour_bar(colour: Colour, *, cut: bool) -> dict[str, Any]:
    unit = f"<br>({for_plotly(colour.unit)})" if colour.unit else ""
    rest = "<br>the largest 2 % alike" if cut else ""
    title = {"text": f"{for_plotly(colour.label, width=30)}{unit}{rest}", "side": "top"}
    return {"title": title, "thickness": 12, "len": 0.6, "y": 0.02, "yanchor": "bottom", "x": 1.01}


def _number_path(figure: go.Figure, path: pd.DataFrame, solid: bool) -> None:
    """The first and the last chunk of the path bear their numbers, so that its direction can be read."""
    ends = path.iloc[[0, -1]] if len(path) > 1 else path
    _draw(
        figure,
        ends,
        solid,
        mode="text",
        text=[str(number) for number in ends["number"]],
        textposition="top center",
        showlegend=False,
        hoverinfo="skip",
        textfont={"size": 12},
    )


def _draw(figure: go.Figure, rows: pd.DataFrame, solid: bool, **how: object) -> None:
    where = {"x": rows["x"].tolist(), "y": rows["y"].tolist()}
    if solid:
        figure.add_trace(go.Scatter3d(**where, z=rows["z"].tolist(), **how))
    else:
        figure.add_trace(
            go.Scattergl(**where, **how, unselected={"marker": {"opacity": 0.3}} if how["mode"] == "markers" else None)
        )


def _axes(figure: go.Figure, axes: Sequence[str]) -> None:
    if len(axes) == 3:
        quiet = {"showticklabels": False, "backgroundcolor": "rgba(0,0,0,0)", "gridcolor": "rgba(128,128,128,0.2)"}
        figure.update_layout(
            scene={f"{name}axis": {**quiet, "title": title} for name, title in zip("xyz", axes, strict=True)}
        )
        return
    for update, title in ((figure.update_xaxes, axes[0]), (figure.update_yaxes, axes[1])):
        update(title=title, showticklabels=False, showgrid=False, zeroline=False, title_standoff=4)
    figure.update_layout(dragmode="pan")


def _hovers(rows: pd.DataFrame, colour: Colour | None = None) -> list[str]:
    label = "" if colour is None else for_plotly(colour.label, limit=60)
    values = [""] * len(rows) if colour is None else [f" · {label}: {_said(value)}" for value in rows["value"]]
    return [
        f"<b>{number}</b> · {for_plotly(category(tag), limit=40)}{value}<br>{for_plotly(text)}"
        for number, tag, value, text in zip(
            rows["number"], rows["category"].fillna("untagged"), values, rows["text"], strict=True
        )
    ]


def _said(value: float | str | None) -> str:
    if isinstance(value, str):
        return for_plotly(value, limit=40)
    return "unknown" if value is None or pd.isna(value) else f"{value:.3g}"
