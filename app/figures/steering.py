"""Figures about one intervention: KL(β) with its controls, and what the continuations of each arm and each dose came
to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures.rows import Frame, takes_rows
from app.shell.theme import ACCENT, CONTROL, CORRECT, MISSING, STEERED, TEMPLATE, UNKNOWN, WRONG, blank, keyed
from app.shell.untrusted import for_plotly
from app.shell.vocabulary import ARMS, unit_words
from backend.statistics.bands import Band, control_band

_SHOWN_ANSWERS = 8
_POINTS = {"base": MISSING, "random": CONTROL, "same": CONTROL, "paraphrase": CONTROL}
_HATCHES = {"base": "/", "changed": "", "flipped": "x", "random": ".", "same": "-", "paraphrase": "\\"}


# KL(β)


def kl_at(beta: float, betas: np.ndarray, kl: np.ndarray) -> float:
    """KL at `beta` on the straight lines between measured points (`betas` rising); NaN beyond them."""
    return float(np.interp(beta, betas, kl, left=math.nan, right=math.nan))


class Fit(TypedDict):
    """a·β² + b·β + c through the curve; unknown is None."""

    a: float | None
    b: float | None
    c: float | None
    r2: float | None


class MeasuredKL(TypedDict, total=False):
    """KL(β) of an intervention, as far as it is measured."""

    betas: Sequence[float]
    kl: Sequence[float | None]  # nats, mean over the chunk's tokens
    n_tokens: int | None
    unit: str  # of beta
    fit: Fit | None
    noise_floor: float | None


class ControlsKL(TypedDict):
    """KL(β) along `k` random directions of the same norm."""

    betas: Sequence[float]
    kl: Sequence[Sequence[float | None]]
    k: int


def kl_curve(curve: MeasuredKL, *, beta: float, controls: ControlsKL | None) -> go.Figure:
    """KL(β) of the intervention, with the current β, its mirror image and 0 marked, over the band of the random
    directions.

    Points at or below the floor are hollow. The KL at a β that was not measured is read off the line between its
    neighbours.
    """
    measured, values = np.asarray(curve.get("betas") or [], dtype=float), np.asarray(curve.get("kl") or [], dtype=float)
    finite = np.isfinite(values) if len(values) == len(measured) else np.zeros(len(measured), dtype=bool)
    if not finite.any():
        return blank("KL(β) has not been measured here", height=260)
    order = np.argsort(measured[finite], kind="stable")
    betas, kl = measured[finite][order], values[finite][order]
    figure = go.Figure(layout={"template": TEMPLATE, "height": 360, "margin": {"l": 60, "r": 12, "t": 76, "b": 46}})
    if controls and controls["kl"]:
        _add_band(figure, control_band(controls["betas"], controls["kl"]), k=controls["k"])
    _add_fit(figure, curve.get("fit"), betas)
    floor = curve.get("noise_floor")
    if floor is not None and math.isfinite(floor):
        figure.add_scatter(
            x=[betas[0], betas[-1]],
            y=[floor] * 2,
            mode="lines",
            line={"dash": "dot", "color": MISSING, "width": 1.5},
            name=f"noise floor {floor:.1g}",
            hoverinfo="skip",
        )
    else:
        floor = -math.inf
    unit, n_tokens = curve.get("unit", "rms"), curve.get("n_tokens")
    facts = [f"mean of {n_tokens} tokens"] if n_tokens else []
    facts += [f"{len(measured) - len(betas)} β unknown"] if len(measured) > len(betas) else []
    figure.add_scatter(
        x=betas,
        y=kl,
        mode="markers",
        name=", ".join(["measured", *facts]),
        marker={"color": STEERED, "size": 7, "symbol": ["circle-open" if value <= floor else "circle" for value in kl]},
        hovertemplate="β = %{x:.3~g}<br>KL = %{y:.3g} nats<extra></extra>",
    )
    _add_marks(figure, beta, betas, kl)
    figure.update_xaxes(title=f"β ({unit_words(unit)})")
    figure.update_yaxes(title="KL(steered ‖ unsteered), nats")
    return figure.update_layout(legend={"orientation": "h", "y": 1.08, "yanchor": "bottom", "x": 0})


def _add_band(figure: go.Figure, band: Band, *, k: int) -> None:
    if not len(band.betas):
        return
    unknown = f", {band.n_unknown} values unknown" if band.n_unknown else ""
    figure.add_scatter(
        x=np.concatenate([band.betas, band.betas[::-1]]),
        y=np.concatenate([band.high, band.low[::-1]]),
        fill="toself",
        fillcolor="rgba(138,143,152,0.25)",
        mode="lines",
        line={"width": 0},
        name=f"{k} random, same norm: min–max{unknown}",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=band.betas,
        y=band.median,
        customdata=np.stack([band.low, band.high], axis=1),
        mode="lines",
        line={"color": CONTROL, "width": 1.5, "dash": "dash"},
        name="median of the random",
        hovertemplate=(
            "random, β = %{x:.3~g}<br>median %{y:.3g} nats [%{customdata[0]:.3g}, %{customdata[1]:.3g}]<extra></extra>"
        ),
    )


def _add_fit(figure: go.Figure, fit: Fit | None, betas: np.ndarray) -> None:
    if fit is None:
        return
    a, b, c = (math.nan if term is None else term for term in (fit["a"], fit["b"], fit["c"]))
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return
    fine = np.linspace(betas[0], betas[-1], 121)
    r2 = "" if fit["r2"] is None or math.isnan(fit["r2"]) else f", R² = {fit['r2']:.2f}"
    figure.add_scatter(
        x=fine,
        y=a * fine**2 + b * fine + c,
        mode="lines",
        line={"color": STEERED, "width": 1.2},
        opacity=0.7,
        name=f"fit, |a| = {abs(a):.2g}{r2}",
        hoverinfo="skip",
    )


def _add_marks(figure: go.Figure, beta: float, betas: np.ndarray, kl: np.ndarray) -> None:
    """The line at the current β, rings on the curve there and at −β, and the measured point at 0."""
    value = kl_at(beta, betas, kl)
    figure.add_vline(x=beta, line={"color": ACCENT, "width": 1.5})
    figure.add_annotation(
        text=f"β = {_signed(beta)}: " + (f"{value:.3g} nats" if math.isfinite(value) else "not measured"),
        showarrow=False,
        x=beta,
        y=1,
        yref="paper",
        yanchor="bottom",
        font={"size": 12},
        xanchor="right" if beta > 0.5 * betas[-1] else "left" if beta < 0.5 * betas[0] else "center",
    )
    if math.isfinite(value):
        _add_ring(figure, "as set", beta, value, ACCENT)
    if beta and math.isfinite(mirrored := kl_at(-beta, betas, kl)):
        _add_ring(figure, "sign-flipped", -beta, mirrored, STEERED)
        # Towards the middle there is room, unless the two rings are close to each other.
        towards_right = (beta > 0) == (abs(beta) > 0.3 * np.abs(betas).max())
        figure.add_annotation(
            text=f"sign-flipped: {mirrored:.3g}",
            x=-beta,
            y=mirrored,
            ax=24 if towards_right else -24,
            ay=-30,
            standoff=8,
            xanchor="left" if towards_right else "right",
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=STEERED,
            font={"size": 12},
        )
    if beta and 0 in betas:
        figure.add_scatter(
            x=[0],
            y=[float(kl[betas == 0][0])],
            mode="markers",
            name="β = 0",
            showlegend=False,
            marker={"symbol": "diamond", "size": 10, "color": MISSING, "line": {"width": 1.5, "color": STEERED}},
            hovertemplate="β = 0<br>KL = %{y:.3g} nats<extra></extra>",
        )


def _add_ring(figure: go.Figure, name: str, beta: float, kl: float, colour: str) -> None:
    figure.add_scatter(
        x=[beta],
        y=[kl],
        mode="markers",
        name=name,
        showlegend=False,
        marker={"symbol": "circle-open", "size": 15, "color": colour, "line": {"width": 2.5}},
        hovertemplate=(
            f"{name}<br>β = {_signed(beta)}<br>KL = %{{y:.3g}} nats, along the measured points<extra></extra>"
        ),
    )


def _signed(beta: float) -> str:
    return (f"{beta:+.3g}" if beta else "0").replace("-", "−")


# Arms


class ArmAnswers(TypedDict):
    """One answer that an arm's continuations gave, and how many of them in all."""

    arm: str
    cluster: str
    n: int
    is_correct: bool | None  # None: not judged
    total: int
    silent: int  # without an answer


