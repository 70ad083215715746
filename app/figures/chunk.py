"""Figures about one chunk and its chain of thought: answers before and after it, KL(β), the metric along the text."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CORRECT, MISSING, TEMPLATE, UNKNOWN, WRONG, blank, category_colour, direction_colour
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import Metric, direction_words, unit_words
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.geometry.fits import quadratic_fit

_SHOWN_ANSWERS = 8
_LEGEND_ROW = 20  # pixels
_BACK = 0.35  # of what steps back behind the chosen


class Answers(TypedDict):
    """Rollouts on one side of the chunk that gave one answer."""

    side: str  # before, after
    cluster: str | None  # None: no answer was given
    is_correct: bool | None
    n: int
    n_forced: int  # of them, whose answer was forced at the cap


class Curve(TypedDict):
    """KL(β) along one direction."""

    kind: str
    unit: str  # of beta
    betas: Sequence[float]
    kl: Sequence[float]  # nats
    steepness: float | None
    noise_floor: float | None


class Chunk(TypedDict):
    """A chunk in reading order, with its metric."""

    chunk_id: str
    number: int  # from 1
    text: str
    category: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None


@takes_rows
def answers_before_and_after(outcomes: Frame[Answers]) -> go.Figure:
    """Shares of the answers given by rollouts from before the chunk, and by those that keep it (from before the next
    one).

    Rollouts without an answer are counted beside the bars: they are no answer of their own.
    """
    answered = outcomes[outcomes["cluster"].notna()]
    if answered.empty:
        return blank("No rollout here gave an answer", height=160)
    totals = answered.groupby("side")["n"].sum()
    silent = outcomes[outcomes["cluster"].isna()].groupby("side")["n"].sum()
    ranked = answered.groupby("cluster")["n"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    shown, rest = ranked[:_SHOWN_ANSWERS], set(ranked[_SHOWN_ANSWERS:])
    labels = [for_plotly(str(cluster), limit=22) for cluster in shown] + (
        [f"{len(rest)} other answers"] if rest else []
    )
    figure = go.Figure(
        layout={"template": TEMPLATE, "barmode": "group", "bargap": 0.25, "margin": {"l": 8, "r": 36, "t": 46, "b": 34}}
    )
    for side, name, hatch in (("after", "chunk kept", ""), ("before", "chunk resampled", "/")):
        rows = answered[answered["side"] == side]
        total = int(totals.get(side, 0))
        if not total:
            continue
        counts = [int(rows.loc[rows["cluster"] == cluster, "n"].sum()) for cluster in shown]
        counts += [int(rows.loc[rows["cluster"].isin(rest), "n"].sum())] if rest else []
        verdicts = [_verdict(answered.loc[answered["cluster"] == cluster, "is_correct"]) for cluster in shown] + (
            [None] if rest else []
        )
        without = f", {int(silent[side])} without answer" if side in silent else ""
        forced = int(rows["n_forced"].sum())
        without += f", {forced} forced at the cap" if forced else ""
        figure.add_bar(
            y=list(range(len(labels))),
            x=[count / total for count in counts],
            orientation="h",
            name=f"{name} (n = {total}{without})",
            marker={
                "color": [{True: CORRECT, False: WRONG, None: UNKNOWN}[verdict] for verdict in verdicts],
                "pattern": {"shape": hatch, "size": 6, "solidity": 0.45, "fillmode": "replace"},
            },
            text=[str(count) if count else "" for count in counts],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"{name}<br>%{{x:.0%}} of {total} rollouts with an answer<extra></extra>",
        )
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(labels))), ticktext=labels, autorange="reversed", automargin=True
    )
    figure.update_xaxes(
        title="share of rollouts with an answer (green: correct, orange: wrong)", tickformat=".0%", rangemode="tozero"
    )
    figure.update_layout(
        height=110 + 40 * len(labels),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    )
    return figure


@takes_rows
def kl_curves(curves: Frame[Curve], *, direction: str | None = None) -> go.Figure:
    """KL(β) of one chunk, layer, position and unit: measured points, the fitted quadratic through them, and the noise
    floor. The curves of a chosen direction stand out, where there are any.

    Points at or below the floor are hollow. Random directions share one colour and one legend entry. The drawn
    quadratic is the least-squares a·β² + b·β + c whose |a| is the steepness.
    """
    if curves.empty:
        return blank("This chunk has not been steered here", height=260)
    figure = go.Figure(layout={"template": TEMPLATE, "height": 340, "margin": {"l": 60, "r": 12, "t": 20, "b": 46}})
    named: set[str] = set()
    has_chosen = bool((curves["kind"] == direction).any())
    for row in curves.itertuples():
        steps_back = has_chosen and row.kind != direction
        betas, kl = np.asarray(row.betas, dtype=float), np.asarray(row.kl, dtype=float)
        colour, first = direction_colour(row.kind), row.kind not in named
        named.add(row.kind)
        is_drawn = (kind := DIRECTION_KINDS.get(row.kind)) is not None and kind.is_drawn  # several curves share a name
        floor = row.noise_floor if pd.notna(row.noise_floor) else -np.inf
        words = direction_words(row.kind)
        name = words if pd.isna(row.steepness) else f"{words}, |a| = {row.steepness:.2g}"
        figure.add_scatter(
            x=betas,
            y=kl,
            mode="markers",
            name=words if is_drawn else name,
            legendgroup=row.kind,
            showlegend=first,
            cliponaxis=False,
            opacity=_BACK if steps_back else 1.0,
            marker={
                "color": colour,
                "size": 6,
                "symbol": ["circle-open" if value <= floor else "circle" for value in kl],
            },
            hovertemplate=f"{for_plotly(words)}<br>β = %{{x:.3g}}<br>KL = %{{y:.3g}} nats<extra></extra>",
        )
        fit = quadratic_fit(betas, kl)
        if np.isfinite(fit.a):
            fine = np.linspace(betas.min(), betas.max(), 81)
            figure.add_scatter(
                x=fine,
                y=fit.a * fine**2 + fit.b * fine + fit.c,
                mode="lines",
                line={"color": colour, "width": 1.2 if steps_back or not has_chosen else 2.4},
                opacity=_BACK if steps_back else 0.7,
                legendgroup=row.kind,
                showlegend=False,
                hoverinfo="skip",
            )
    floors = curves["noise_floor"].dropna()
    if len(floors):
        ends = [min(np.min(betas) for betas in curves["betas"]), max(np.max(betas) for betas in curves["betas"])]
        figure.add_scatter(
            x=ends,
            y=[float(floors.max())] * 2,
            mode="lines",
            line={"dash": "dot", "color": MISSING, "width": 1.5},
            name=f"noise floor {floors.max():.1g}",
            hoverinfo="skip",
        )
    unit = curves["unit"].iloc[0]
    figure.update_xaxes(title=f"β ({unit_words(unit)})")
    # A KL divergence is never below 0: where the quadratic dips there, it leaves the frame.
    figure.update_yaxes(title="KL(steered ‖ unsteered), nats", rangemode="nonnegative")
    rows = len(named) + (len(floors) > 0)  # of the legend, where there is room for one name beside another
    return figure.update_layout(
        height=320 + _LEGEND_ROW * rows, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )


@takes_rows
def profile(chunks: Frame[Chunk], metric: Metric, *, selected: str | None) -> go.Figure:
    """The metric along the text, one row a chunk in reading order.

    Unknown values have no bar and a hollow mark on the axis.
    """
    known = chunks[chunks["value"].notna()]
    if known.empty:
        return blank(f"{metric.label} is unknown for every chunk of this CoT", height=150)
    unknown = chunks[chunks["value"].isna()]
    value = known["value"].astype(float)
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 206, "margin": {"l": 56, "r": 8, "t": 24, "b": 40}, "bargap": 0.15}
    )
    figure.add_bar(
        x=known["number"],
        y=value,
        customdata=known["chunk_id"].tolist(),
        showlegend=False,
        marker={
            "color": [category_colour(tag) for tag in known["category"]],
            "line": {"width": [2 if chunk == selected else 0 for chunk in known["chunk_id"]], "color": ACCENT},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": known["ci_high"] - value,
            "arrayminus": value - known["ci_low"],
            "width": 2,
            "thickness": 1,
            "color": "rgba(128,128,128,0.8)",
        },
        hovertext=[
            f"{n}. {for_plotly(text)}<br>{v:.3g}"
            for n, text, v in zip(known["number"], known["text"], value, strict=True)
        ],
        hoverinfo="text",
    )
    figure.add_scatter(
        x=unknown["number"],
        y=[0] * len(unknown),
        mode="markers",
        name=f"unknown: {len(unknown)}",
        showlegend=bool(len(unknown)),
        marker={"symbol": "circle-open", "color": MISSING, "size": 7},
        customdata=unknown["chunk_id"].tolist(),
        hovertext=[f"{n}. unknown" for n in unknown["number"]],
        hoverinfo="text",
    )
    figure.update_xaxes(title=f"chunk (n = {len(chunks)}, {len(known)} known)")
    figure.update_yaxes(title=metric.unit)
    return figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"})


def _verdict(verdicts: pd.Series) -> bool | None:
    known = verdicts.dropna()
    return bool(known.any()) if len(known) else None
