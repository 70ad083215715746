"""The parts of the overview page."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.progress_view import duration
from app.untrusted import one_line, show, show_exactly
from backend.importance.intervals import wilson
from backend.store.store import Store

_COUNTS = (
    ("problems", "Problems"),
    ("cots", "Chains of thought"),
    ("chunks", "Chunks"),
    ("rollouts", "Rollouts"),
    ("activations", "Chunk activations"),
    ("kl_curves", "KL(β) curves"),
)
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


def published(store: Store) -> None:
    show(f"{store.name} · published {store.published_at.replace('T', ' ')} UTC")


def counts(store: Store) -> None:
    row = store.counts().iloc[0]
    for column, (name, label) in zip(st.columns(len(_COUNTS)), _COUNTS, strict=True):
        column.metric(label, f"{int(row[name]):,}", border=True)


def levels(store: Store) -> pd.DataFrame:
    """Accuracy by model and level with its Wilson interval."""
    rows = store.accuracy_by_level()
    bounds = [wilson(int(k), int(n)) for k, n in zip(rows["n_correct"], rows["n"], strict=True)]
    return rows.assign(low=[b.low for b in bounds], high=[b.high for b in bounds])


def candidates_line(store: Store) -> None:
    by_model = store.accuracy_by_level().groupby("model", sort=False)[["n_candidates", "n_problems"]].sum()
    if len(by_model):
        counts = [f"{one_line(name, 60)} {row.n_candidates} of {row.n_problems}" for name, row in by_model.iterrows()]
        show(
            f"Candidates: {', '.join(counts)} problems. A problem is one where the model's accuracy lies between 20 % and 80 %, so that a "
            "change of one chunk can change the answer."
        )


def models(store: Store) -> None:
    for row in store.models().itertuples():
        size = None if pd.isna(row.n_layers) else f"{row.n_layers} layers × {row.d_model}"
        revision = None if pd.isna(row.revision) else f"revision {str(row.revision)[:12]}"
        parts = [None if row.role == "model" else row.role, row.dtype, size, revision]
        known = [str(part) for part in parts if pd.notna(part)]
        with st.container(border=True, gap=None):
            show(row.name)
            show(" · ".join([*known, f"{row.n_cots} CoTs"]) if known else f"{row.n_cots} CoTs; dtype and revision not stated by the import")


def training(run: Any) -> None:
    """How one model was trained, in words; `run` is a row of `Queries.training_runs`. The whole record can be unfolded."""
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
        record = {"parameters": parameters, "versions": json.loads(run.versions), "commit": None if pd.isna(run.commit) else run.commit}
        show_exactly(json.dumps(record, indent=1, ensure_ascii=False), height=300)


def loss_unit(kind: str) -> str:
    """Unit of the loss of a training of this kind, as on an axis."""
    return _LOSS_UNITS.get(kind, "unit not stated")


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """The main numbers of a recipe, those that it has."""
    return [words.format(recipe[key]) for key, words in _RECIPE.items() if type(recipe.get(key)) in (int, float)]


def runs(store: Store) -> None:
    rows = store.runs()
    shown = pd.DataFrame(
        {
            "started (UTC)": rows["started_at"],
            "command": rows["command"],
            "study": rows["study"],
            "seed": rows["seed"],
            "commit": rows["commit"].fillna("outside a checkout"),
            "versions": [_versions(text) for text in rows["versions"]],
            "parameters": rows["parameters"],
        }
    )
    st.dataframe(shown, hide_index=True, height="content", column_config={"parameters": st.column_config.TextColumn(width="medium")})


def warnings(store: Store) -> list[str]:
    """What imports and stages had to leave out, newest run first."""
    return [str(warning) for warnings in store.runs()["warnings"] if warnings is not None and warnings is not pd.NA for warning in warnings]


def _counted(n: object, what: str) -> str | None:
    return None if pd.isna(n) else f"{int(n):,} {what}"


def _versions(text: object) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items()) if isinstance(text, str) else "unknown"
