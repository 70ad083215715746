"""Where two models part: how far their residual streams are apart, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import CONTROL, MISSING, STEERED, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.feature_geometry.divergence_kinds import ALL, COT, MEASURES, POSITIONS, PROMPT

PANELS = {  # a panel: its measures, of which the first has its band
    "relative_norm": ("relative_norm",),
    "cka": ("cka",),
    "principal_angle": ("principal_angle",),
    "kl": ("kl", "kl_reverse"),
}


class _Look(NamedTuple):
    name: str
    colour: str
    width: float
    dash: str = "solid"


_KINDS = {
    ALL: _Look(POSITIONS[ALL], STEERED, 2.5),
    PROMPT: _Look(POSITIONS[PROMPT], "#BD8701", 1.5),
    COT: _Look(POSITIONS[COT], "#C67FC7", 1.5),
}
_BASE, _NOTHING = _Look("base alone", CONTROL, 1.5, "dash"), _Look("nothing shared", MISSING, 1.5, "dot")
_HEIGHT = 290  # pixels of a panel


class LayerRow(TypedDict):
    """A measure at a layer, of one kind of position."""

    measure: str
    positions: str
    layer: int
    value: float | None
    low: float | None  # 95 % interval
    high: float | None
    control: float | None
    null: float | None


@takes_rows
def divergence_by_layer(rows: Frame[LayerRow], *, with_null: bool) -> go.Figure:
    """A panel a measure: its line by kind of position, the band of all positions, the control, and the null where it
    is wanted. What is unknown is not drawn.
    """
    known = rows[rows["value"].notna()]
    if known.empty:
        return blank("No layer of the two models has been compared")
    figure = make_subplots(
        rows=2,
        cols=2,
        subplot_titles=[MEASURES[name].label for name in PANELS],
        horizontal_spacing=0.09,
        vertical_spacing=0.16,
    )
    for number, measures in enumerate(PANELS.values()):
        where = {"row": number // 2 + 1, "col": number % 2 + 1}
        _panel(figure, known, measures, where, first=number == 0, with_null=with_null)
        figure.update_yaxes(title=MEASURES[measures[0]].axis, title_font_size=12, **where)
    figure.update_xaxes(title="layer (output of block)", title_standoff=4, title_font_size=12)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(
        template=TEMPLATE,
        height=100 + 2 * _HEIGHT,
        margin={"l": 8, "r": 8, "t": 84, "b": 8},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "itemwidth": 44},
    )
    return figure.update_annotations(font_size=13)


def _panel(
    figure: go.Figure,
    rows: pd.DataFrame,
    measures: Sequence[str],
    where: Mapping[str, int],
    *,
    first: bool,
    with_null: bool,
) -> None:
    def of(measure: str, kind: str) -> pd.DataFrame:
        return rows[(rows["measure"] == measure) & (rows["positions"] == kind)].sort_values("layer")

    every = of(measures[0], ALL)
    _band(figure, every, where)
    for kind, look in _KINDS.items():
        _line(figure, of(measures[0], kind), "value", look, where, first=first)
    for other in measures[1:]:
        look = _Look(f"all positions, {MEASURES[other].axis}", STEERED, 1.5, "dash")
        _line(figure, of(other, ALL), "value", look, where, first=True)
    _line(figure, every, "control", _BASE, where, first=first)
    if with_null:
        _line(figure, every, "null", _NOTHING, where, first=first)


def _band(figure: go.Figure, rows: pd.DataFrame, where: Mapping[str, int]) -> None:
    known = rows[rows["low"].notna() & rows["high"].notna()]
    figure.add_scatter(
        x=[*known["layer"], *known["layer"][::-1]],
        y=[*known["high"], *known["low"][::-1]],
        fill="toself",
        fillcolor=STEERED,
        opacity=0.2,
        line={"width": 0},
        mode="lines",
        legendgroup=POSITIONS[ALL],
        showlegend=False,
        hoverinfo="skip",
        **where,
    )


def _line(
    figure: go.Figure, rows: pd.DataFrame, column: str, look: _Look, where: Mapping[str, int], *, first: bool
) -> None:
    if rows[column].isna().all():
        return
    figure.add_scatter(
        x=rows["layer"].tolist(),
        y=rows[column].astype(object).where(rows[column].notna(), None).tolist(),
        mode="lines",
        line={"color": look.colour, "width": look.width, "dash": look.dash},
        name=for_plotly(look.name),
        legendgroup=look.name,
        showlegend=first,
        hovertemplate=f"{for_plotly(look.name)}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
        **where,
    )
