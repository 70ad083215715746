"""Accuracy and length by prompt and model, and their differences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.overview import accuracy_by_prompt
from app.shared.model_names import called, named
from app.shared.statistics_cache import prompt_contrasts
from app.shared.views import Here
from app.shell import keys
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.missing import Missing
from app.shell.untrusted import show
from backend.cot.prompts import MANNERS
from backend.importance.by_prompt import CONTRASTS, cells, lengths, told_apart
from backend.root import PRECOMPUTE
from backend.statistics.intervals import wilson
from backend.store.store import Store


def several(here: Here) -> Missing | None:
    """Chains under several prompts, or of several models."""
    if here.store.n_asked() > 1:
        return None
    return Missing(
        "One model was asked under one prompt, so there is nothing to compare. A study with several names them under"
        " [[models]] and [[prompts]]; this one has both models under both prompts:",
        f"{PRECOMPUTE} run studies/prompts.toml",
    )


def asked(here: Here) -> Missing | None:
    """Prompts that the study has kept."""
    return None if len(here.store.prompts()) else Missing("This study kept no prompts.", None)


def draw(here: Here, store: Store) -> None:
    """Accuracy of each model under each prompt, with what it rests on."""
    chains = store.verdicts()
    found = _cells(store, chains)
    show(confounding_line(chains))
    left, right = st.columns([2, 3], gap="large")
    with left:
        data_figure(accuracy_by_prompt(found), key=keys.of("accuracy_by_prompt"))
    with right:
        data_table(cell_table(found), hide_index=True, height="content")
        show(
            "Accuracy is the mean over problems of the share of a problem's chains that solve it; a chain without an"
            " answer, even a forced one, solves nothing. Intervals are 95 % over problems."
        )
        show(PUBLISHED)
        show(in_this_study(chains, found))


def draw_lengths(here: Here, store: Store) -> None:
    """How long chains are, how they end, and how many give an answer."""
    chains = store.verdicts()
    found = pd.DataFrame(lengths(chains))
    data_table(
        length_table(found.assign(model=found["model_id"].map(_model_names(store, chains)))),
        hide_index=True,
        height="content",
    )
    show(
        "Thinking tokens are those of the chain: of a model that thinks between tags the thought alone, without tags"
        " and answer; of one that does not, its whole response, so that the two are different things. The interval of"
        " the median draws problems anew. A chain at the cap was cut: its length is a lower bound, and where more than"
        " half of a cell's are cut the median is one too. Shares have Wilson's 95 % intervals, as if chains were"
        " independent; those of one problem are not."
    )


def draw_contrasts(here: Here, store: Store) -> None:
    """Differences between prompts, between models, and the difference of differences."""
    chains = store.verdicts()
    if len(rows := prompt_contrasts(chains)):
        data_table(contrast_table(rows, _model_names(store, chains)), hide_index=True, height="content")
        show("Differences are in percentage points and paired by problem; q is p corrected for all differences shown.")
    else:
        show("No two cells share a model or a prompt, so nothing can be compared.")


def draw_asked(here: Here, store: Store) -> None:
    """What was asked, and how each model's thought begins."""
    data_table(prompt_table(named(store, store.prompts())), hide_index=True, height="content")


def _cells(store: Store, chains: pd.DataFrame) -> pd.DataFrame:
    found = pd.DataFrame(cells(chains))
    return found.assign(model=found["model_id"].map(_model_names(store, chains)))


def _model_names(store: Store, chains: pd.DataFrame) -> dict[str, str]:
    return {model: called(store, model) for model in chains["model_id"].unique()}


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


PUBLISHED = (
    "“Decoding R1's CoT” compares a base model under one prompt with a reasoner under another, so that its difference"
    " is of model and prompt at once."
)


def in_this_study(chains: pd.DataFrame, found: pd.DataFrame) -> str:
    """What that comparison would say here, and what of it is the model's under one prompt: `found` are rows of
    `cells` with `model`.
    """
    by_cell = found.set_index(["model_id", "prompt_name"])["accuracy"]
    models, prompts = (list(dict.fromkeys(found[name])) for name in ("model_id", "prompt_name"))
    wanted = ("plain", "steps")
    if not told_apart(chains) or len(models) != 2 or not set(wanted) <= set(prompts):
        return "This study does not have both of two models under both of these prompts, so it cannot show that."
    base, other = models
    crossed = by_cell[other, "steps"] - by_cell[base, "plain"]
    within = [by_cell[other, prompt] - by_cell[base, prompt] for prompt in wanted]
    gained = [by_cell[model, "steps"] - by_cell[model, "plain"] for model in models]
    names = dict(zip(found["model_id"], found["model"], strict=True))
    return (
        f"Here that comparison (base under plain, reasoner under steps) says {_points(crossed)} points; under one"
        " prompt the models differ by"
        f" {_points(within[0])} (plain) and {_points(within[1])} (steps), and steps changes {names[base]} by"
        f" {_points(gained[0])} and {names[other]} by {_points(gained[1])}. Intervals and tests are below."
    )


def length_table(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of `by_prompt.lengths` with `model`, as text."""

    def share(column: str) -> list[str]:
        counts = zip(found[column], found["n_chains"], strict=True)
        return [f"{k / n:.0%} [{low:.0%}, {high:.0%}]" for k, n in counts for low, high in [wilson(int(k), int(n))]]

    return pd.DataFrame(
        {
            "model": found["model"],
            "prompt": found["prompt_name"],
            "thinks between tags": found["thinks"],
            "median thinking tokens": ["unknown" if pd.isna(value) else f"{value:g}" for value in found["median"]],
            "95 %": ["unknown" if pd.isna(row.low) else f"[{row.low:g}, {row.high:g}]" for row in found.itertuples()],
            "chains": found["n_chains"],
            "problems": found["n"],
            "at the cap": share("n_capped"),
            "without an answer": share("n_without_answer"),
            "answer forced": share("n_forced"),
        }
    )


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
            "not judged": found["n_unjudged"],
        }
    )


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
