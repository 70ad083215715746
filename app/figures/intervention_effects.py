"""Figures about interventions on features: what each arm of each model solves, and how often its texts fall into a
loop.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly

_LOOK = {  # colour and symbol of an arm, by what it is
    "base": (MISSING, "diamond"),
    "reconstruct": (ACCENT, "square"),
    "changed": (STEERED, "circle"),
    "random": (CONTROL, "circle-open"),
    "twin": (CONTROL, "diamond-open"),
}
_PANELS = {"solved": "solved", "degenerate": "degenerate"}


class ArmShares(TypedDict):
    """What share of its samples an arm of one model solves, and what share is degenerate, with Wilson's interval."""

    model: str
    arm: str  # base, changed, reconstruct, random, twin
    label: str
    solved: float | None
    solved_low: float | None
    solved_high: float | None
    solved_n: int
    degenerate: float | None
    degenerate_low: float | None
    degenerate_high: float | None
    degenerate_n: int
    band_low: NotRequired[float | None]  # where the controls would leave the share solved
    band_high: NotRequired[float | None]


@takes_rows
def shares_by_arm(rows: Frame[ArmShares]) -> go.Figure:
    """For each model a panel of the share solved and one of degenerate texts: a point an arm with Wilson's interval,
    and "k / n" beside it.

    `rows` are in the order in which they are drawn. A share that is not known has no point. The dotted line is the base
    arm. A shade behind a change is the band of its controls.
    """
    if rows.empty or rows["solved"].isna().all():
        return blank("Nothing has been judged yet", height=160)
    models, labels = list(dict.fromkeys(rows["model"])), list(dict.fromkeys(rows["label"]))
    titles = [f"{model}: {name}" for model in models for name in _PANELS.values()]
    figure = make_subplots(
        rows=len(models),
        cols=2,
        shared_yaxes=True,
        subplot_titles=[for_plotly(title, limit=70) for title in titles],
        column_widths=[0.6, 0.4],
        horizontal_spacing=0.03,
        vertical_spacing=0.5 / max(len(models) * len(labels), 2),
    )
    for line, model in enumerate(models, start=1):
        own = rows[rows["model"] == model]
        for column, quantity in enumerate(_PANELS, start=1):
            _add_points(figure, own, quantity, labels, line, column)
    figure.update_xaxes(range=[-0.05, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_xaxes(title="share of the problems' samples, Wilson 95 %", row=len(models))
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=[for_plotly(label, limit=60) for label in labels],
        range=[len(labels) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    height = 110 + len(models) * (40 + 34 * len(labels))
    return figure.update_layout(
        template=TEMPLATE, height=height, showlegend=False, margin={"l": 8, "r": 8, "t": 40, "b": 46}
    )


def _add_points(
    figure: go.Figure, rows: pd.DataFrame, quantity: str, labels: Sequence[str], line: int, column: int
) -> None:
    known = rows[rows[quantity].notna()]
    base = known.loc[known["arm"] == "base", quantity]
    if len(base):
        figure.add_scatter(
            x=[base.iloc[0]] * 2,
            y=[-0.5, len(labels) - 0.5],
            mode="lines",
            line={"color": MISSING, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
            row=line,
            col=column,
        )
    if quantity == "solved" and "band_low" in known:
        for row in known[known["band_low"].notna()].itertuples():
            place = labels.index(row.label)
            figure.add_shape(
                type="rect",
                x0=max(row.band_low, 0.0),
                x1=min(row.band_high, 1.0),
                y0=place - 0.32,
                y1=place + 0.32,
                fillcolor=CONTROL,
                opacity=0.22,
                line={"width": 0},
                layer="below",
                row=line,
                col=column,
            )
    share, low, high, n = (known[name] for name in (quantity, f"{quantity}_low", f"{quantity}_high", f"{quantity}_n"))
    figure.add_scatter(
        x=share,
        y=[labels.index(label) for label in known["label"]],
        mode="markers+text",
        row=line,
        col=column,
        text=[f"{round(value * total)} / {total:.0f}" for value, total in zip(share, n, strict=True)],
        textfont={"size": 11},
        textposition=["top right" if value < 0.9 else "top left" for value in share],
        marker={
            "size": 9,
            "color": [_LOOK[arm][0] for arm in known["arm"]],
            "symbol": [_LOOK[arm][1] for arm in known["arm"]],
            "line": {"width": 1.5, "color": [_LOOK[arm][0] for arm in known["arm"]]},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": high - share,
            "arrayminus": share - low,
            "color": "rgba(128,128,128,0.9)",
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[
            f"{for_plotly(label, limit=80)}<br>[{a:.0%}, {b:.0%}]"
            for label, a, b in zip(known["label"], low, high, strict=True)
        ],
        hovertemplate="%{customdata}<br>%{x:.1%} = %{text}<extra></extra>",
    )
