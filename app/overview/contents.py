"""What is in the study: its name, its counts, its models, the accuracy, and what it does not have yet."""

from typing import Any

import pandas as pd
import streamlit as st

from app.figures.overview import accuracy_by_level
from app.shared.answer_shares import answered, part_of
from app.shared.model_names import called, named
from app.shared.views import Here
from app.shell import keys, navigation, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.missing import Missing, missing, say
from app.shell.numbers import interval
from app.shell.untrusted import one_line, show
from backend.models.names import role_words
from backend.statistics.intervals import wilson
from backend.store.store import Store

_COUNTS = (
    ("problems", "Problems"),
    ("cots", "Chains of thought"),
    ("chunks", "Chunks"),
    ("rollouts", "Rollouts"),
    ("activations", "Chunk activations"),
    ("kl_curves", "KL(β) curves"),
)


def draw_name(here: Here, store: Store) -> None:
    """The study's name, and when it was published."""
    show(f"{store.name} · published {store.published_at.replace('T', ' ')} UTC")


def draw_counts(here: Here, store: Store) -> None:
    row = store.counts().iloc[0]
    for column, (name, label) in zip(st.columns(len(_COUNTS)), _COUNTS, strict=True):
        column.metric(label, f"{int(row[name]):,}", border=True)
    if row["forced_rollouts"]:
        n, forced = int(row["rollouts"]), int(row["forced_rollouts"])
        show(f"Of the rollouts {n - forced:,} were resampled, and {forced:,} forced to answer at once.")


def draw_accuracy(here: Here, store: Store) -> None:
    """Accuracy by level, and how many problems are candidates."""
    rows = levels(store)
    data_figure(accuracy_by_level(rows), key=keys.of("accuracy_by_level"))
    if rows["n_chains"].sum():
        data_table(answer_table(rows), hide_index=True, height="content")
    for row in named(store, store.rollout_answers()).itertuples():
        show(rollouts_line(row))
    candidates_line(store)


def several_asked(here: Here) -> Missing | None:
    """Chains of thought of several models, or under several prompts."""
    if here.store.n_asked() > 1:
        return None
    return Missing("One model was asked under one prompt: there is nothing to compare.", None)


def draw_way_to_prompts(here: Here, store: Store) -> None:
    show(f"{store.n_asked()} pairs of a model and a prompt were asked. Which of a difference is whose:")
    st.page_link(
        navigation.link_to(navigation.PROMPTS),
        label="Accuracy by prompt and model",
        icon=":material/forum:",
        query_params=selection.values(),
    )


def what_is_missing(here: Here) -> list[Missing]:
    return missing(here.store)


def anything_missing(here: Here) -> Missing | None:
    """Something that a later stage has not made."""
    return None if what_is_missing(here) else Missing("Every stage of this study has been done.", None)


def draw_missing(here: Here, store: Store) -> None:
    for item in what_is_missing(here):
        say(item)


def levels(store: Store) -> pd.DataFrame:
    """Accuracy by model and level with its Wilson interval; of a study with several prompts by prompt too, named beside
    the model.
    """
    rows = _named_with_prompt(named(store, store.accuracy_by_level()))
    bounds = [wilson(int(k), int(n)) for k, n in zip(rows["n_correct"], rows["n"], strict=True)]
    return rows.assign(low=[b.low for b in bounds], high=[b.high for b in bounds])


def answer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Beside each accuracy of `levels`: its n, and the share of all chains without an answer and with a forced one."""
    return pd.DataFrame(
        {
            "model": rows["model"],
            "level": ["unknown" if pd.isna(level) else str(int(level)) for level in rows["level"]],
            "correct, 95 %": [
                f"{part_of(row.n_correct, row.n)} {interval(row.low, row.high)}" for row in rows.itertuples()
            ],
            "no answer": [part_of(row.n_without_answer, row.n_chains) for row in rows.itertuples()],
            "forced": [part_of(row.n_forced, row.n_chains) for row in rows.itertuples()],
        }
    )


def rollouts_line(row: Any) -> str:
    """What became of the answers of a model's rollouts; `row` is one of `Store.rollout_answers`."""
    later = f", {row.n_added} of them drawn later at one chunk" if row.n_added else ""
    words = answered(row.n, row.n_without_answer, row.n_forced, of="resampled rollouts")
    own = row.n_capped - row.n_capped_without
    cut = f"{part_of(row.n_capped, row.n)} were cut by the token cap, {own:,} of them after an answer"
    return f"{one_line(str(row.model), 60)}: {words}; {cut}{later}."


def candidates_line(store: Store) -> None:
    by_model = (
        _named_with_prompt(named(store, store.accuracy_by_level()))
        .groupby("model", sort=False)[["n_candidates", "n_problems"]]
        .sum()
    )
    if len(by_model):
        counts = [f"{one_line(name, 60)} {row.n_candidates} of {row.n_problems}" for name, row in by_model.iterrows()]
        show(
            f"Candidates: {', '.join(counts)} problems. A problem is one where the model's accuracy lies between 20 %"
            " and 80 %, so that a change of one chunk can change the answer."
        )


def _named_with_prompt(rows: pd.DataFrame) -> pd.DataFrame:
    if rows["prompt_name"].nunique() < 2:
        return rows
    return rows.assign(model=rows["model"] + ", " + rows["prompt_name"])


def draw_models(here: Here, store: Store) -> None:
    for row in store.models().itertuples():
        size = None if pd.isna(row.n_layers) else f"{row.n_layers} layers × {row.d_model}"
        revision = None if pd.isna(row.revision) else f"revision {str(row.revision)[:12]}"
        parts = [None if row.role == "model" else role_words(row.role), row.dtype, size, revision]
        known = [str(part) for part in parts if pd.notna(part)]
        with st.container(border=True, gap=None):
            show(f"{row.name} (here: {called(store, row.model_id)})")
            show(
                " · ".join([*known, f"{row.n_cots} CoTs"])
                if known
                else f"{row.n_cots} CoTs; dtype and revision not stated by the import"
            )
