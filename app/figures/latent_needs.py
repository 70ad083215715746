"""Latents that were replaced: how needed and how specific each is."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import TEMPLATE, blank, sibling_colour
from app.shell.untrusted import for_plotly


class NeedMark(TypedDict):
    """One latent of one model, or all of them. Shares are in percentage points."""

    mark: str  # what a click on it chooses
    model: str  # what legends call it
    sibling: str
    name: str  # of the latent: its number, or all
    needed: float | None  # right answers lost
    needed_low: float | None
    needed_high: float | None
    specific: float | None  # answers that become the donor's, beyond chance
    specific_low: float | None
    specific_high: float | None
    n: int  # problems whose answer is known


@takes_rows
def needed_and_specific(rows: Frame[NeedMark], *, lost_by: str) -> go.Figure:
    """Each latent a mark with its two 95 % intervals; all latents together a square. A latent of which either number is
    unknown has no mark and is counted.
    """
    known = rows.dropna(subset=["needed", "specific"])
    if known.empty:
        return blank("Neither is known of any latent", height=460)
    figure = go.Figure()
    for model, own in known.groupby("model", sort=False):
        n_left_out = int((rows["model"] == model).sum()) - len(own)
        _add(figure, str(model), own, n_left_out)
    left_out = [str(model) for model in rows["model"].unique() if model not in set(known["model"])]
    for axis in (figure.update_xaxes, figure.update_yaxes):
        axis(zeroline=True, zerolinewidth=1.5, nticks=8)
    figure.update_xaxes(title=f"needed: right answers lost under {lost_by}, percentage points")
    figure.update_yaxes(
        title="specific: answers that become the donor's,<br>beyond those under the mean, percentage points"
    )
    if left_out:
        figure.add_annotation(
            text=f"no mark: {', '.join(for_plotly(model, limit=40) for model in left_out)}",
            x=1,
            y=1,
            xref="paper",
            yref="paper",
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
        )
    return figure.update_layout(
        template=TEMPLATE,
        height=470,
        dragmode="pan",
        margin={"l": 76, "r": 8, "t": 48, "b": 52},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )


def _add(figure: go.Figure, model: str, rows: pd.DataFrame, n_left_out: int) -> None:
    colour = sibling_colour(str(rows["sibling"].iloc[0]))
    n = sorted({int(one) for one in rows["n"]})
    size = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
    beside = f", {n_left_out} unknown" if n_left_out else ""
    figure.add_scatter(
        x=rows["needed"].tolist(),
        y=rows["specific"].tolist(),
        error_x=_bars(rows, "needed", colour),
        error_y=_bars(rows, "specific", colour),
        mode="markers+text",
        text=[for_plotly(name, limit=12) for name in rows["name"]],
        textposition="top right",
        textfont={"size": 13},
        marker={
            "color": colour,
            "opacity": 1,
            "size": [13 if name == "all" else 10 for name in rows["name"]],
            "symbol": ["square" if name == "all" else "circle" for name in rows["name"]],
        },
        customdata=rows[["mark", "needed_low", "needed_high", "specific_low", "specific_high", "n"]].to_numpy(),
        name=f"{for_plotly(model, limit=40)} ({size}{beside})",
        hovertemplate=(
            f"{for_plotly(model, limit=40)}, latent %{{text}}<br>needed %{{x:.1f}} [%{{customdata[1]:.1f}},"
            " %{customdata[2]:.1f}]<br>specific %{y:.1f} [%{customdata[3]:.1f}, %{customdata[4]:.1f}]<br>n ="
            " %{customdata[5]}<extra></extra>"
        ),
    )


def _bars(rows: pd.DataFrame, of: str, colour: str) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (rows[f"{of}_high"] - rows[of]).tolist(),
        "arrayminus": (rows[of] - rows[f"{of}_low"]).tolist(),
        "thickness": 1,
        "width": 3,
        "color": colour,
    }
