"""The curve of a training: its loss against the tokens seen, with the learning rate below."""

from typing import Any, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.statistics.smoothing import running_mean


def window(n_steps: int) -> int:
    """Odd number of steps that the drawn mean is over: about a twentieth of the training."""
    return 2 * (n_steps // 40) + 1


class Step(TypedDict):
    """A quantity of a training after one step."""

    metric: str
    step: int
    tokens: int
    value: float | None


@takes_rows
def training_curve(metrics: Frame[Step], *, unit: str) -> go.Figure:
    """Rows of `Queries.training_metrics`: each step's loss, in `unit`, with its running mean, over the learning rate.

    A step whose loss is unknown is a gap and is counted.
    """
    loss = metrics[metrics["metric"] == "loss"].sort_values("step")
    values = loss["value"].to_numpy(dtype=float)
    known = np.isfinite(values)
    if not known.any():
        return blank("No loss of this training is known", height=160)
    rate = metrics[(metrics["metric"] == "learning_rate") & metrics["value"].notna()].sort_values("step")
    n_panels = 1 if rate.empty else 2
    figure = make_subplots(
        rows=n_panels, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26][:n_panels], vertical_spacing=0.07
    )
    figure.update_layout(
        template=TEMPLATE, height=240 + 100 * (n_panels - 1), margin={"l": 64, "r": 12, "t": 36, "b": 48}
    )
    over = window(len(values))
    unknown = f", {(~known).sum()} unknown" if not known.all() else ""
    hover = "step %{customdata}, %{x:,} tokens<br>"
    faint = {"opacity": 0.35, "line_width": 1} if over > 1 else {}
    _add(
        figure,
        1,
        loss,
        f"each step (n = {known.sum()}{unknown})",
        hover + "loss %{y:.4g}",
        mode="lines+markers",
        **faint,
    )
    if over > 1:
        mean = loss.assign(value=running_mean(values, over))
        _add(
            figure,
            1,
            mean,
            f"mean of the {over} steps around (fewer at the ends)",
            hover + f"mean of {over} steps %{{y:.4g}}",
        )
    figure.update_yaxes(title=for_plotly(f"loss ({unit})", width=22), row=1)  # a line is as long as the panel is high
    if n_panels == 2:
        _add(figure, 2, rate, "learning rate", hover + "learning rate %{y:.3g}", showlegend=False)
        figure.update_yaxes(title="learning<br>rate", rangemode="tozero", exponentformat="power", nticks=3, row=2)
    figure.update_xaxes(title="tokens seen (without padding)", rangemode="tozero", row=n_panels)
    return figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})


def _add(
    figure: go.Figure, row: int, points: pd.DataFrame, name: str, hover: str, *, mode: str = "lines", **style: Any
) -> None:
    figure.add_scatter(
        x=points["tokens"],
        y=points["value"],
        customdata=points["step"],
        mode=mode,
        name=name,
        line_color=STEERED,
        marker_size=3,
        hovertemplate=hover + "<extra></extra>",
        row=row,
        col=1,
        **style,
    )
