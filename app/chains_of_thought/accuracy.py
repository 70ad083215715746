"""Accuracy and importance of each chunk of the chain, with its anchors (Dawes, "Features and Logits", the figure of
metrics by chunk).
"""

import pandas as pd
import streamlit as st

from app.chains_of_thought.problem_card import base_accuracy
from app.figures.chunk_metrics import Beside, accuracy_and_importance
from app.shared import chunk_colours, views
from app.shared.answer_shares import answered
from app.shared.clicks import go_to_clicked
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Decimal, Field, declare
from app.shell.missing import no_rollouts, say
from app.shell.numbers import number
from app.shell.untrusted import show
from app.shell.vocabulary import metric, metric_choice
from backend.geometry.directions import ANCHOR_CONVENTIONS, ANCHOR_IMPORTANCE, ANCHOR_METRIC
from backend.statistics.intervals import UNKNOWN, Interval, wilson
from backend.store.store import Store

THRESHOLD = declare(
    Field(
        "anchor_threshold",
        "importance from which on a chunk is an anchor",
        Decimal(0.0, 50.0),
        f"{ANCHOR_IMPORTANCE:g}",
    )
)
PUBLISHED = (
    "The document sets accuracy and importance of each sentence of one chain side by side: accuracy moves along the"
    " chain around the problem's base accuracy, and few sentences, its anchors, are of importance 0.2 or more."
)


def draw(here: Here, store: Store) -> None:
    where, choices = here.chunk, chunk_colours.importance_options(store)
    choice = importance_choice(choices, selection.get(chunk_colours.METRIC))
    if choice is None:
        has_tokens = pd.notna(store.chunk_spans(where.cot)["token_start"]).all()
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=bool(has_tokens)))
        return
    name, _, convention = choice.partition(":")
    shown = metric(name)
    with views.controls():
        threshold = selection.pick_decimal(
            THRESHOLD, f"A chunk is an anchor from this importance on ({shown.unit})", step=0.05
        )
    accuracy = next(
        (one for one in choices if one.startswith("counterfactual_accuracy:")), "counterfactual_accuracy:all"
    )
    rows = measured(
        store.tagged_chunks(where.cot, ""),
        store.importance_in_cot(where.cot, *accuracy.split(":")),
        store.importance_in_cot(where.cot, name, convention),
        threshold,
    )
    base, key = store.base_accuracy(where.cot), keys.of("accuracy_and_importance")
    known = None if base.empty or pd.isna(base["accuracy"].iloc[0]) else float(base["accuracy"].iloc[0])
    words = "" if known is None else f"base accuracy {known:.0%}, n = {int(base['n'].iloc[0])} CoTs (dashed)"
    data_figure(
        accuracy_and_importance(rows, shown, Beside(known, words, threshold), selected=where.chunk),
        words={shown.unit: f"{shown.label}. {shown.meaning}"},
        key=key,
        on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption(f"Importance: {metric_choice(choice)}. {PUBLISHED}")
    show(said(rows, threshold, base))
    counts = store.answers_in_cot(where.cot)[["n", "n_without_answer", "n_forced"]].sum()
    if counts["n"]:
        show(f"Behind these accuracies: {answered(*map(int, counts), of='rollouts at all chunks')}.")


def importance_choice(choices: list[str], chosen: str | None) -> str | None:
    """The chosen metric where it is an importance; else that by which anchors are chosen, in the first convention that
    is stored; None where there is none.
    """
    if chosen in choices and metric(chosen.partition(":")[0]).compares:
        return chosen
    usual = [f"{ANCHOR_METRIC}:{convention}" for convention in ANCHOR_CONVENTIONS]
    compared = [choice for choice in choices if metric(choice.partition(":")[0]).compares]
    return next((choice for choice in [*usual, *compared] if choice in choices), None)


def measured(chunks: pd.DataFrame, accuracy: pd.DataFrame, importance: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Rows of the figure; the three frames are rows of one CoT's chunks in reading order."""
    columns = {"value": "", "ci_low": "_low", "ci_high": "_high"}
    parts = [
        rows[list(columns)].set_axis([f"{what}{end}" for end in columns.values()], axis=1)
        for what, rows in (("accuracy", accuracy), ("importance", importance))
    ]
    found = pd.concat([chunks[["chunk_id", "text"]], *parts], axis=1).assign(number=chunks["chunk_index"] + 1)
    bounds = [_wilson(row.value, row.n) for row in accuracy.itertuples()]
    found = found.assign(accuracy_low=[low for low, _ in bounds], accuracy_high=[high for _, high in bounds])
    return found.assign(is_anchor=(found["importance"].astype(float) >= threshold))


def _wilson(share: float, n: float) -> Interval:
    """The bootstrap's interval of a share has no width where all rollouts agree."""
    return UNKNOWN if pd.isna(share) or pd.isna(n) else wilson(round(share * n), int(n))


def said(rows: pd.DataFrame, threshold: float, base: pd.DataFrame) -> str:
    """What this chain shows: its anchors, how its accuracies lie to the base accuracy, and what that rests on."""
    n_known = int(rows["importance"].notna().sum())
    anchors = rows.loc[rows["is_anchor"], "number"].tolist()
    which = f" (chunk{'s' if len(anchors) > 1 else ''} {', '.join(map(str, anchors))})" if anchors else ""
    words = (
        f"This chain: {len(anchors)} of {n_known} chunks of known importance are anchors at {number(threshold)}{which};"
        f" {len(rows) - n_known} of {len(rows)} are unknown."
    )
    accuracy = rows["accuracy"].dropna().astype(float)
    if len(accuracy):
        words += (
            f" Accuracy of rollouts runs from {accuracy.min():.0%} to {accuracy.max():.0%} over {len(accuracy)} chunks."
        )
    return f"{words} Base accuracy of the problem: {base_accuracy(base)}."
