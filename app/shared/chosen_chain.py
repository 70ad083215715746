"""Choosing a chain of thought, and what is shown around its text."""

from typing import Protocol

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shared import chosen_chunk
from app.shared.chosen_chunk import CHUNK, COT, PROBLEM, ChosenChunk
from app.shared.model_names import called, in_full
from app.shell import selection, studies
from app.shell.fields import SWITCH, Field, declare
from app.shell.untrusted import for_markdown, one_line
from backend.store.store import Store

_VERDICTS = {"any": "all", "correct": "correct", "wrong": "wrong", "none": "no answer"}
LEVEL = declare(Field("problem_level", "level of the problems listed", None, "any"))
WRITER = declare(Field("written_by", "model of the chains listed", None, "any"))
PROMPT = declare(Field("prompt_name", "prompt of the chains listed", None, "any"))
VERDICT = declare(Field("answer_verdict", "answer of the chains listed", _VERDICTS, "any"))
CANDIDATES = declare(Field("only_candidates", "switch to candidates only", SWITCH, "no"))
_FILTERS = (LEVEL, WRITER, PROMPT, VERDICT, CANDIDATES)


def choose_cot(store: Store, where: ChosenChunk) -> ChosenChunk:
    """Pickers for problem and CoT behind a filter; returns the place after them."""
    if selection.is_offered(COT):
        return where
    first, second, third = st.columns([1.25, 6, 5], vertical_alignment="bottom", gap="small")
    with first:
        active = sum(selection.get(field) not in (None, field.default) for field in _FILTERS)
        filters = st.popover(f"Filter ({active})" if active else "Filter", icon=":material/filter_alt:")
    return _choose(store, where, filters, second, third)


def choose_in_drawer(store: Store, where: ChosenChunk) -> ChosenChunk:
    """The same behind one button that says which chain is open."""
    if selection.is_offered(COT):
        return where
    with st.popover(for_markdown(in_words(store, where.cot), 60), icon=":material/segment:"):
        problem, chain, filters = st.container(), st.container(), st.container()
        return _choose(store, where, filters, problem, chain)


def step(store: Store, by: int) -> None:
    """Open the chain that stands so many places further in the list, behind the filter that is set; none beyond its
    ends.
    """
    listed = _kept(studies.ask(store.problem_index), studies.ask(store.cot_index))["cot_id"].tolist()
    now = selection.get(COT)
    at = (listed.index(now) + by) if now in listed else 0
    if 0 <= at < len(listed):
        selection.choose({PROBLEM: None, COT: listed[at], CHUNK: None})


def in_words(store: Store, cot: str) -> str:
    """A chain, as a button says it: of which problem, and which of its chains."""
    cots, problems = studies.ask(store.cot_index), studies.ask(store.problem_index)
    row = cots[cots["cot_id"] == cot].iloc[0]
    number = problems["problem_id"].tolist().index(row.problem_id) + 1
    verdict = "" if pd.isna(row.is_correct) else (", correct" if row.is_correct else ", wrong")
    of = f"{called(store, row.model_id)}, " if cots["model_id"].nunique() > 1 else ""
    return f"Problem {number}: {of}sample {row['sample']}{verdict}"


def _choose(
    store: Store, where: ChosenChunk, filters: DeltaGenerator, second: DeltaGenerator, third: DeltaGenerator
) -> ChosenChunk:
    problems, cots = studies.ask(store.problem_index), studies.ask(store.cot_index)
    with filters:
        _filter(store, problems, cots)
    kept = _kept(problems, cots)
    if st.session_state.pop("filter_changed", False) and len(kept) and where.cot not in set(kept["cot_id"]):
        selection.choose({PROBLEM: None, COT: kept["cot_id"].iloc[0], CHUNK: None})
        where = chosen_chunk.here(store)
    listed = pd.concat([kept, cots[cots["cot_id"] == where.cot]]).drop_duplicates("cot_id")
    with_cots = set(listed["problem_id"])
    named = {
        row.problem_id: f"{number}. {_level(row.level)}{one_line(row.question, 110)}"
        for number, row in enumerate(problems.itertuples(), start=1)
        if row.problem_id in with_cots
    }
    of_problem = listed[listed["problem_id"] == where.problem].sort_values(["model", "prompt_name", "sample", "cot_id"])
    of_several = [column for column in ("model", "prompt_name") if cots[column].nunique() > 1]
    cot_names = {row.cot_id: _cot_name(row, of_several) for row in of_problem.itertuples()}
    with second:
        count = kept["problem_id"].nunique()
        selection.pick(PROBLEM, f"Problem ({count} of {len(problems)})", list(named), show=named.__getitem__)
    with third:
        selection.pick(
            COT, f"Chain of thought ({len(of_problem)} of this problem)", list(cot_names), show=cot_names.__getitem__
        )
    return where


