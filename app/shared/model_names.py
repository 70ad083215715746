"""What a model is called on screen. The full name stands in help, in a tooltip, and in About this study."""

from collections.abc import Iterable

import pandas as pd
import streamlit as st

from app.shared import live
from app.shell import studies
from app.shell.untrusted import for_markdown
from backend.models.names import short_name, short_names
from backend.store.store import Store


def called(store: Store, model: object) -> str:
    """The short name of a model, given by its id or its full name; one that the study does not have goes by its own."""
    if (name := _short(store, str(store.generation), store.published_at).get(str(model))) is not None:
        return name
    here = {choice.model_id: choice.model.name for choice in live.steerable(store)}
    return short_name(here.get(str(model), model))


@st.cache_resource(max_entries=16, show_spinner=False)
def _short(_store: Store, generation: str, published_at: str) -> dict[str, str]:
    return short_names(_store.models())


def in_full(store: Store, models: Iterable[object]) -> str:
    """What the short names stand for, as the help of a picker: each with the whole name."""
    full = dict(studies.ask(store.models)[["model_id", "name"]].itertuples(index=False))
    wanted = dict.fromkeys(str(model) for model in models)
    if not full.keys() >= wanted.keys():
        full |= {choice.model_id: choice.model.name for choice in live.steerable(store)}
    said = (f"{called(store, model)}: {full[model]}" for model in wanted if model in full)
    return for_markdown("; ".join(said), 600)


def named(store: Store, rows: pd.DataFrame, column: str = "model") -> pd.DataFrame:
    """Rows with `model_id`, whose `column` says what each model is called."""
    words = {model: called(store, model) for model in rows["model_id"].dropna().unique()}
    return rows.assign(**{column: rows["model_id"].map(words).fillna("no model")})