@takes_rows
def answers_by_arm(rows: Frame[ArmAnswers], words: Mapping[str, str] = ARMS) -> go.Figure:
    """Shares of the answers that each arm's continuations gave; `words` says what each arm is called, in their order.

    Continuations without an answer are counted beside the bars: they are no answer of their own.
    """
    if rows.empty:
        return blank("No continuation gave an answer", height=160)
    ranked = rows.groupby("cluster")["n"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    shown, rest = ranked[:_SHOWN_ANSWERS], ranked[_SHOWN_ANSWERS:]
    verdicts = [_verdict(rows.loc[rows["cluster"] == cluster, "is_correct"]) for cluster in shown] + (
        [None] if rest else []
    )
    labels = [for_plotly(str(cluster), limit=22) for cluster in shown] + (
        [f"{len(rest)} other answers"] if rest else []
    )
    signs = {True: " ✓", False: " ✗", None: ""}
    arms = [arm for arm in words if (rows["arm"] == arm).any()]
    figure = go.Figure(
        layout={"template": TEMPLATE, "barmode": "group", "bargap": 0.25, "margin": {"l": 8, "r": 36, "t": 46, "b": 44}}
    )
    for arm in arms:
        own = rows[rows["arm"] == arm]
        answered, silent = int(own["n"].sum()), int(own["silent"].iloc[0])
        counts = [int(own.loc[own["cluster"] == cluster, "n"].sum()) for cluster in shown]
        counts += [int(own.loc[own["cluster"].isin(rest), "n"].sum())] if rest else []
        hatch = {"shape": _HATCHES[arm], "size": 6, "solidity": 0.45, "fillmode": "replace"}
        figure.add_bar(
            y=list(range(len(labels))),
            x=[count / answered for count in counts],
            orientation="h",
            offsetgroup=arm,
            legendgroup=arm,
            showlegend=False,
            name=arm,
            marker={
                "color": [{True: CORRECT, False: WRONG, None: UNKNOWN}[verdict] for verdict in verdicts],
                "pattern": hatch,
            },
            text=[str(count) if count else "" for count in counts],
            textposition="outside",
            constraintext="none",
            textfont={"size": 11},
            cliponaxis=False,
            hovertemplate=f"{words[arm]}<br>%{{x:.0%}} of {answered} continuations with an answer<extra></extra>",
        )
        # The legend shows the hatch alone: an arm has no colour of its own.
        without = f", {silent} without answer" if silent else ""
        figure.add_bar(
            y=[None],
            x=[None],
            orientation="h",
            offsetgroup=arm,
            legendgroup=arm,
            name=f"{words[arm]} (n = {answered}{without})",
            marker={"color": UNKNOWN, "pattern": hatch},
        )
    ticks = [label + signs[verdict] for label, verdict in zip(labels, verdicts, strict=True)]
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(labels))), ticktext=ticks, autorange="reversed", automargin=True
    )
    figure.update_xaxes(
        title="share of those with an answer (green ✓ correct, orange ✗ wrong)", tickformat=".0%", rangemode="tozero"
    )
    return figure.update_layout(
        height=110 + (12 + 18 * len(arms)) * len(labels),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )


