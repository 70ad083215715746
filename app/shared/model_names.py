"""What a model is called on screen. The full name stands in help, in a tooltip, and in About this study."""

import pandas as pd

from app.shared import live
from app.shell import studies
from backend.models.names import short_name, short_names
from backend.store.store import Store


def called(store: Store, model: object) -> str:
    """The short name of a model, given by its id or its full name; one that the study does not have goes by its own."""
    known = short_names(studies.ask(store.models))
    if (name := known.get(str(model))) is not None:
        return name
    here = {choice.model_id: choice.model.name for choice in live.steerable(store)}
    return short_name(here.get(str(model), model))


def named(store: Store, rows: pd.DataFrame, column: str = "model") -> pd.DataFrame:
    """Rows with `model_id`, whose `column` says what each model is called."""
    words = {model: called(store, model) for model in rows["model_id"].dropna().unique()}
    return rows.assign(**{column: rows["model_id"].map(words)})
