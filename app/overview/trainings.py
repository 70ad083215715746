"""How the models were trained: recipes and losses."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.training import training_curve
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_figure import data_figure
from app.shell.missing import Missing
from app.shell.progress import duration
from app.shell.untrusted import one_line, show, show_exactly
from backend.schema.tables import FILLED
from backend.store.store import Store

_KINDS = {"lora": "as a low-rank adapter (LoRA)"}


_LOSS_UNITS = {"lora": "nats per completion token"}


_RECIPE = {
    "rank": "rank {:,}",
    "alpha": "α = {:g}",
    "learning_rate": "learning rate {:g} at its highest",
    "warmup": "{:,} steps of warm-up",
    "tokens": "up to {:,} tokens a batch, padding included",
    "max_tokens": "up to {:,} tokens an example",
    "seed": "seed {}",
}


def a_training(here: Here) -> Missing | None:
    """A training of a model, kept in this study."""
    return None if len(here.store.training_runs()) else Missing(FILLED["training"].none, None)


def draw(here: Here, store: Store) -> None:
    for run in store.training_runs().itertuples():
        metrics = studies.ask(store.training_metrics, training_id=run.training_id)
        with st.container(border=True):
            training(run)
            data_figure(training_curve(metrics, unit=loss_unit(run.kind)), key=keys.of(run.training_id))


def training(run: Any) -> None:
    """How one model was trained, in words; `run` is a row of `Queries.training_runs`.
    The whole record can be unfolded."""
    parameters = json.loads(run.parameters)
    how = _KINDS.get(run.kind, run.kind)
    origin = "" if pd.isna(run.base) else f" from {one_line(run.base, 120)}"
    sizes = [
        _counted(parameters.get("n_examples"), "examples"),
        _counted(run.n_steps, "steps"),
        _counted(run.n_tokens, "tokens seen"),
        _counted(run.n_weights, "weights that learned"),
        None if pd.isna(run.seconds) else duration(run.seconds),
        None if pd.isna(run.started_at) else f"begun {run.started_at:%Y-%m-%d %H:%M} UTC",
    ]
    show(f"{'A model of this study' if pd.isna(run.model) else one_line(run.model, 120)}: trained {how}{origin}")
    show(" · ".join(part for part in sizes if part))
    if words := recipe_words(parameters.get("recipe", {})):
        show(" · ".join(words))
    with st.expander("All that shaped it"):
        record = {
            "parameters": parameters,
            "versions": json.loads(run.versions),
            "commit": None if pd.isna(run.commit) else run.commit,
        }
        show_exactly(json.dumps(record, indent=1, ensure_ascii=False), height=300)


def loss_unit(kind: str) -> str:
    """Unit of the loss of a training of this kind, as on an axis."""
    return _LOSS_UNITS.get(kind, "unit not stated")


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """The main numbers of a recipe, those that it has."""
    return [words.format(recipe[key]) for key, words in _RECIPE.items() if type(recipe.get(key)) in (int, float)]


def _counted(n: float | None, what: str) -> str | None:
    return None if n is None or pd.isna(n) else f"{int(n):,} {what}"
