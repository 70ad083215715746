"""Two to four features of one dictionary side by side: along one text, and what they write to the logits."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.chain_features import Cell
from app.figures.crosscoder import MODELS, CategoryFiring, LogitEffect
from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, MISSING, TEMPLATE, blank
from app.shell.untrusted import for_plotly
from backend.models.names import role_words

# 3 to 1 against light and dark pages; the marks' shapes tell them apart too.
COLOURS = ("#409067", "#7D5BF7", "#BD8701", "#D81B60")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up")


class Promoted(LogitEffect):
    """A token that one of the features promotes or suppresses in a model."""

    feature: int
    side: str  # top, bottom
    rank: int


class FeatureFiring(CategoryFiring):
    """On how many of a category's tokens one of the features fires."""

    feature: int


@takes_rows
def at_once(cells: Frame[Cell]) -> pd.Series:
    """How many of the features fire at each place where two or more do, by place."""
    n = cells.groupby("place")["feature"].nunique()
    return n[n > 1]


@takes_rows
def overlay(
    cells: Frame[Cell],
    *,
    names: Mapping[int, str],
    panels: Mapping[str, str],
    places: range,
    labels: Mapping[int, str],
    marked: range | None = None,
    view: str = "",
) -> go.Figure:
    """What each feature adds along one text, a mark on a stem where it fires: one panel for each model above the other,
    on one axis and one scale. Below them a cross stands where two or more fire on one token.

    `names` are the features, in the order of their colours; `panels` the columns of what a feature adds, each with its
    title; `labels` the places. `marked` places are shaded. Every mark's customdata is its place. While `view` is the
    same, so is the zoom.
    """
    drawn = cells[cells["feature"].isin(list(names)) & cells["place"].isin(places)]
    if drawn.empty:
        return blank("None of these features fires on this text", height=200)
    figure = make_subplots(
        rows=len(panels), shared_xaxes=True, subplot_titles=list(panels.values()), vertical_spacing=0.1
    )
    together, sizes = at_once(drawn), drawn[list(panels)].to_numpy(dtype=float)
    low, high = min(0.0, float(np.nanmin(sizes))), max(0.0, float(np.nanmax(sizes)))
    room = 0.08 * (high - low)
    for number, column in enumerate(panels, start=1):
        for (feature, name), colour, symbol in zip(names.items(), COLOURS, _SYMBOLS, strict=False):
            own = drawn[(drawn["feature"] == feature) & drawn[column].notna()]
            values = own[column].astype(float)
            figure.add_scatter(
                x=own["place"].tolist() or [None],  # one that fires nowhere is named and counted too
                y=values.tolist() or [None],
                mode="markers",
                name=f"{for_plotly(name, limit=40)} (n = {len(own):,})",
                legendgroup=str(feature),
                showlegend=number == 1,
                marker={"color": colour, "symbol": symbol, "size": 7},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": (-values).clip(lower=0).tolist(),
                    "arrayminus": values.clip(lower=0).tolist(),
                    "color": colour,
                    "thickness": 1.2,
                    "width": 0,
                },
                customdata=own["place"].tolist(),
                hovertext=[
                    f"{for_plotly(labels[place], limit=160)}<br>feature {feature}: f {code:.3g}, adds {value:.3g}"
                    for place, code, value in zip(own["place"], own["code"], values, strict=True)
                ],
                hoverinfo="text",
                row=number,
                col=1,
            )
        if len(together):
            figure.add_scatter(
                x=together.index.tolist(),
                y=[0] * len(together),
                mode="markers",
                name=f"two or more (n = {len(together):,})",
                legendgroup="together",
                showlegend=number == 1,
                marker={"color": CONTROL, "symbol": "x-thin", "size": 8, "line": {"color": CONTROL, "width": 2}},
                customdata=together.index.tolist(),
                hovertext=[
                    f"{for_plotly(labels[place], limit=160)}<br>{n} of them fire" for place, n in together.items()
                ],
                hoverinfo="text",
                row=number,
                col=1,
            )
    if marked:
        figure.add_vrect(
            x0=marked.start - 0.5, x1=marked.stop - 0.5, fillcolor=ACCENT, opacity=0.15, line_width=0, layer="below"
        )
    figure.update_xaxes(range=[places.start - 0.5, places.stop - 0.5], showgrid=False)
    figure.update_xaxes(title="token of the text", row=len(panels), col=1)
    figure.update_yaxes(title="f·‖W‖", range=[low - (room if low else 0), high + room])
    figure.update_layout(
        template=TEMPLATE,
        height=110 + 100 * len(panels),
        margin={"l": 64, "r": 12, "t": 70, "b": 44},
        dragmode="pan",
        hovermode="closest",
        uirevision=view,
        legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
    )
    return figure.update_annotations(font_size=13, x=0, xanchor="left")


