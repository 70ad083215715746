"""What steering at the selected chunk does to what follows: KL(β), and its fits."""

import pandas as pd
import streamlit as st

from app.chains_of_thought.tokens import has_tokens
from app.shared import chosen_stream, views
from app.shared.geometry_columns import POSITION, pick_unit
from app.shared.steered_chunk import kl_of_chunk
from app.shared.views import Here
from app.shell import navigation, selection
from app.shell.data_table import data_table
from app.shell.missing import Missing, command, no_tokens, say
from app.shell.numbers import count, number
from app.shell.vocabulary import (
    position_words,
    studied_words,
)
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    st.page_link(
        navigation.link_to(navigation.STEERING),
        label="Open in Steering",
        icon=":material/tune:",
        query_params=selection.values(),
    )
    curves = store.kl_curves_of(where.chunk)
    if curves.empty:
        say(
            Missing("This chunk has not been steered: no KL(β), no steepness.", command(store.path, "sweep"))
            if has_tokens(here)
            else no_tokens(store.path)
        )
        return
    names = store.models().set_index("model_id")["name"]
    with views.controls():
        stream = chosen_stream.pick(store, curves.assign(model=curves["model_id"].map(names)), "Steered in", width=240)
        there = chosen_stream.at(curves, stream)
        positions = sorted(set(there["position"]))
        position = selection.pick(POSITION, "Steered at", positions, show=position_words, width=220)
        chosen = pick_unit(there[there["position"] == position])
    kl_of_chunk(chosen)
    data_table(
        pd.DataFrame(
            {
                "direction": [studied_words(kind) for kind in chosen["kind"]],
                "steepness |a|": [number(v) for v in chosen["steepness"]],
                "R²": [number(v) for v in chosen["r2"]],
                "pure square": [number(v) for v in chosen["amplitude"]],
                "points": [count(v) for v in chosen["n_betas"]],
                "below floor": [("unknown" if pd.isna(v) else "yes" if v else "no") for v in chosen["below_floor"]],
            }
        ),
        hide_index=True,
        height="content",
        row_height=30,
    )
