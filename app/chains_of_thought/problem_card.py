"""The problem, the chain's answer and its verdict."""

import pandas as pd
import streamlit as st

from app.shared.answer_shares import answered, part_of
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys
from app.shell.numbers import interval
from app.shell.untrusted import show
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """Question, ground truth, the CoT's answer and its verdict."""
    cot = store.cot(here.chunk.cot).iloc[0]
    with st.container(border=True, gap="small", key=keys.of("problem_card")):
        show(cot.question)
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            _verdict(cot.is_correct)
            _fact("answer", "none" if pd.isna(cot.answer) else f"{cot.answer} ({cot.answer_source})")
            _fact("ground truth", "unknown" if pd.isna(cot.ground_truth) else str(cot.ground_truth))
        with st.container(key=keys.of("problem_facts")):
            solved = base_accuracy(store.base_accuracy(here.chunk.cot))
            show(
                f"solved {solved} · {_length(cot)} · written by {called(store, cot.model_id)},"
                f" sample {cot['sample']}, prompt {cot.prompt_name}"
            )


def base_accuracy(rows: pd.DataFrame) -> str:
    """A row of `Store.base_accuracy` in words: the share of the problem's CoTs that is correct, its interval, and what
    became of the answers of all of them.
    """
    if rows.empty or pd.isna(rows["accuracy"].iloc[0]):
        return "unknown"
    row = rows.iloc[0]
    share = f"{part_of(int(row.n_correct), int(row.n))} judged CoTs, 95 % {interval(row.ci_low, row.ci_high)}"
    counts = (int(row.n_chains), int(row.n_without_answer), int(row.n_forced))
    return share + (f"; {answered(*counts, of='CoTs', how='forced')}" if row.n_chains else "")


def _fact(label: str, value: str) -> None:
    with st.container(gap="xxsmall", width="content", horizontal=True, vertical_alignment="center"):
        st.caption(label, width="content")
        show(value)


def _verdict(is_correct: object) -> None:
    if pd.isna(is_correct):
        st.badge("not judged", color="gray")
    elif is_correct:
        st.badge("correct", icon=":material/check:", color="green")
    else:
        st.badge("wrong", icon=":material/close:", color="orange")


def _length(cot: pd.Series) -> str:
    tokens = "unknown" if pd.isna(cot.n_tokens) else f"{int(cot.n_tokens):,} tokens"
    return tokens + (", cut at the cap" if cot.finish == "cap" else "")
