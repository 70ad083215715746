"""Accuracy by prompt and model, and their differences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.overview import accuracy_by_prompt
from app.shared.answer_shares import part_of
from app.shared.statistics_cache import prompt_contrasts
from app.shared.views import Here
from app.shell import keys
from app.shell.missing import Missing
from app.shell.untrusted import one_line, show
from backend.cot.prompts import MANNERS
from backend.importance.by_prompt import CONTRASTS, cells, told_apart
from backend.store.store import Store


def several(here: Here) -> Missing | None:
    """Chains under several prompts, or of several models."""
    chains = here.store.verdicts()
    if len(set(zip(chains["model_id"], chains["prompt_name"], strict=True))) > 1:
        return None
    return Missing("One model was asked under one prompt: there is nothing to compare.", None)


def draw(here: Here, store: Store) -> None:
    chains = store.verdicts()
    names = _model_names(chains)
    show(confounding_line(chains))
    found = pd.DataFrame(cells(chains))
    found = found.assign(model=found["model_id"].map(names))
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.plotly_chart(accuracy_by_prompt(found), key=keys.of("accuracy_by_prompt"))
    with right:
        st.dataframe(cell_table(found), hide_index=True, height="content")
        show(
            "Accuracy is the mean over problems of the share of a problem's chains that solve it; a chain without an"
            " answer, even a forced one, solves nothing. Intervals are 95 % over problems; differences are in"
            " percentage points and paired by problem; q is p corrected for all differences shown."
        )
    if len(rows := prompt_contrasts(chains)):
        st.dataframe(contrast_table(rows, names), hide_index=True, height="content")
    if not (asked := store.prompts()).empty:
        with st.expander("What was asked, and how each model's thought begins"):
            st.dataframe(prompt_table(asked), hide_index=True, height="content")


def _model_names(chains: pd.DataFrame) -> dict[str, str]:
    """A name for each model id, with the id where two models have one name."""
    named = {
        row.model_id: one_line(str(row.model), 60)
        for row in chains[["model_id", "model"]].drop_duplicates().itertuples()
    }
    return {
        model: name if list(named.values()).count(name) == 1 else f"{name} ({model})" for model, name in named.items()
    }


def confounding_line(chains: pd.DataFrame) -> str:
    """What the design can tell, in a sentence. `chains` are rows of `Queries.verdicts`."""
    models, prompts = chains["model_id"].nunique(), chains["prompt_name"].nunique()
    if told_apart(chains):
        return (
            "A base model under one prompt against a reasoner under another differs in model and prompt at once. Only"
            " both models under both prompts tell them apart, as here: along a line of the figure is the prompt's part,"
            " above one prompt the model's."
        )
    if models > 1 and prompts > 1:
        return (
            "No two models share two prompts here, so a difference between them may be the model's or the prompt's:"
            " only both models under both prompts tell which. Add the missing prompts under [[prompts]] in the study"
            " file."
        )
    if models > 1:
        return (
            "All models were asked under one prompt; how they differ may depend on it. A second one, under [[prompts]]"
            " in the study file, would show that."
        )
    return "One model was asked under several prompts."


def cell_table(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of `by_prompt.cells` with `model`, as text."""
    return pd.DataFrame(
        {
            "model": found["model"],
            "prompt": found["prompt_name"],
            "accuracy": [_percent(value) for value in found["accuracy"]],
            "95 %": [_percents(row.low, row.high) for row in found.itertuples()],
            "problems": found["n"],
            "chains": found["n_chains"],
            "answer forced": [part_of(row.n_forced, _all_chains(row)) for row in found.itertuples()],
            "without an answer": [part_of(row.n_without_answer, _all_chains(row)) for row in found.itertuples()],
            "not judged": found["n_unjudged"],
        }
    )


def _all_chains(row: Any) -> int:
    """Also those that could not be judged, and so take no part."""
    return int(row.n_chains + row.n_unjudged)


def contrast_table(rows: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Rows of `by_prompt.contrasts` as text: what is compared, what is held fixed,
    the difference in percentage points."""
    return pd.DataFrame(
        {
            "comparison": [CONTRASTS[row.contrast] for row in rows.itertuples()],
            "difference": [_difference(row, names) for row in rows.itertuples()],
            "points": [_points(row.difference) for row in rows.itertuples()],
            "95 %": [
                "unknown" if pd.isna(row.low) else f"[{_points(row.low)}, {_points(row.high)}]"
                for row in rows.itertuples()
            ],
            "p": [_p(row.p) for row in rows.itertuples()],
            "q": [_p(row.q) for row in rows.itertuples()],
            "problems": [row.n for row in rows.itertuples()],
            "left out": [row.n_left_out for row in rows.itertuples()],
            "test": [row.test for row in rows.itertuples()],
        }
    )


def _difference(row: Any, names: Mapping[str, str]) -> str:
    model, other = names[row.model_id], names.get(row.other_model_id)
    match row.contrast:
        case "prompts":
            return f"{row.other_prompt_name} − {row.prompt_name}, {model}"
        case "models":
            return f"{other} − {model}, under {row.prompt_name}"
        case "interaction":
            return f"({row.other_prompt_name} − {row.prompt_name}) of {other} − that of {model}"
    raise ValueError(f"no words for contrast {row.contrast!r}")


def prompt_table(asked: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Queries.prompts` as text."""
    return pd.DataFrame(
        {
            "prompt": asked["prompt_name"],
            "model": asked["model"],
            "the user's turn": asked["text"],
            "system turn": asked["system"].fillna("none"),
            "worked examples": ["yes" if worked else "no" for worked in asked["worked"]],
            "thinking": [MANNERS.get(manner, manner) for manner in asked["manner"]],
            "settings of the template": ["none set" if said == "{}" else said for said in asked["settings"]],
        }
    )


def _percent(share: float) -> str:
    return "unknown" if pd.isna(share) else f"{share:.1%}"


def _percents(low: float, high: float) -> str:
    return "unknown" if pd.isna(low) else f"[{low:.0%}, {high:.0%}]"


def _points(difference: float) -> str:
    return "unknown" if pd.isna(difference) else f"{100 * difference:+.1f}".replace("-", "−")


def _p(p: float) -> str:
    return "unknown" if pd.isna(p) else ("< 0.001" if p < 0.001 else f"{p:.3f}")
