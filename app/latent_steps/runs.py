"""One problem: its steps, and what each model answers after each number of latents."""

import pandas as pd
import streamlit as st

from app.latent_steps.chosen import chosen_problem, models
from app.shared.views import Here
from app.shell import keys
from app.shell.data_table import data_table
from app.shell.untrusted import for_markdown, show
from backend.store.store import Store


def answers(runs: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """A row a model and a column a number of latents: the answer with ✓ or ✗, — where none was given, and nothing where
    the model does not run so many.
    """
    told = [
        "—" if pd.isna(right) else f"{answer} {'✓' if right else '✗'}"
        for answer, right in zip(runs["answer"], runs["is_correct"], strict=True)
    ]
    table = runs.assign(told=told, model=runs["model_id"].map(labels)).pivot(
        index="model", columns="n_latents", values="told"
    )
    return table.reindex([label for label in labels.values() if label in table.index]).fillna("")


def draw(here: Here, store: Store) -> None:
    problem = chosen_problem(here)
    show(problem["question"])
    steps = for_markdown(", ".join(problem["intermediates"]))
    st.caption(f"Its steps give {steps}; the answer is {for_markdown(problem['answer'])}.")
    labels = dict(here.once(models)[["model_id", "label"]].itertuples(index=False))
    found = answers(store.latent_runs(problem["problem_id"]), labels)
    found.columns = [f"{n} latents" for n in found.columns]
    data_table(found, key=keys.of("latent_answers"))
