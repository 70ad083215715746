"""Studies as points: one quantity a panel, by the model's size, the study's seed or the step of training."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.crosscoder import MODELS
from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.models.names import role_words

_COLUMNS, _PANEL = 2, 260


class StudyPoint(TypedDict):
    study: str
    model: str
    role: str
    quantity: str
    value: float | None
    low: float | None
    high: float | None
    n: float | None
    of: str
    null_low: float | None
    null_high: float | None
    where: str
    size: float | None
    seed: float | None
    step: float | None


@takes_rows
def by_axis(rows: Frame[StudyPoint], *, along: str, axis: str, quantities: Mapping[str, str]) -> go.Figure:
    """A panel for each quantity that is known somewhere, with 95 % intervals; grey: what chance alone gives there.

    Points without a place on the axis are left out: the table has them.
    """
    known = rows[rows["value"].notna() & rows[along].notna()]
    shown = [name for name in quantities if (known["quantity"] == name).any()]
    if not shown:
        return blank(f"Of no study both {axis} and a value are known")
    n_rows = -(-len(shown) // _COLUMNS)
    figure = make_subplots(rows=n_rows, cols=_COLUMNS, horizontal_spacing=0.13, vertical_spacing=0.3 / n_rows)
    legend: set[str] = set()
    for place, name in enumerate(shown):
        at = {"row": place // _COLUMNS + 1, "col": place % _COLUMNS + 1}
        own = known[known["quantity"] == name].sort_values(along)
        figure.add_trace(_nulls(own, along), **at)
        for role, points in own.groupby("role", sort=True):
            words = role_words(str(role))
            figure.add_trace(_points(points, along, str(role), shows=words not in legend), **at)
            legend.add(words)
        figure.update_xaxes(title_text=axis, type="log" if along == "size" else "linear", **at)
        figure.update_yaxes(title_text=quantities[name], **at)
    return figure.update_layout(
        template=TEMPLATE, height=80 + _PANEL * n_rows, legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"}
    )


def _points(rows: pd.DataFrame, along: str, role: str, *, shows: bool) -> go.Scatter:
    low, high = (rows["value"] - rows["low"]).clip(lower=0), (rows["high"] - rows["value"]).clip(lower=0)
    return go.Scatter(
        x=rows[along],
        y=rows["value"],
        mode="markers",
        name=role_words(role),
        legendgroup=role,
        showlegend=shows,
        marker={"size": 10, "color": MODELS.get(role, CONTROL)},
        error_y={"type": "data", "symmetric": False, "array": _bars(high), "arrayminus": _bars(low)},
        customdata=[_said(row) for row in rows.to_dict("records")],
        hovertemplate="%{customdata}<br>%{y:.3g}<extra></extra>",
    )


def _bars(lengths: pd.Series) -> Sequence[float]:
    return list(lengths.astype(float).fillna(0.0))


def _nulls(rows: pd.DataFrame, along: str) -> go.Scatter:
    """A line from the lowest to the highest that chance gives, at each point."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row in rows[rows["null_low"].notna() & rows["null_high"].notna()].to_dict("records"):
        xs += [row[along], row[along], None]
        ys += [row["null_low"], row["null_high"], None]
    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        line={"color": CONTROL, "width": 6},
        marker={"color": CONTROL, "size": 9, "symbol": "line-ew-open"},
        opacity=0.6,
        showlegend=False,
        hovertemplate="chance: %{y:.3g}<extra></extra>",
    )


def _said(row: Mapping[str, object]) -> str:
    n = "" if pd.isna(row["n"]) else f"<br>n = {int(float(str(row['n']))):,} {row['of']}"
    return f"{for_plotly(str(row['study']))}: {for_plotly(str(row['model']))}<br>{for_plotly(str(row['where']))}{n}"