def _verdict(verdicts: pd.Series) -> bool | None:
    known = verdicts.dropna()
    return bool(known.any()) if len(known) else None


class Quantity(TypedDict):
    """A quantity of samples with its 95 % interval; unknown is None."""

    value: float | None
    low: float | None
    high: float | None
    n: NotRequired[int]


class ArmSummary(TypedDict):
    """What became of an arm's continuations."""

    n: int
    n_judged: int
    n_correct: int
    accuracy: Quantity


def accuracy_by_arm(summaries: Mapping[str, ArmSummary], words: Mapping[str, str] = ARMS) -> go.Figure:
    """Share of the judged continuations that are correct, with Wilson's interval: one point an arm, beside it "correct
    / judged".

    `summaries` are those of `outcomes.arm_summary`. An arm in which none was judged keeps its line, without a point.
    """
    arms = [arm for arm in words if arm in summaries]
    judged = {arm: share for arm in arms if (share := summaries[arm]["accuracy"]["value"]) is not None}
    if not judged:
        return blank("No accuracy is known: no continuation was judged", height=160)
    figure = go.Figure(
        layout={"template": TEMPLATE, "height": 110 + 48 * len(arms), "margin": {"l": 8, "r": 16, "t": 16, "b": 46}}
    )
    if "base" in judged and len(judged) > 1:
        base = judged["base"]
        figure.add_shape(
            type="line",
            x0=base,
            x1=base,
            y0=arms.index("base") + 0.15,
            y1=len(arms) - 0.5,
            line={"color": MISSING, "width": 1.5, "dash": "dot"},
        )
    figure.add_scatter(
        x=list(judged.values()),
        y=[arms.index(arm) for arm in judged],
        mode="markers+text",
        text=[f"{summaries[arm]['n_correct']} / {summaries[arm]['n_judged']}" for arm in judged],
        textposition=[
            "top center" if 0.1 < share < 0.9 else "top right" if share <= 0.1 else "top left"
            for share in judged.values()
        ],
        marker={
            "size": 10,
            "color": [_POINTS.get(arm, STEERED) for arm in judged],
        },
        error_x=_interval_bars([summaries[arm]["accuracy"] for arm in judged]),
        hovertemplate="accuracy %{x:.2f}<br>%{text} correct<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(arms))),
        ticktext=[_arm_label(words[arm], summaries[arm]) for arm in arms],
        range=[len(arms) - 0.5, -0.7],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title="accuracy, Wilson 95 %", range=[-0.04, 1.04], tickformat=".0%")
    return figure