def _filter(store: Store, problems: pd.DataFrame, cots: pd.DataFrame) -> None:
    """The pickers of the filter."""
    writers = _any_of(cots["model_id"])
    names = {model: called(store, model) for model in writers[1:]} | {"any": "all models"}
    selection.pick(
        LEVEL, "Level", _levels(problems), show=lambda value: "all" if value == "any" else value, then=_filter_changed
    )
    selection.pick(
        WRITER, "Model", writers, show=names.__getitem__, help=in_full(store, writers[1:]), then=_filter_changed
    )
    if len(prompts := _any_of(cots["prompt_name"])) > 2:
        selection.pick(
            PROMPT,
            "Prompt",
            prompts,
            show=lambda value: "all prompts" if value == "any" else value,
            then=_filter_changed,
        )
    selection.pick(VERDICT, "Answer", show=_VERDICTS.__getitem__, then=_filter_changed)
    selection.pick_switch(
        CANDIDATES,
        "Candidates only",
        then=_filter_changed,
        help="Problems the model solves between 20 % and 80 % of the time.",
    )


def _levels(problems: pd.DataFrame) -> list[str]:
    return ["any"] + [str(int(level)) for level in sorted(problems["level"].dropna().unique())]


def _any_of(values: pd.Series) -> list[str]:
    return ["any", *sorted(values.unique())]


def _kept(problems: pd.DataFrame, cots: pd.DataFrame) -> pd.DataFrame:
    """The CoTs that pass the filter, in the problems' order."""
    level = selection.in_force(LEVEL, _levels(problems))
    writer = selection.in_force(WRITER, _any_of(cots["model_id"]))
    prompts = _any_of(cots["prompt_name"])
    prompt = selection.in_force(PROMPT, prompts) if len(prompts) > 2 else "any"
    verdict = selection.in_force(VERDICT)
    rows = problems[["problem_id", "level", "candidate"]].merge(cots, on="problem_id", how="inner")
    if level != "any":
        rows = rows[rows["level"] == int(level)]
    if writer != "any":
        rows = rows[rows["model_id"] == writer]
    if prompt != "any":
        rows = rows[rows["prompt_name"] == prompt]
    if verdict != "any":
        rows = rows[
            {
                "correct": rows["is_correct"].eq(True),
                "wrong": rows["is_correct"].eq(False),
                "none": rows["is_correct"].isna(),
            }[verdict]
            .fillna(False)
            .astype(bool)
        ]
    return rows[rows["candidate"].astype(bool)] if selection.checked(CANDIDATES) == "yes" else rows


def _filter_changed() -> None:
    st.session_state["filter_changed"] = True


class _Chain(Protocol):
    """A row of `cot_index`."""

    is_correct: bool | None
    answer: str | None
    sample: int
    n_chunks: int
    has_rollouts: bool


def _cot_name(row: _Chain, of_several: list[str]) -> str:
    """The CoT in a list: of several models or prompts, with its own (`of_several`: those columns)."""
    verdict = "no verdict" if pd.isna(row.is_correct) else ("correct" if row.is_correct else "wrong")
    answer = "" if pd.isna(row.answer) else f" · {one_line(str(row.answer), 24)}"
    own = "".join(f"{one_line(str(getattr(row, column)), 30)} · " for column in of_several)
    return (
        f"{own}sample {row.sample} · {verdict}{answer} · {row.n_chunks}"
        f" chunks{' · rollouts' if row.has_rollouts else ''}"
    )


def _level(level: float | None) -> str:
    return "" if level is None or pd.isna(level) else f"[level {int(level)}] "