@takes_rows
def promoted_by_several(tokens: Frame[Promoted]) -> pd.Series:
    """Of each row, whether another of the features promotes the same token in the same model too."""
    return tokens.groupby(["model_id", "token"])["feature"].transform("nunique") > 1


@takes_rows
def written(logits: Frame[Promoted], *, features: Mapping[int, str], roles: Mapping[str, str], n: int = 8) -> go.Figure:
    """The `n` tokens that each feature promotes most: a column a feature, a row a model. A token that another of them
    is among the first to promote in that model is bold.

    `features` gives each its name, `roles` each model_id its role.
    """
    top = logits[(logits["side"] == "top") & (logits["rank"] < n) & logits["feature"].isin(list(features))]
    models = [model for model in roles if (top["model_id"] == model).any()]
    if not models:
        return blank("What these features write to the logits is not known", height=200)
    top = top.assign(shared=promoted_by_several(top))
    figure = make_subplots(
        rows=len(models),
        cols=len(features),
        subplot_titles=[
            f"{for_plotly(name, limit=24)}, {role_words(roles[model])}" if roles[model] in MODELS else for_plotly(name)
            for model in models
            for name in features.values()
        ],
        horizontal_spacing=0.34 / len(features),
        vertical_spacing=0.14,
    )
    for line, model in enumerate(models, start=1):
        for column, feature in enumerate(features, start=1):
            own = top[(top["model_id"] == model) & (top["feature"] == feature)].sort_values("rank", ascending=False)
            places = [str(rank) for rank in own["rank"]]  # one token may come twice
            figure.add_bar(
                x=own["effect"],
                y=places,
                orientation="h",
                marker_color=[
                    MODELS.get(roles[model], MODELS["base"]) if effect > 0 else MISSING for effect in own["effect"]
                ],
                hovertext=[
                    f"{for_plotly(repr(token), limit=60)}: {effect:.3g}"
                    for token, effect in zip(own["token"], own["effect"], strict=True)
                ],
                hoverinfo="text",
                row=line,
                col=column,
            )
            words = [for_plotly(repr(token), limit=12) for token in own["token"]]
            figure.update_yaxes(
                type="category",
                tickvals=places,
                ticktext=[
                    f"<b>{word}</b>" if is_shared else word
                    for word, is_shared in zip(words, own["shared"], strict=True)
                ],
                tickfont={"size": 11},
                row=line,
                col=column,
            )
    figure.update_xaxes(title="logit per unit of f", row=len(models))
    figure.update_layout(
        template=TEMPLATE,
        height=80 + len(models) * (56 + 21 * n),
        margin={"l": 90, "r": 12, "t": 36, "b": 48},
        showlegend=False,
    )
    return figure.update_annotations(font_size=13)


@takes_rows
def firing(rows: Frame[FeatureFiring], *, names: Mapping[int, str], categories: Mapping[str, str]) -> go.Figure:
    """On which share of each category's tokens each feature fires, with 95 % intervals; categories by their largest
    share. `names` are the features, in the order of their colours, `categories` what categories are called.
    """
    if rows.empty:
        return blank("No token of these categories, or none of the features fires", height=160)
    order = rows.groupby("category")["frequency"].max().sort_values(kind="stable").index.tolist()
    figure = go.Figure()
    for nth, (feature, colour, symbol) in enumerate(zip(names, COLOURS, _SYMBOLS, strict=False)):
        own = rows[rows["feature"] == feature]
        lines = [order.index(category) + 0.17 * ((len(names) - 1) / 2 - nth) for category in own["category"]]
        figure.add_scatter(
            x=own["frequency"].tolist() or [None],
            y=lines or [None],
            mode="markers",
            name=for_plotly(names[feature], limit=24),
            marker={"size": 7, "color": colour, "symbol": symbol},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (own["high"] - own["frequency"]).tolist(),
                "arrayminus": (own["frequency"] - own["low"]).tolist(),
                "thickness": 1.2,
                "width": 2,
            },
            hovertext=[
                f"{for_plotly(categories.get(row.category, row.category), limit=60)}: {row.frequency:.2%}"
                f" [{row.low:.2%}, {row.high:.2%}]<br>{row.n_fired:,} of {row.n_tokens:,} tokens"
                for row in own.itertuples()
            ],
            hoverinfo="text+name",
        )
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=[for_plotly(categories.get(category, category), limit=30) for category in order],
        range=[-0.6, len(order) - 0.4],
        showgrid=False,
    )
    figure.update_xaxes(title="share of tokens on which it fires", rangemode="tozero", tickformat="~%")
    return figure.update_layout(
        template=TEMPLATE,
        height=100 + 34 * len(order),
        margin={"l": 150, "r": 12, "t": 34, "b": 48},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
