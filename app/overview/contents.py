"""The parts of the overview page."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.overview import accuracy_by_prompt
from app.shared.statistics_cache import prompt_contrasts
from app.shell import keys
from app.shell.progress import duration
from app.shell.untrusted import one_line, show, show_exactly
from backend.cot.prompts import MANNERS
from backend.importance.by_prompt import CONTRASTS, cells, told_apart
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
    """Accuracy by model and level with its Wilson interval; of a study with several prompts by prompt too, named beside
    the model.
    """
    rows = _named_with_prompt(store.accuracy_by_level())
    bounds = [wilson(int(k), int(n)) for k, n in zip(rows["n_correct"], rows["n"], strict=True)]
    return rows.assign(low=[b.low for b in bounds], high=[b.high for b in bounds])


def candidates_line(store: Store) -> None:
    by_model = (
        _named_with_prompt(store.accuracy_by_level()).groupby("model", sort=False)[["n_candidates", "n_problems"]].sum()
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


def prompts(store: Store) -> None:
    """Accuracy by prompt and model, and their differences; nothing where the study has one of each."""
    chains = store.verdicts()
    if len(set(zip(chains["model_id"], chains["prompt_name"], strict=True))) < 2:
        return
    st.subheader("Accuracy by prompt and model")
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
            "forced": found["n_forced"],
            "no answer": found["n_without_answer"],
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


def models(store: Store) -> None:
    for row in store.models().itertuples():
        size = None if pd.isna(row.n_layers) else f"{row.n_layers} layers × {row.d_model}"
        revision = None if pd.isna(row.revision) else f"revision {str(row.revision)[:12]}"
        parts = [None if row.role == "model" else row.role, row.dtype, size, revision]
        known = [str(part) for part in parts if pd.notna(part)]
        with st.container(border=True, gap=None):
            show(row.name)
            show(
                " · ".join([*known, f"{row.n_cots} CoTs"])
                if known
                else f"{row.n_cots} CoTs; dtype and revision not stated by the import"
            )


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
    st.dataframe(
        shown,
        hide_index=True,
        height="content",
        column_config={"parameters": st.column_config.TextColumn(width="medium")},
    )


def warnings(store: Store) -> list[str]:
    """What imports and stages had to leave out, newest run first."""
    return [
        str(warning)
        for warnings in store.runs()["warnings"]
        if warnings is not None and warnings is not pd.NA
        for warning in warnings
    ]


def _counted(n: object, what: str) -> str | None:
    return None if pd.isna(n) else f"{int(n):,} {what}"


def _versions(text: object) -> str:
    return (
        ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
        if isinstance(text, str)
        else "unknown"
    )