def _arm_label(words: str, summary: ArmSummary) -> str:
    missing = summary["n"] - summary["n_judged"]
    return words + (f"<br>{missing} of {summary['n']} not judged" if missing else "")


def _interval_bars(found: Sequence[Quantity]) -> dict[str, Any]:
    """Plotly's error bars; a quantity without an interval has no bar."""
    ends = [(q["value"], q["low"], q["high"]) for q in found]
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if high is None or value is None else high - value for value, _, high in ends],
        "arrayminus": [None if low is None or value is None else value - low for value, low, _ in ends],
        "color": "rgba(128,128,128,0.9)",
        "thickness": 1.5,
        "width": 5,
    }


# Dose and response


@dataclass(frozen=True)
class Panel:
    """One quantity along β."""

    quantity: str  # as rows and steps have it
    name: str  # as on the axis
    found: list[Quantity]  # at each β

    @property
    def n_unknown(self) -> int:
        return sum(quantity["value"] is None for quantity in self.found)


class Dose(TypedDict):
    """What the continuations under one β came to; `kl` is that on the chunk's own tokens."""

    beta: float
    kl: float | None
    accuracy: Quantity
    length: Quantity
    thinking: NotRequired[Quantity]  # of the tokens; not in runs that were kept before these were counted
    degenerate_share: Quantity


class StepAlong(TypedDict):
    """A changepoint along β: between which two it lies, its 95 % interval and its p."""

    x_before: float
    x_after: float
    low: float | None
    high: float | None
    p: float


_NOTCH = {"color": "rgba(128,128,128,0.25)", "width": 5}  # β = 0: wide and pale, so that the interval there is seen


class StepTest(TypedDict):
    """The step along β of one quantity, tested on its own samples; where there is none, why."""

    step: StepAlong | None
    reason: str | None
    n: int  # samples that took part
    n_doses: int


def dose_panels(rows: Sequence[Dose]) -> list[Panel]:
    """What each panel shows of the rows of `outcomes.dose_response`: KL, accuracy, length (in thinking tokens where
    they were counted) and the degenerate share.
    """
    counted = any(row["thinking"]["value"] is not None for row in rows if "thinking" in row)
    return [
        Panel("kl", "KL, nats", [{"value": row["kl"], "low": None, "high": None} for row in rows]),
        Panel("accuracy", "accuracy", [row["accuracy"] for row in rows]),
        Panel("thinking", "thinking, tokens", [row["thinking"] for row in rows])
        if counted
        else Panel("length", "length, tokens", [row["length"] for row in rows]),
        Panel("degenerate_share", "degenerate", [row["degenerate_share"] for row in rows]),
    ]


