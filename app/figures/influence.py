"""Which chunk acts on which, drawn: pairs of chunks as a map, the ways side by side, and what a study says of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.numbers import count, interval, number
from app.shell.theme import ACCENT, CONTROL, MISSING, SEQUENTIAL, STEERED, TEMPLATE, blank, category_colour
from app.shell.untrusted import for_plotly

_CLEAR = "rgba(0,0,0,0)"
# No value is a faint grey on a white and on a near-black page alike, so that a matrix that is mostly 0 does not glare.
_AROUND_0 = [[0.0, "rgba(47,127,200,1)"], [0.5, "rgba(128,128,128,0.2)"], [1.0, "rgba(214,48,63,1)"]]
ANSWER_GAP = 1.6  # rows between the last chunk and the answer
MODEL_COLOURS = (CONTROL, STEERED, "#BD8701", "#C67FC7")  # base, distilled, and others
MODEL_SYMBOLS = ("circle", "diamond", "square", "cross")


@dataclass(frozen=True)
class Scale:
    """From values to a colour or a width: one for a whole study, so that chains compare.

    `log`: from `low` to `most`, both above 0. `signed log`: the same on either side of 0, nothing below `low`.
    `linear`: from −most to most.
    """

    kind: Literal["log", "signed log", "linear"]
    low: float
    most: float
    unit: str

    def place(self, values: Any) -> np.ndarray:
        """Where each value is drawn, NaN where it is unknown or, on a logarithm, not above 0."""
        values = np.asarray(values, dtype=float)
        if self.kind == "linear":
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.kind == "log":
                return np.where(values > 0, np.log10(values), math.nan)
            size = np.maximum(np.log10(np.abs(values) / self.low), 0)
        return np.where(np.isnan(values), math.nan, np.where(values == 0, 0.0, np.sign(values) * size))

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the scale begins and ends, as placed."""
        end = float(self.place([self.most])[0])
        return (math.log10(self.low), end) if self.kind == "log" else (-end, end)

    def strength(self, values: Any, least: float) -> np.ndarray:
        """Without the sign, from 0 at `least` (or where the scale begins) to 1 at its end; NaN where it is unknown."""
        first, last = self.place([max(least, self.low), self.most])
        sizes = np.abs(np.asarray(values, dtype=float))
        if not last > first:
            return np.where(np.isnan(sizes), math.nan, 1.0)
        return np.clip((self.place(sizes) - first) / (last - first), 0, 1)

    @property
    def ticks(self) -> dict[float, str]:
        """Words at places, for a colour bar."""
        if self.kind == "linear":
            return {value: _short(value) for value in np.linspace(-self.most, self.most, 5)}
        powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.most) + 1e-9) + 1)
        values = [10.0**power for power in powers]
        if len(values) < 2:
            values = [self.low, *values, self.most]
        if self.kind == "log":
            return {float(self.place([value])[0]): _short(value) for value in values}
        further = [value for value in values if value > 3 * self.low]  # which is drawn where 0 is: no words so near it
        signed = [*(-value for value in further[::-1]), 0.0, *further]
        return {float(self.place([value])[0]): _short(value) for value in signed}

    @property
    def colours(self) -> list[list[Any]]:
        return SEQUENTIAL if self.kind == "log" else _AROUND_0

    @property
    def words(self) -> str:
        if self.kind == "linear":
            return f"−{number(self.most)} to {number(self.most)} {self.unit}"
        sides = "either side of 0, " if self.kind == "signed log" else ""
        return f"{sides}{number(self.low)} to {number(self.most)} {self.unit}, logarithmic"


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if value else "0"


class Pair(TypedDict):
    """What an earlier chunk does to a later one."""

    source_index: int  # 0-based place in the chain
    target_index: int
    value: float | None
    is_found: bool  # whether it stands out from what noise gives
    told: str  # what is said of it, in lines


class Answered(TypedDict):
    """What a chunk does to the answer."""

    chunk_index: int
    value: float | None
    is_found: bool
    told: str


