"""What the lens makes of the followed tokens: over the layers at one place, and along the text at one layer."""

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.lens_curves import followed_along, followed_over_layers
from app.lenses.heat import Cell, cell, place_number
from app.lenses.reading import Shown, read
from app.shared.views import Here
from app.shell import keys
from app.shell.data_figure import data_figure
from app.shell.untrusted import for_markdown, visible
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """Both curves, side by side."""
    shown, chosen = here.once(read), here.once(cell)
    if not shown.found["followed"]:
        st.caption("No token is followed. Name some above.")
        return
    if chosen is None:
        st.caption("Click a cell: the followed tokens are drawn through its layer and its place.")
        return
    if shown.found["n_named"] is not None:
        st.caption("This lens knows named tokens alone, up to one factor a place: it gives no probabilities.")
        return
    unit = "chunk" if shown.asked.cut.is_chunk else "token"
    at = place_number(chosen.place, chosen.column, shown.asked.cut.is_chunk)
    left, right = st.columns(2, gap="medium")
    with left:
        data_figure(
            followed_over_layers(over_layers(shown, chosen), selected=chosen.layer, title=f"at {unit} {at}"),
            key=keys.of("lens_over_layers"),
            config={"displayModeBar": False},
        )
    with right:
        data_figure(
            followed_along(along(shown, chosen), selected=at, unit=unit, title=f"at layer {chosen.layer}"),
            key=keys.of("lens_along"),
            config={"displayModeBar": False},
        )
    several = [one for one in shown.found["followed"] if one["n_tokens"] > 1]
    first = "; ".join(f"{for_markdown(visible(one['word']))} of {for_markdown(one['asked'])}" for one in several)
    st.caption(
        "Probability that the token comes next, as read at this layer and place, log scale. Of words with several"
        f" tokens the first is followed{f' ({first})' if first else ''}: it says less than the whole word. What has not"
        " come yet is not drawn."
    )


def over_layers(shown: Shown, chosen: Cell) -> pd.DataFrame:
    """One row a model, followed token and layer: their probability at the place."""
    return _rows(shown, [(layer, layer, chosen.column) for layer in range(shown.grids[-1].n_layers)])


def along(shown: Shown, chosen: Cell) -> pd.DataFrame:
    """One row a model, followed token and place: their probability at the layer."""
    is_chunk = shown.asked.cut.is_chunk
    places = enumerate(shown.grids[-1].places)
    return _rows(shown, [(place_number(place, at, is_chunk), chosen.layer, at) for at, place in places])


def _rows(shown: Shown, cells: list[tuple[int, int, int]]) -> pd.DataFrame:
    rows = [
        {
            "model": model.name,
            "word": f"{visible(one['word'])} ({one['id']})",
            "along": number_,
            "probability": float(np.exp(grid.log_prob[number, layer, column])),
        }
        for model, grid in zip(shown.asked.models, shown.grids, strict=True)
        for number, one in enumerate(shown.found["followed"])
        for number_, layer, column in cells
    ]
    return pd.DataFrame(rows, columns=["model", "word", "along", "probability"])
