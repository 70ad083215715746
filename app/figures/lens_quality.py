"""How far lenses are from what the model says in the end, layer by layer."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import CATEGORY_COLOURS, TEMPLATE, UNKNOWN, blank
from app.shell.untrusted import for_plotly

_COLUMNS, _HEIGHT = 3, 230  # panels in a row; pixels of one


class QualityRow(TypedDict):
    """A lens at a layer, on one kind of position."""

    label: str  # of the lens
    panel: str  # of the kind of position
    layer: int
    kl: float | None
    ci_low: float | None
    ci_high: float | None
    baseline: float | None
    n_tokens: int
    n_problems: int


@takes_rows
def quality_by_layer(rows: Frame[QualityRow]) -> go.Figure:
    """One panel a kind of position, one line a lens with its band; dashed, the token-frequency baseline. What is
    unknown is not drawn.
    """
    known = rows[rows["kl"].notna()]
    if known.empty:
        return blank("No lens has been measured on held-out positions")
    panels = list(dict.fromkeys(known["panel"]))
    n_rows = -(-len(panels) // _COLUMNS)
    titles = [f"{for_plotly(panel, limit=40)}, n = {_n(known, panel)}" for panel in panels]
    figure = make_subplots(
        rows=n_rows,
        cols=min(_COLUMNS, len(panels)),
        subplot_titles=titles,
        shared_xaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.28 / n_rows,
    )
    colours = dict(zip(dict.fromkeys(known["label"]), CATEGORY_COLOURS.values(), strict=False))
    for number, panel in enumerate(panels):
        where = {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}
        own = known[known["panel"] == panel]
        for label, lens in own.groupby("label", sort=False):
            _add(figure, str(label), lens, colours[label], where, first=number == 0)
        base = own.drop_duplicates("layer").sort_values("layer")
        figure.add_scatter(
            x=base["layer"].tolist(),
            y=base["baseline"].tolist(),
            mode="lines",
            line={"color": UNKNOWN, "dash": "dash", "width": 1.5},
            name="token frequencies",
            legendgroup="baseline",
            showlegend=number == 0,
            hovertemplate="token frequencies: %{y:.3g} nats<extra></extra>",
            **where,
        )
    figure.update_xaxes(title="layer", title_standoff=4)
    figure.update_yaxes(rangemode="tozero")
    for row in range(1, n_rows + 1):
        figure.update_yaxes(title="KL(model ‖ lens), nats", row=row, col=1)
    figure.update_layout(
        template=TEMPLATE,
        height=90 + _HEIGHT * n_rows,
        margin={"l": 8, "r": 8, "t": 62, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0},
    )
    return figure.update_annotations(font_size=12)


def _add(figure: go.Figure, label: str, rows: pd.DataFrame, colour: str, where: dict[str, int], *, first: bool) -> None:
    rows = rows.sort_values("layer")
    band = rows[rows["ci_low"].notna() & rows["ci_high"].notna()]
    figure.add_scatter(
        x=[*band["layer"], *band["layer"][::-1]],
        y=[*band["ci_high"], *band["ci_low"][::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.2,
        line={"width": 0},
        mode="lines",
        legendgroup=label,
        showlegend=False,
        hoverinfo="skip",
        **where,
    )
    figure.add_scatter(
        x=rows["layer"].tolist(),
        y=rows["kl"].tolist(),
        mode="lines+markers",
        marker={"size": 4},
        line={"color": colour, "width": 2},
        name=for_plotly(label, limit=40),
        legendgroup=label,
        showlegend=first,
        hovertemplate=f"{for_plotly(label, limit=40)}, layer %{{x}}: %{{y:.3g}} nats<extra></extra>",
        **where,
    )


def _n(rows: pd.DataFrame, panel: str) -> str:
    own = rows[rows["panel"] == panel]
    return f"{int(own['n_tokens'].max()):,} tokens of {int(own['n_problems'].max())} problems"
