"""Odd against even latents, in every quantity of a reading, for each sibling."""

import pandas as pd
import streamlit as st

from app.figures.latent_readings import parity_differences, series_colours
from app.latent_steps.readings import REPORT, door, layer, layer_names, lens, said, siblings, subset
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.numbers import number
from app.shell.untrusted import for_markdown
from backend.latent.lenses import SUBSETS
from backend.latent.summaries import words_of_role
from backend.statistics.holm import holm
from backend.store.store import Store

MEASURES = {
    "entropy": "entropy, nats",
    "log_prob": "log-probability, nats",
    "log_rank": "log₁₀ of the rank",
    "top": "share where it is first",
}
KINDS = {"line": "without each problem's line", "plain": "as they are"}
MEASURE = declare(Field("latent_parity", "quantity of odd and even latents", ("log_prob", "log_rank", "top")))
KIND = declare(Field("latent_trend", "whether a trend over latents is taken out", tuple(KINDS)))
ALPHA = 0.05


def draw(here: Here, store: Store) -> None:
    with here.once(door):
        group, chosen = here.once(siblings), here.once(lens)
        some, at = here.once(subset), here.once(layer)
        names = ["log_prob", "log_rank", "top"] if chosen.has_probabilities else ["log_rank", "top"]
        measure = selection.pick(MEASURE, "Of followed words", names, show=MEASURES.__getitem__, width=210)
        kind = selection.pick(KIND, "Differences", show=KINDS.__getitem__, width=230)
    name = "logit" if chosen.name.startswith("tuned") and at == group.n_layers - 1 else chosen.name
    rows = group.rows(studies.ask(store.latent_parity, subset=some))
    rows = rows[(rows["lens"] == name) & (rows["layer"] == at) & rows["measure"].isin(["entropy", measure])]
    frame = differences(rows, kind)
    quantities = list(dict.fromkeys(frame["quantity"]))
    data_figure(
        parity_differences(
            frame,
            quantities,
            series_colours(list(group.labels.values())),
            axis=f"even − odd latents: {MEASURES[measure]}; of the entropy nats",
        ),
        key=keys.of("latent_parity_chart"),
        config={"displayModeBar": False},
    )
    where = layer_names([at], group.n_layers)[at]
    st.caption(
        f"{chosen.label}, layer {where}, {SUBSETS[some].label}: mean over latents 2, 4, … less that over 1, 3, …, with"
        " 95 % intervals over problems. Whatever rises from latent to latent differs so too: without the line, what is"
        f" left alternates. {_divisions(rows)}"
    )
    said(
        f"{REPORT} says that even latents detect the answer, that odd ones have the higher entropy, and that"
        " “therefore” is at odd ones alone.",
        sentence(frame, kind),
    )


def differences(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of the figure, with `p`, and `holm` over all of them."""
    prefix = "without_line_" if kind == "line" else ""
    frame = pd.DataFrame(
        {
            "quantity": [
                "entropy of the reading" if role == "cell" else words_of_role(role) for role in rows["role"].astype(str)
            ],
            "series": rows["panel"],
            "difference": rows["without_line" if kind == "line" else "difference"].astype(float),
            "low": rows[f"{prefix}low" if prefix else "ci_low"].astype(float),
            "high": rows[f"{prefix}high" if prefix else "ci_high"].astype(float),
            "p": rows[f"{prefix}p"].astype(float),
            "p_steps": rows["p_steps"].astype(float),
            "n": rows["n_problems"],
        }
    )
    frame = frame.assign(holm=holm(frame["p"].to_numpy()))
    told = [
        f"{row.series}, {row.quantity}: {number(row.difference)} [{number(row.low)}, {number(row.high)}], p ="
        f" {number(row.p)} over problems ({number(row.holm)} by Holm), {number(row.p_steps)} over latents, n = {row.n}"
        for row in frame.itertuples()
    ]
    return frame.assign(told=told)


def _divisions(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    n = int(rows["n_divisions"].max())
    return (
        f"The latents themselves are few: p over latents is the share of all {n} ways to divide them, which is never"
        f" below {number(rows['p_steps'].min())} here."
    )


def sentence(frame: pd.DataFrame, kind: str) -> str:
    """Which quantities differ in each model, after Holm over all that are drawn."""
    if frame["difference"].isna().all():
        return "There are too few latents to tell."
    parts = []
    for series, own in frame[frame["difference"].notna()].groupby("series", sort=False):
        found = own[own["holm"] <= ALPHA]
        told = [
            f"{for_markdown(row.quantity)} {'higher' if row.difference > 0 else 'lower'} at even ones by"
            f" {number(abs(row.difference))} [{number(min(abs(row.low), abs(row.high)))},"
            f" {number(max(abs(row.low), abs(row.high)))}]"
            for row in found.itertuples()
        ]
        parts.append(f"{for_markdown(str(series))}: {'; '.join(told) or 'no difference is shown'}")
    return (
        f"{KINDS[kind].capitalize()}, with Holm's p over problems and all {int(frame['p'].notna().sum())} differences"
        f" at most {ALPHA}: {'. '.join(parts)}."
    )
