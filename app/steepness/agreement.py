"""How the importance metrics agree."""

import pandas as pd
import streamlit as st

from app.figures.evidence import agreement_matrix
from app.shared import chunk_colours
from app.shared.statistics_cache import agreement_of
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import SWITCH, Field, declare
from app.shell.missing import Missing, no_rollouts
from app.shell.vocabulary import metric_choice
from backend.importance.conventions import comparable
from backend.store.store import Store

EVERY = declare(Field("every_convention", "switch to every convention", SWITCH, "no"))


def importance(here: Here) -> Missing | None:
    """An importance of any chunk."""
    if chunk_colours.importance_options(here.store):
        return None
    return no_rollouts(here.store.coverage().iloc[0], here.store.path, has_tokens=True)


def draw(here: Here, store: Store) -> None:
    choices = chunk_colours.importance_options(store)
    every = selection.pick_switch(EVERY, "Every convention", help="Else one convention of each metric, the usual one.")
    shown = (
        choices if every else list({choice.partition(":")[0]: choice for choice in reversed(choices)}.values())[::-1]
    )
    values = studies.ask(store.importance_values)
    values = values.assign(choice=values["metric"] + ":" + values["convention"])
    wide = values[values["choice"].isin(shown)].pivot(
        index=["chunk_id", "cot_id", "problem_id"], columns="choice", values="value"
    )
    wide = wide.reset_index().drop(columns="chunk_id")
    found = agreement_of(wide)
    fair = [comparable(a.partition(":")[2], b.partition(":")[2]) for a, b in zip(found["a"], found["b"], strict=True)]
    found = found[pd.Series(fair, index=found.index, dtype=bool)]  # a list without elements would choose columns
    data_figure(agreement_matrix(found, {choice: metric_choice(choice) for choice in shown}), key=keys.of("agreement"))
    st.caption(
        "Spearman's ρ over chunks where both are known; n and the 95 % interval over problems on hover. Metrics that"
        " share rollouts agree in part because they share their noise. What was published is compared with `ta` alone,"
        " whose directions and comparators it has."
    )
