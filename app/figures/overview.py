"""Accuracy by level of difficulty, and by prompt and model."""

from typing import TypedDict

import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import CATEGORY_COLOURS, TEMPLATE, blank
from app.shell.untrusted import for_plotly


class LevelAccuracy(TypedDict):
    """How many judged CoTs of one model and level are correct, with Wilson's 95 % interval."""

    model: str
    level: int | None
    n: int
    n_correct: int
    low: float | None
    high: float | None


class PromptAccuracy(TypedDict):
    """The accuracy of one model under one prompt, with its 95 % interval over problems."""

    model: str
    prompt_name: str
    accuracy: float | None
    low: float | None
    high: float | None
    n: int  # problems
    n_chains: int


@takes_rows
def accuracy_by_level(levels: Frame[LevelAccuracy]) -> go.Figure:
    """Share of correct CoTs by model and level; a level nobody judged is absent.

    Each point bears "correct / judged", so that n is on the figure. Models come, and are coloured, in the rows' order,
    as by prompt.
    """
    known = levels[levels["n"] > 0]
    if known.empty:
        return blank("No accuracy is known: no CoT has been judged, or they were picked by their outcome", height=120)
    figure = go.Figure(
        layout={
            "template": TEMPLATE,
            "height": 280 + 18 * known["model"].nunique(),
            "margin": {"t": 28, "b": 48, "r": 56},
        }
    )
    colours = list(CATEGORY_COLOURS.values())
    for number, (model, rows) in enumerate(known.groupby("model", sort=False)):
        share = rows["n_correct"].astype(float) / rows["n"].astype(float)
        figure.add_scatter(
            x=[_level_name(level) for level in rows["level"]],
            y=share,
            mode="markers+text",
            name=for_plotly(str(model), limit=60),
            text=[  # clear of the interval's caps
                f"\N{EN SPACE}{int(k)} / {int(n)}" for k, n in zip(rows["n_correct"], rows["n"], strict=True)
            ],
            textposition="middle right",
            cliponaxis=False,  # else the last level's counts are cut where the plot ends
            marker={"size": 10, "color": colours[number % len(colours)]},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rows["high"] - share,
                "arrayminus": share - rows["low"],
                "thickness": 1.5,
                "width": 5,
            },
            hovertemplate="%{x}<br>accuracy %{y:.2f}<br>%{text} correct<extra></extra>",
        )
    figure.update_xaxes(title="difficulty of the problem", type="category")
    figure.update_yaxes(title="accuracy, Wilson 95 %", range=[-0.04, 1.04], tickformat=".0%")
    return figure.update_layout(
        showlegend=known["model"].nunique() > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )


@takes_rows
def accuracy_by_prompt(cells: Frame[PromptAccuracy]) -> go.Figure:
    """One point a model and prompt; a line joins a model's prompts.

    Lines that run alike say that the prompt does the same for both models. Where an accuracy or interval is unknown
    none is drawn.
    """
    known = cells[cells["accuracy"].notna()]
    if known.empty:
        return blank("No accuracy is known: no chain of thought of this study has been judged", height=120)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 340, "margin": {"t": 64, "b": 48}})
    colours = list(CATEGORY_COLOURS.values())
    models, prompts = list(dict.fromkeys(known["model"])), list(dict.fromkeys(known["prompt_name"]))
    for number, model in enumerate(models):
        rows = known[known["model"] == model]
        shift = 0.14 * (number - (len(models) - 1) / 2)  # so that intervals of one prompt stand side by side
        figure.add_scatter(
            x=[prompts.index(prompt) + shift for prompt in rows["prompt_name"]],
            y=rows["accuracy"],
            mode="lines+markers+text" if len(rows) > 1 else "markers+text",
            name=for_plotly(str(model), limit=60),
            text=[f"{share:.0%}" for share in rows["accuracy"]],
            textposition="top left" if number == len(models) - 1 else "top center" if number else "bottom right",
            customdata=rows[["n", "n_chains"]].to_numpy(),
            marker={"size": 10, "color": colours[number % len(colours)]},
            line={"color": colours[number % len(colours)], "width": 1.5},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rows["high"] - rows["accuracy"],
                "arrayminus": rows["accuracy"] - rows["low"],
                "thickness": 1.5,
                "width": 5,
            },
            hovertemplate=(
                "accuracy %{y:.3f}<br>%{customdata[0]} problems, %{customdata[1]} chains<extra>%{fullData.name}</extra>"
            ),
        )
    figure.update_xaxes(
        title="prompt",
        tickvals=list(range(len(prompts))),
        ticktext=[for_plotly(name, limit=40) for name in prompts],
        range=[-0.5, len(prompts) - 0.5],
    )
    figure.update_yaxes(title="accuracy, 95 % over problems", range=[-0.04, 1.04], tickformat=".0%")
    return figure.update_layout(showlegend=len(models) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


def _level_name(level: object) -> str:
    return "unknown" if pd.isna(level) else f"level {level}"
