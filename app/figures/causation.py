"""Figures about anchors and their matches when both are steered: every pair, its difference, and the tests."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly

ARMS = {"steered": ("steered", STEERED), "random": ("random directions", CONTROL)}
_ROLES = ("match", "anchor")  # from left to right


class Steered(TypedDict):
    """An effect on one chunk of a pair, in one arm."""

    pair_id: str
    role: str  # anchor, match
    arm: str  # steered, random
    chunk_id: str
    number: int  # of the chunk, from 1
    text: str
    value: float | None
    ci_low: float | None
    ci_high: float | None


class Difference(TypedDict):
    """Anchor less match of one pair, in one arm."""

    pair_id: str
    anchor_id: str
    arm: str  # steered, random
    difference: float | None
    text: NotRequired[str]  # of the anchor


class Mean(TypedDict):
    """A mean over pairs with its 95 % interval."""

    name: str
    label: str
    arm: str  # whose colour it has
    value: float | None
    low: float | None
    high: float | None
    n: int


@takes_rows
def paired_effects(rows: Frame[Steered], *, axis: str, selected: str | None) -> go.Figure:
    """A panel an arm: a line a pair from the effect on the match to that on its anchor, and the means, thick.

    A click on a mark is a click on its chunk. Pairs of which a side is unknown have no line and are counted.
    """
    if rows.empty or rows["value"].isna().all():
        return blank("The effect is known of no chunk", height=420)
    titles = []
    figure = make_subplots(rows=1, cols=len(ARMS), shared_yaxes=True, horizontal_spacing=0.04)
    for column, (arm, (label, colour)) in enumerate(ARMS.items(), start=1):
        own = rows[rows["arm"] == arm]
        wide = own.pivot(index="pair_id", columns="role", values="value").reindex(columns=list(_ROLES)).dropna()
        left_out = own["pair_id"].nunique() - len(wide)
        titles.append(f"{label}: {len(wide)} pairs" + (f", {left_out} unknown" if left_out else ""))
        _add_lines(figure, wide, column)
        _add_marks(figure, own[own["pair_id"].isin(wide.index)], colour, selected, column)
        _add_means(figure, wide, column)
        figure.update_xaxes(
            tickvals=[0, 1], ticktext=["match", "anchor"], range=[-0.35, 1.35], title=titles[-1], row=1, col=column
        )
    figure.update_yaxes(title=axis, row=1, col=1)
    return figure.update_layout(
        template=TEMPLATE,
        height=430,
        showlegend=False,
        dragmode="pan",
        margin={"l": 8, "r": 8, "t": 16, "b": 56},
    )


def _add_lines(figure: go.Figure, wide: pd.DataFrame, column: int) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    for shift, values in zip(_shifts(len(wide)), wide.to_numpy(), strict=True):
        x += [0 + shift, 1 + shift, None]
        y += [*values, None]
    line = {"color": MISSING, "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.45, hoverinfo="skip", row=1, col=column)


def _add_marks(figure: go.Figure, own: pd.DataFrame, colour: str, selected: str | None, column: int) -> None:
    order = {
        pair: shift for pair, shift in zip(sorted(set(own["pair_id"])), _shifts(own["pair_id"].nunique()), strict=True)
    }
    is_selected = own["chunk_id"] == selected
    figure.add_scatter(
        x=[_ROLES.index(role) + order[pair] for role, pair in zip(own["role"], own["pair_id"], strict=True)],
        y=own["value"],
        mode="markers",
        marker={
            "size": np.where(is_selected, 12, 8),
            "color": np.where(is_selected, ACCENT, colour),
            "line": {"width": 1, "color": "rgba(255,255,255,0.6)"},
        },
        customdata=own["chunk_id"].tolist(),
        text=[
            f"chunk {number} ({role}): {for_plotly(text, limit=90)}<br>95 % {_interval(low, high)}"
            for number, role, text, low, high in zip(
                own["number"], own["role"], own["text"], own["ci_low"], own["ci_high"], strict=True
            )
        ],
        hovertemplate="%{y:.3g} · %{text}<extra></extra>",
        row=1,
        col=column,
    )


def _add_means(figure: go.Figure, wide: pd.DataFrame, column: int) -> None:
    figure.add_scatter(
        x=[0, 1],
        y=wide.mean().tolist() if len(wide) else [],
        mode="lines+markers",
        line={"color": ACCENT, "width": 3},
        marker={"size": 11, "symbol": "diamond", "color": ACCENT},
        hovertemplate="mean over pairs: %{y:.3g}<extra></extra>",
        row=1,
        col=column,
    )


def _shifts(n: int) -> np.ndarray:
    """Pairs of the same value stand beside each other."""
    return np.linspace(-0.12, 0.12, n) if n > 1 else np.zeros(n)


@takes_rows
def differences(rows: Frame[Difference], *, axis: str) -> go.Figure:
    """How the differences anchor − match are spread over pairs: a bar a step, steered above random directions; the line
    is no difference. What is unknown is counted.
    """
    known = rows[rows["difference"].notna()]
    if known.empty:
        return blank("No pair's difference is known", height=430)
    low, high = known["difference"].min(), known["difference"].max()
    reach = max(abs(low), abs(high), 1e-9)
    step = 2 * reach / 21
    figure = make_subplots(rows=len(ARMS), cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for line, (arm, (label, colour)) in enumerate(ARMS.items(), start=1):
        own = known.loc[known["arm"] == arm, "difference"]
        figure.add_histogram(
            x=own,
            xbins={"start": -reach - step / 2, "end": reach + step, "size": step},
            marker={"color": colour},
            hovertemplate="%{x}: %{y} pairs<extra></extra>",
            row=line,
            col=1,
        )
        figure.add_vline(x=0, line={"color": MISSING, "width": 1, "dash": "dot"}, row=line, col=1)
        if len(own):
            figure.add_vline(x=own.mean(), line={"color": ACCENT, "width": 3}, row=line, col=1)
        unknown = int((rows["arm"] == arm).sum()) - len(own)
        said = f"{label}: mean {own.mean():+.2f}, {len(own)} pairs" if len(own) else f"{label}: no pair"
        figure.add_annotation(
            text=said.replace("-", "−") + (f", {unknown} unknown" if unknown else ""),
            x=0,
            y=1.16,
            xref="x domain" if line == 1 else f"x{line} domain",
            yref="y domain" if line == 1 else f"y{line} domain",
            xanchor="left",
            showarrow=False,
            font={"size": 12},
        )
    figure.update_yaxes(
        title="pairs of an anchor<br>and its match", rangemode="tozero", dtick=1 if len(rows) <= 20 else None
    )
    figure.update_xaxes(title=f"anchor − match,<br>{axis}", row=len(ARMS), col=1)
    return figure.update_layout(
        template=TEMPLATE, height=430, showlegend=False, margin={"l": 8, "r": 8, "t": 30, "b": 72}, bargap=0.05
    )


@takes_rows
def means(rows: Frame[Mean], *, axis: str) -> go.Figure:
    """Every contrast with its 95 % interval over problems, and no effect as a line. What has no interval has none."""
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No contrast is known", height=240)
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": MISSING, "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=known["value"],
        y=known["label"].tolist(),
        mode="markers",
        marker={"size": 10, "color": [ARMS[arm][1] if arm in ARMS else ACCENT for arm in known["arm"]]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (known["high"] - known["value"]).tolist(),
            "arrayminus": (known["value"] - known["low"]).tolist(),
            "color": "rgba(128,128,128,0.9)",
            "thickness": 1.5,
            "width": 5,
        },
        text=[
            f"{n} pairs, 95 % {_interval(low, high)}"
            for n, low, high in zip(known["n"], known["low"], known["high"], strict=True)
        ],
        hovertemplate="%{y}: %{x:.3g}<br>%{text}<extra></extra>",
    )
    figure.update_yaxes(categoryorder="array", categoryarray=_reversed(known["label"]), automargin=True, showgrid=False)
    figure.update_xaxes(title=axis)
    height = 90 + 34 * len(known)
    return figure.update_layout(
        template=TEMPLATE, height=height, showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 46}
    )


def _reversed(labels: Sequence[str]) -> list[str]:
    return list(labels)[::-1]


def _interval(low: float | None, high: float | None) -> str:
    return "interval unknown" if pd.isna(low) or pd.isna(high) else f"[{low:.3g}, {high:.3g}]"
