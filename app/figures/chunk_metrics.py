"""Accuracy and importance of each chunk of a chain, one above the other; and a metric with and without the answers that
were forced at the cap.
"""

from dataclasses import dataclass
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import Metric


class MeasuredChunk(TypedDict):
    """A chunk in reading order with the accuracy of its rollouts and its importance, each with its 95 % interval."""

    chunk_id: str
    number: int  # from 1
    text: str
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    importance: float | None
    importance_low: float | None
    importance_high: float | None
    is_anchor: bool


class TwoWays(TypedDict):
    """A chunk's metric with, and without, answers forced at the cap and rollouts drawn later."""

    chunk_id: str
    number: int
    value: float | None
    without: float | None
    differs: bool  # its CoT has some


@dataclass(frozen=True)
class Beside:
    """What stands beside the chunks: the base accuracy (None: unknown) with its words, and the anchors' threshold."""

    base: float | None
    base_words: str
    threshold: float


@takes_rows
def accuracy_and_importance(
    chunks: Frame[MeasuredChunk], metric: Metric, beside: Beside, *, selected: str | None
) -> go.Figure:
    """Two panels over the chunk's number: accuracy of its rollouts with the base accuracy dashed, and importance with
    the threshold dashed; anchors are filled, the selected chunk has a ring, unknown values are hollow on the axis.
    """
    if chunks["accuracy"].isna().all() and chunks["importance"].isna().all():
        return blank("Neither accuracy nor importance is known of any chunk of this CoT", height=200)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09)
    figure.update_layout(template=TEMPLATE, height=430, margin={"l": 62, "r": 12, "t": 34, "b": 44})
    for panel, quantity in enumerate(("accuracy", "importance"), start=1):
        _panel(figure, chunks, quantity, panel, selected)
    known = {quantity: int(chunks[quantity].notna().sum()) for quantity in ("accuracy", "importance")}
    if beside.base is not None:
        figure.add_hline(y=beside.base, line={"dash": "dash", "color": MISSING, "width": 1.5}, row=1, col=1)
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines",
            name=for_plotly(beside.base_words, limit=90),
            line={"dash": "dash", "color": MISSING, "width": 1.5},
            row=1,
            col=1,
        )
    figure.add_hline(y=beside.threshold, line={"dash": "dot", "color": STEERED, "width": 1.5}, row=2, col=1)
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        name=f"anchor: importance ≥ {beside.threshold:g} (dotted), {int(chunks['is_anchor'].sum())} of {len(chunks)}",
        marker={"color": STEERED, "size": 9, "symbol": "diamond"},
        row=2,
        col=1,
    )
    figure.update_yaxes(title=f"accuracy (n = {known['accuracy']})", range=[-0.06, 1.06], row=1, col=1)
    figure.update_yaxes(title=f"{metric.unit} (n = {known['importance']})", row=2, col=1)
    figure.update_xaxes(title=f"chunk (n = {len(chunks)}); bars: 95 %", row=2, col=1)
    return figure.update_layout(
        hovermode="closest", legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0}
    )


def _panel(figure: go.Figure, chunks: pd.DataFrame, quantity: str, panel: int, selected: str | None) -> None:
    known, unknown = chunks[chunks[quantity].notna()], chunks[chunks[quantity].isna()]
    value = known[quantity].astype(float)
    figure.add_scatter(
        x=known["number"],
        y=value,
        mode="lines+markers",
        showlegend=False,
        customdata=known["chunk_id"].tolist(),
        line={"color": "rgba(138,143,152,0.55)", "width": 1},
        marker={
            "size": 10,
            "symbol": ["diamond" if anchor else "circle" for anchor in known["is_anchor"]],
            "color": [STEERED if anchor else MISSING for anchor in known["is_anchor"]],
            "line": {"width": [3 if chunk == selected else 0 for chunk in known["chunk_id"]], "color": ACCENT},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (known[f"{quantity}_high"] - value).fillna(0),
            "arrayminus": (value - known[f"{quantity}_low"]).fillna(0),
            "width": 3,
            "thickness": 1.2,
            "color": "rgba(128,128,128,0.8)",
        },
        hovertext=[
            f"{number}. {for_plotly(text)}<br>{quantity} {v:.3g}"
            for number, text, v in zip(known["number"], known["text"], value, strict=True)
        ],
        hoverinfo="text",
        row=panel,
        col=1,
    )
    figure.add_scatter(
        x=unknown["number"],
        y=[0] * len(unknown),
        mode="markers",
        showlegend=False,
        marker={"symbol": "circle-open", "color": MISSING, "size": 8},
        customdata=unknown["chunk_id"].tolist(),
        hovertext=[f"{number}. {quantity} unknown" for number in unknown["number"]],
        hoverinfo="text",
        row=panel,
        col=1,
    )


@takes_rows
def with_and_without(chunks: Frame[TwoWays], metric: Metric, *, selected: str | None) -> go.Figure:
    """The metric of each chunk as it counts, over what it is without the answers forced at the cap and the rollouts
    drawn later; on the line they are equal. Chunks of CoTs that have none of either lie on it, and are faint.
    """
    both = chunks[chunks["value"].notna() & chunks["without"].notna()]
    if both.empty:
        return blank("No chunk has both values", height=200)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 380, "margin": {"l": 60, "r": 12, "t": 44, "b": 46}})
    low, high = (float(getattr(both[["value", "without"]].to_numpy(dtype=float), end)()) for end in ("min", "max"))
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MISSING, "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    for name, rows, colour in (
        ("CoT without any", both[~both["differs"]], "rgba(138,143,152,0.35)"),
        ("CoT with some", both[both["differs"]], STEERED),
    ):
        figure.add_scatter(
            x=rows["without"].astype(float),
            y=rows["value"].astype(float),
            mode="markers",
            name=f"{name} (n = {len(rows)})",
            customdata=rows["chunk_id"].tolist(),
            marker={
                "color": colour,
                "size": 7,
                "line": {"width": [3 if chunk == selected else 0 for chunk in rows["chunk_id"]], "color": ACCENT},
            },
            hovertemplate="with %{y:.3g}<br>without %{x:.3g}<extra></extra>",
        )
    n_unknown = len(chunks) - len(both)
    missing = f"; {n_unknown} chunks lack a value" if n_unknown else ""
    figure.update_xaxes(title=f"without forced answers ({metric.unit}){missing}")
    figure.update_yaxes(title=f"as it counts ({metric.unit})")
    return figure.update_layout(legend={"orientation": "h", "y": 1.01, "yanchor": "bottom"})