@takes_rows
def influence_map(
    pairs: Frame[Pair],
    answers: Frame[Answered],
    *,
    n_chunks: int,
    scale: Scale,
    title: str,
    selected: int | None,
    view: str = "",
) -> go.Figure:
    """The chunk that acts to the right, the one acted on downwards, and the answer apart, below. A pair that noise
    alone gives bears a dot in place of a colour; unknown is blank.

    A heat map takes no clicks: invisible marks above its cells do, with `source.target` as customdata, and `answer` for
    a target.
    """
    if pairs.empty:
        return blank("No pair of this chain is known")
    figure = go.Figure(layout={"template": TEMPLATE, "hovermode": "closest", "dragmode": "pan", "uirevision": view})
    below = n_chunks + ANSWER_GAP
    has_answers = bool(answers["value"].notna().any())
    low, high = scale.bounds
    bar = {"title": {"text": title, "side": "right"}, "thickness": 12, "tickvals": list(scale.ticks)}
    style = {"colorscale": scale.colours, "zmin": low, "zmax": high, "hoverinfo": "skip", "hoverongaps": False}
    gap = 1 if n_chunks <= 60 else 0
    figure.add_heatmap(
        x=list(range(1, n_chunks + 1)),
        y=list(range(1, n_chunks + 1)),
        z=_grid(pairs, n_chunks, scale),
        xgap=gap,
        ygap=gap,
        colorbar=bar | {"ticktext": list(scale.ticks.values())},
        **style,
    )
    if has_answers:
        shown = answers.assign(value=answers["value"].where(answers["is_found"]))
        figure.add_heatmap(
            x=(shown["chunk_index"] + 1).tolist(),
            y=[below],
            z=[_placed(scale, shown["value"])],
            xgap=gap,
            ygap=gap,
            showscale=False,
            **style,
        )
    _add_cells(figure, pairs.assign(y=pairs["target_index"] + 1, x=pairs["source_index"] + 1))
    if has_answers:
        said = answers[answers["value"].notna()]
        _add_cells(figure, said.assign(y=below, x=said["chunk_index"] + 1, source_index=said["chunk_index"]), "answer")
    if selected is not None:
        _add_selected(figure, selected + 1, n_chunks)
    every = max(1, math.ceil(n_chunks / 15))
    ticks = list(range(1, n_chunks + 1, every))
    size = min(760, max(340, 150 + 15 * n_chunks))
    figure.update_xaxes(
        title="chunk that acts", tickvals=ticks, tickangle=0, range=[0.5, n_chunks + 0.5], showgrid=False
    )
    figure.update_yaxes(
        title="chunk that is acted on",
        tickvals=[*ticks, *([below] if has_answers else [])],
        ticktext=[*map(str, ticks), *(["answer"] if has_answers else [])],
        range=[below + 0.8 if has_answers else n_chunks + 0.5, 0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure.update_layout(height=size, showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8})


def _placed(scale: Scale, values: pd.Series) -> list[float | None]:
    return [None if math.isnan(value) else float(f"{value:.4g}") for value in scale.place(values.astype(float))]


def _grid(pairs: pd.DataFrame, n_chunks: int, scale: Scale) -> np.ndarray:
    """Targets by sources, NaN where nothing is drawn."""
    z = np.full((n_chunks, n_chunks), math.nan, dtype=np.float32)
    shown = pairs[pairs["is_found"]]
    z[shown["target_index"], shown["source_index"]] = scale.place(shown["value"].astype(float))
    return z


def _add_cells(
    figure: go.Figure, cells: pd.DataFrame, target: str | None = None, *, place: Mapping[str, int] | None = None
) -> None:
    """Marks that take clicks and say what a cell holds; a dot is seen where noise alone gives as much. `place` is the
    row and column of a figure that has several.
    """
    known = cells[cells["value"].notna()]
    for is_found, own in known.groupby("is_found"):  # a style a trace: one a mark takes plotly seconds in a long chain
        targets = [target] * len(own) if target else own["target_index"].tolist()
        figure.add_scatter(
            x=own["x"].to_numpy(float),
            y=own["y"].to_numpy(float),
            mode="markers",
            marker={
                "symbol": "square" if is_found else "circle",
                "size": 11 if is_found else 3,
                "color": _CLEAR if is_found else MISSING,
                "line": {"width": 0},
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            customdata=[f"{source}.{to}" for source, to in zip(own["source_index"], targets, strict=True)],
            text=own["told"].tolist(),
            hovertemplate="%{text}<extra></extra>",
            **(place or {}),
        )


def _add_selected(figure: go.Figure, number: int, n_chunks: int) -> None:
    """The selected chunk's column and row."""
    for line in ({"color": "rgba(255,255,255,0.7)", "width": 4}, {"color": ACCENT, "width": 2}):
        _add_frames(figure, number, n_chunks, line)


def _add_frames(figure: go.Figure, number: int, n_chunks: int, line: dict[str, Any]) -> None:
    if number < n_chunks:
        figure.add_shape(type="rect", x0=number - 0.5, x1=number + 0.5, y0=number + 0.5, y1=n_chunks + 0.5, line=line)
    if number > 1:
        figure.add_shape(type="rect", x0=0.5, x1=number - 0.5, y0=number - 0.5, y1=number + 0.5, line=line)


@dataclass(frozen=True)
class Panel:
    """One way, beside others."""

    title: str
    pairs: pd.DataFrame  # rows of Pair; empty where the way knows none
    scale: Scale
    without: str  # why it is empty


def ways_beside(panels: Sequence[Panel], *, n_chunks: int, selected: int | None) -> go.Figure:
    """The same chain by each way, on equal axes and scales of their own."""
    n_rows = math.ceil(len(panels) / 2)
    figure = make_subplots(
        rows=n_rows,
        cols=2,
        horizontal_spacing=0.12,
        vertical_spacing=0.16,
        subplot_titles=[panel.title for panel in panels],
    )
    for at, panel in enumerate(panels):
        place = {"row": at // 2 + 1, "col": at % 2 + 1}
        if panel.pairs.empty:
            _say_without(figure, panel.without, n_chunks, place)
        else:
            low, high = panel.scale.bounds
            figure.add_heatmap(
                x=list(range(1, n_chunks + 1)),
                y=list(range(1, n_chunks + 1)),
                z=_grid(panel.pairs, n_chunks, panel.scale),
                colorscale=panel.scale.colours,
                zmin=low,
                zmax=high,
                showscale=False,
                hoverinfo="skip",
                hoverongaps=False,
                **place,
            )
            cells = panel.pairs.assign(y=panel.pairs["target_index"] + 1, x=panel.pairs["source_index"] + 1)
            _add_cells(figure, cells, place=place)
        if selected is not None:
            for side in ("x", "y"):
                add = figure.add_vline if side == "x" else figure.add_hline
                add(selected + 1, line={"color": ACCENT, "width": 1, "dash": "dot"}, **place)
    figure.update_xaxes(range=[0.5, n_chunks + 0.5], showgrid=False, title="acts", nticks=8)
    figure.update_yaxes(range=[n_chunks + 0.5, 0.5], showgrid=False, nticks=8)
    figure.update_yaxes(title="is acted on", col=1)
    figure.update_annotations(font={"size": 12})
    return figure.update_layout(
        template=TEMPLATE,
        height=60 + 290 * n_rows,
        showlegend=False,
        hovermode="closest",
        dragmode="pan",
        margin={"l": 8, "r": 8, "t": 42, "b": 8},
    )


def _say_without(figure: go.Figure, words: str, n_chunks: int, place: dict[str, int]) -> None:
    figure.add_scatter(x=[None], y=[None], mode="markers", hoverinfo="skip", **place)
    figure.add_annotation(
        text=for_plotly(words, limit=140, width=22),
        x=(n_chunks + 1) / 2,
        y=(n_chunks + 1) / 2,
        showarrow=False,
        font={"size": 11},
        **place,
    )


# Over a study


class ByCategory(TypedDict):
    """The mean of a quantity over the chunks of a category, of one model."""

    model: str  # as it is called
    category: str
    label: str
    n: int
    n_problems: int
    mean: float | None
    low: float | None
    high: float | None
    at_place: float | None
    null_low: float | None
    null_high: float | None
    p: float | None


@takes_rows
def categories(rows: Frame[ByCategory], *, axis: str) -> go.Figure:
    """A line a category, the highest mean first, and on it a mark a model, with its interval; grey: what the place
    alone gives, a bar for values dealt anew and a diamond for other CoTs' chunks there.
    """
    known = rows[rows["mean"].notna()]
    if known.empty:
        return blank("No category's influence is known", height=240)
    models = list(dict.fromkeys(known["model"]))
    order = known.groupby("label")["mean"].mean().sort_values().index.tolist()
    apart = 0.22 if len(models) > 1 else 0.0
    figure = go.Figure()
    for number_, model in enumerate(models):
        own = known[known["model"] == model]
        shift = (number_ - (len(models) - 1) / 2) * 2 * apart * -1
        y = [order.index(label) + shift for label in own["label"]]
        colour = MODEL_COLOURS[number_ % len(MODEL_COLOURS)]
        _add_nulls(figure, own, y, is_first=number_ == 0)
        figure.add_scatter(
            x=own["mean"].tolist(),
            y=y,
            mode="markers",
            name=model,
            marker={"size": 10, "color": colour, "symbol": MODEL_SYMBOLS[number_ % len(MODEL_SYMBOLS)]},
            error_x=_errors(own, "mean", colour),
            text=[
                f"<b>{row.label}</b>, {for_plotly(row.model, limit=40)}: {number(row.mean)}<br>"
                f"95 % {interval(row.low, row.high)} · {row.n} chunks of {row.n_problems} problems<br>"
                f"dealt anew among like places {interval(row.null_low, row.null_high)}, p = {number(row.p)}<br>"
                f"other CoTs' chunks there {number(row.at_place)}"
                for row in own.itertuples()
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=order, automargin=True, showgrid=False, zeroline=False
    )
    figure.update_xaxes(title=axis, rangemode="tozero")
    return figure.update_layout(
        template=TEMPLATE,
        height=120 + 46 * len(order),
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 8, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


def _add_nulls(figure: go.Figure, own: pd.DataFrame, y: Sequence[float], *, is_first: bool) -> None:
    bars_x: list[float | None] = []
    bars_y: list[float | None] = []
    for low, high, at in zip(own["null_low"], own["null_high"], y, strict=True):
        if not (pd.isna(low) or pd.isna(high)):
            bars_x += [low, high, None]
            bars_y += [at, at, None]
    figure.add_scatter(
        x=bars_x,
        y=bars_y,
        mode="lines",
        name="dealt anew among like places, 95 %",
        legendgroup="null",
        showlegend=is_first,
        line={"color": "rgba(128,128,128,0.35)", "width": 11},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=own["at_place"].tolist(),
        y=list(y),
        mode="markers",
        name="other CoTs' chunks at such places",
        legendgroup="place",
        showlegend=is_first,
        marker={"symbol": "line-ns-open", "size": 13, "color": MISSING, "line": {"width": 2}},
        hoverinfo="skip",
    )


def _errors(own: pd.DataFrame, value: str, colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (own["high"] - own[value]).tolist(),
        "arrayminus": (own[value] - own["low"]).tolist(),
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


class AtDistance(TypedDict):
    """The mean pair at a span of distances, of one model."""

    model: str
    span: int
    label: str  # how many chunks away
    mean: float | None
    low: float | None
    high: float | None
    n_problems: int
    n_pairs: int


@takes_rows
def by_distance(rows: Frame[AtDistance], *, axis: str, is_log: bool) -> go.Figure:
    """A curve a model over how many chunks away, with its interval over problems as a band."""
    known = rows[rows["mean"].notna()]
    if known.empty:
        return blank("No pair is known", height=300)
    figure = go.Figure()
    for at, (model, own) in enumerate(known.groupby("model", sort=False)):
        colour = MODEL_COLOURS[at % len(MODEL_COLOURS)]
        banded = own[own["low"].notna() & own["high"].notna()]
        if len(banded) > 1:
            figure.add_scatter(
                x=[*banded["span"], *banded["span"][::-1]],
                y=[*banded["high"], *banded["low"][::-1]],
                mode="lines",
                fill="toself",
                fillcolor=_faint(colour),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=own["span"].tolist(),
            y=own["mean"].tolist(),
            mode="lines+markers",
            name=str(model),
            line={"color": colour, "width": 2},
            marker={"size": 7, "symbol": MODEL_SYMBOLS[at % len(MODEL_SYMBOLS)]},
            text=[
                f"{for_plotly(str(model), limit=40)}, {row.label} away: {number(row.mean)}<br>"
                f"95 % {interval(row.low, row.high)} · {row.n_pairs} pairs of {row.n_problems} problems"
                for row in own.itertuples()
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    labels = known.drop_duplicates("span").sort_values("span")
    figure.update_xaxes(
        title="chunks from the one that acts to the one acted on",
        tickvals=labels["span"].tolist(),
        ticktext=labels["label"].tolist(),
        showgrid=False,
    )
    figure.update_yaxes(title=axis, **({"type": "log", "dtick": "D2"} if is_log else {}))
    return figure.update_layout(
        template=TEMPLATE,
        height=340,
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 8, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


class Head(TypedDict):
    """How unevenly a head reads the chunks of a chain."""

    layer: int
    head: int
    kurtosis: float | None
    low: float | None
    high: float | None
    shuffled_low: float | None
    shuffled_high: float | None
    placed: float | None
    rank: int | None


@takes_rows
def top_heads(rows: Frame[Head], *, selected: tuple[int, int] | None) -> go.Figure:
    """A line a head, the largest kurtosis first: its interval, what deals at equal distance give, and what lengths and
    distance alone give. A click is one on its head, `layer.head`.
    """
    known = rows[rows["kurtosis"].notna()].sort_values("rank", kind="stable")
    if known.empty:
        return blank("No head's kurtosis is known", height=240)
    names = [f"{row.layer}.{row.head}" for row in known.itertuples()]
    y = list(range(len(known)))
    figure = go.Figure()
    bars_x: list[float | None] = []
    bars_y: list[float | None] = []
    for at, (low, high) in enumerate(zip(known["shuffled_low"], known["shuffled_high"], strict=True)):
        if not (pd.isna(low) or pd.isna(high)):
            bars_x += [low, high, None]
            bars_y += [at, at, None]
    figure.add_scatter(
        x=bars_x,
        y=bars_y,
        mode="lines",
        name="dealt anew at equal distance, 95 %",
        line={"color": "rgba(128,128,128,0.35)", "width": 9},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=known["placed"].tolist(),
        y=y,
        mode="markers",
        name="lengths and distance alone",
        marker={"symbol": "diamond-open", "size": 9, "color": "#BD8701", "line": {"width": 2}},
        hoverinfo="skip",
    )
    is_selected = [(row.layer, row.head) == selected for row in known.itertuples()]
    figure.add_scatter(
        x=known["kurtosis"].tolist(),
        y=y,
        mode="markers",
        name="measured",
        marker={
            "size": [12 if one else 8 for one in is_selected],
            "color": [ACCENT if one else STEERED for one in is_selected],
        },
        error_x=_errors(known, "kurtosis", STEERED),
        customdata=names,
        text=[
            f"layer {row.layer}, head {row.head}: {number(row.kurtosis)}<br>95 % {interval(row.low, row.high)}<br>"
            f"dealt anew {interval(row.shuffled_low, row.shuffled_high)} · lengths and distance {number(row.placed)}"
            for row in known.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_yaxes(
        tickvals=y, ticktext=names, title="layer.head", range=[len(known) - 0.4, -0.6], showgrid=False, zeroline=False
    )
    figure.update_xaxes(title="kurtosis of the attention that chunks receive")
    return figure.update_layout(
        template=TEMPLATE,
        height=120 + 22 * len(known),
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 8, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )


class HeadCell(TypedDict):
    """A head of the model."""

    layer: int
    head: int
    kurtosis: float | None
    rank: int | None


@takes_rows
def head_map(rows: Frame[HeadCell], *, selected: tuple[int, int] | None, kept: Sequence[tuple[int, int]]) -> go.Figure:
    """Layers upwards, heads to the right, coloured by kurtosis. A dot: its attention is kept chunk by chunk. A click on
    a cell is one on its head, `layer.head`.
    """
    if rows.empty:
        return blank("No head's kurtosis is known", height=240)
    n_layers, n_heads = int(rows["layer"].max()) + 1, int(rows["head"].max()) + 1
    z: list[list[float | None]] = [[None] * n_heads for _ in range(n_layers)]
    for row in rows.itertuples():
        z[row.layer][row.head] = None if pd.isna(row.kurtosis) else float(f"{row.kurtosis:.4g}")
    figure = go.Figure(layout={"template": TEMPLATE, "hovermode": "closest", "dragmode": "pan"})
    figure.add_heatmap(
        z=z,
        colorscale=SEQUENTIAL,
        xgap=1,
        ygap=1,
        hoverinfo="skip",
        hoverongaps=False,
        colorbar={"title": {"text": "kurtosis", "side": "right"}, "thickness": 12},
    )
    is_kept = [(row.layer, row.head) in kept for row in rows.itertuples()]
    figure.add_scatter(
        x=rows["head"].tolist(),
        y=rows["layer"].tolist(),
        mode="markers",
        marker={
            "symbol": ["circle" if one else "square" for one in is_kept],
            "size": [5 if one else 11 for one in is_kept],
            "color": ["#000000" if one else _CLEAR for one in is_kept],
            "line": {"width": 0},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        customdata=[f"{row.layer}.{row.head}" for row in rows.itertuples()],
        text=[
            f"layer {row.layer}, head {row.head}: {number(row.kurtosis)}, rank {count(row.rank)}"
            for row in rows.itertuples()
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    if selected is not None:
        layer, head = selected
        edge = {"x0": head - 0.5, "x1": head + 0.5, "y0": layer - 0.5, "y1": layer + 0.5}
        figure.add_shape(type="rect", **edge, line={"color": ACCENT, "width": 3})
    figure.update_xaxes(title="head", range=[-0.5, n_heads - 0.5], showgrid=False, zeroline=False, nticks=12)
    figure.update_yaxes(title="layer", range=[-0.5, n_layers - 0.5], showgrid=False, zeroline=False, nticks=10)
    return figure.update_layout(
        height=max(260, 110 + 13 * n_layers), showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8}
    )


class Received(TypedDict):
    """What a chunk receives in one head."""

    chunk_id: str
    chunk_index: int
    text: str
    received: float | None
    category: str | None


@takes_rows
def received_curve(rows: Frame[Received], *, selected: str | None) -> go.Figure:
    """Attention received along the chain; chunks with none so far away after them have no mark. A click on a mark is
    one on its chunk.
    """
    known = rows[rows["received"].notna()]
    if known.empty:
        return blank("No chunk of this chain has one so far after it", height=260)
    is_selected = known["chunk_id"] == selected
    figure = go.Figure(layout={"template": TEMPLATE})
    figure.add_scatter(
        x=(known["chunk_index"] + 1).tolist(),
        y=known["received"].tolist(),
        mode="lines+markers",
        line={"color": MISSING, "width": 1.5},
        marker={
            "size": np.where(is_selected, 13, 9),
            "color": [category_colour(category or "untagged") for category in known["category"]],
            "line": {"width": np.where(is_selected, 3, 0), "color": ACCENT},
        },
        customdata=known["chunk_id"].tolist(),
        text=[f"{row.chunk_index + 1}. {for_plotly(row.text, limit=140)}" for row in known.itertuples()],
        hovertemplate="%{y:.3g} · %{text}<extra></extra>",
    )
    figure.update_xaxes(title="chunk", range=[0.5, len(rows) + 0.5], showgrid=False)
    figure.update_yaxes(title="attention received", rangemode="tozero", exponentformat="power")
    return figure.update_layout(
        height=280, showlegend=False, hovermode="closest", margin={"l": 8, "r": 8, "t": 8, "b": 46}
    )


class Agreeing(TypedDict):
    """How far two ways agree, under one reading model."""

    pair: str  # both ways, in words
    model: str
    spearman: float | None
    low: float | None
    high: float | None
    at_distance: float | None
    p: float | None
    n_cots: int
    n_problems: int
    n_pairs: int


@takes_rows
def agreement(rows: Frame[Agreeing]) -> go.Figure:
    """A line a pair of ways and a mark a model: their rank correlation, its interval, and what distance alone gives."""
    known = rows[rows["spearman"].notna()]
    if known.empty:
        return blank("No two methods know the same pairs", height=240)
    pairs, models = list(dict.fromkeys(known["pair"])), list(dict.fromkeys(known["model"]))
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": MISSING, "width": 1, "dash": "dot"})
    for at, model in enumerate(models):
        own = known[known["model"] == model]
        shift = (at - (len(models) - 1) / 2) * (0.36 if len(models) > 1 else 0)
        y = [pairs.index(pair) + shift for pair in own["pair"]]
        colour = MODEL_COLOURS[at % len(MODEL_COLOURS)]
        figure.add_scatter(
            x=own["at_distance"].tolist(),
            y=y,
            mode="markers",
            name="distance alone",
            legendgroup="distance",
            showlegend=at == 0,
            marker={"symbol": "line-ns-open", "size": 15, "color": MISSING, "line": {"width": 2}},
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=own["spearman"].tolist(),
            y=y,
            mode="markers",
            name=model,
            marker={"size": 10, "color": colour, "symbol": MODEL_SYMBOLS[at % len(MODEL_SYMBOLS)]},
            error_x=_errors(own, "spearman", colour),
            text=[
                f"{row.pair}, {for_plotly(row.model, limit=40)}: {number(row.spearman)}<br>95 %"
                f" {interval(row.low, row.high)} · distance alone {number(row.at_distance)}, p = {number(row.p)}<br>"
                f"{row.n_pairs} pairs, {row.n_cots} CoTs, {row.n_problems} problems"
                for row in own.itertuples()
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=list(range(len(pairs))),
        ticktext=pairs,
        range=[len(pairs) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title="rank correlation over the pairs of a CoT, mean over CoTs", range=[-1, 1])
    return figure.update_layout(
        template=TEMPLATE,
        height=130 + 58 * len(pairs),
        hovermode="closest",
        margin={"l": 8, "r": 8, "t": 8, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