def dose_response(
    rows: Sequence[Dose],
    steps: Mapping[str, StepTest],
    *,
    unit: str | None = None,
) -> go.Figure:
    """KL, accuracy, length and degenerate share of the continuations along β, one below the other, with 95 % intervals.

    `steps` has the test of each panel's own quantity (`outcomes.dose_steps`): the line of a step stands in the middle
    of the gap between two β, the band is its 95 % interval; where there is no step the panel says why.
    """
    if not rows:
        return blank("No dose has been measured", height=260)
    betas, panels = [row["beta"] for row in rows], dose_panels(rows)
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.065)
    figure.update_layout(template=TEMPLATE, height=660, margin={"l": 70, "r": 16, "t": 24, "b": 46}, showlegend=False)
    for number, panel in enumerate(panels, start=1):
        figure.add_scatter(
            x=betas,
            y=[quantity["value"] for quantity in panel.found],
            mode="lines+markers",
            line={"color": STEERED, "width": 1.2},
            marker={"size": 8, "color": STEERED},
            error_y=_interval_bars(panel.found),
            hovertext=[
                _dose_hover(panel.name, beta, quantity) for beta, quantity in zip(betas, panel.found, strict=True)
            ],
            hoverinfo="text",
            cliponaxis=False,
            row=number,
            col=1,
        )
        figure.add_vline(x=0, row=number, col=1, line=_NOTCH, layer="below", exclude_empty_subplots=False)
        known = panel.n_unknown < len(rows)
        figure.update_yaxes(title=panel.name, rangemode="tozero", showticklabels=known, row=number, col=1)
        if panel.n_unknown:
            where = f"{panel.n_unknown} of {len(rows)}" if known else "every"
            _note(figure, f"{panel.name.partition(',')[0]} unknown at {where} β", row=number, x=1)
        if (tested := steps.get(panel.quantity)) is not None:
            _add_step(figure, tested, row=number)
    for row in (2, 4):
        figure.update_yaxes(range=[-0.06, 1.06], tickformat=".0%", row=row, col=1)
    margin = 0.04 * (max(betas) - min(betas)) or 1
    figure.update_xaxes(range=[min(betas) - margin, max(betas) + margin], tickvals=betas, zeroline=False)
    figure.update_xaxes(title=f"β ({unit_words(unit)})" if unit else "β", row=len(panels), col=1)
    return figure


def _dose_hover(name: str, beta: float, quantity: Quantity) -> str:
    if quantity["value"] is None:
        return ""
    interval = "" if quantity["low"] is None else f" [{quantity['low']:.3g}, {quantity['high']:.3g}]"
    n = f"<br>n = {quantity['n']}" if "n" in quantity else ""
    return f"β = {_signed(beta)}<br>{name}: {quantity['value']:.3g}{interval}{n}"


def _add_step(figure: go.Figure, tested: StepTest, *, row: int) -> None:
    """The line of a step, strong where p ≤ 0.05, and what it says; or why there is none."""
    step = tested["step"]
    if step is None:
        _note(figure, f"no step tested: {tested['reason']}", row=row, x=0)
        return
    before, after, p = step["x_before"], step["x_after"], step["p"]
    colour = ACCENT if p <= 0.05 else MISSING
    low, high = step["low"], step["high"]
    if low is not None and math.isfinite(low):
        figure.add_vrect(x0=low, x1=high, row=row, col=1, fillcolor=colour, opacity=0.12, line_width=0)
    figure.add_vline(x=(before + after) / 2, row=row, col=1, line={"color": colour, "width": 2, "dash": "dash"})
    words = f"steps between β = {_signed(before)} and {_signed(after)}, p = {p:.2g}, n = {tested['n']}"
    _note(figure, keyed(colour, words), row=row, x=0)


def _note(figure: go.Figure, text: str, *, row: int, x: float) -> None:
    """Words above a panel, at its left (x = 0) or right (x = 1) end."""
    figure.add_annotation(
        text=text,
        showarrow=False,
        xref="x domain",
        yref="y domain",
        x=x,
        y=1,
        xanchor="left" if x == 0 else "right",
        yanchor="bottom",
        font={"size": 12},
        row=row,
        col=1,
    )
