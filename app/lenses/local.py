"""The Jacobian lens of the cell alone: what its streams do to this very text, beside what the average of texts says."""

from typing import Any

import pandas as pd
import streamlit as st

from app.lenses.asking import answer
from app.lenses.heat import Cell, cell
from app.lenses.reading import Shown, read
from app.shared.views import Here
from app.shell import keys
from app.shell.data_table import data_table
from app.shell.untrusted import for_markdown, show, visible
from backend.live.requests import LensLocal, UnderLens
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    """Its likeliest tokens, over which positions effects are summed, and how far the averaged lens holds there."""
    shown, chosen = here.once(read), here.once(cell)
    if chosen is None:
        st.caption("Click a cell: here its streams are carried by the Jacobian of this text alone, not by an average.")
        return
    for column, which in zip(st.columns(len(shown.asked.models), gap="small"), range(2), strict=False):
        with column:
            _local(store, shown, chosen, which)


def _local(store: Store, shown: Shown, chosen: Cell, which: int) -> None:
    model = shown.asked.models[which]
    average = _average(store, model.choice.model_id)
    text, place = shown.asked.texts[which], chosen.place
    request = LensLocal(text, chosen.layer, place.start, place.end, average or UnderLens())
    found = answer(shown, which, request, "Carrying the streams through the layers above")
    if found is None:
        return
    table = pd.DataFrame(
        {
            "token": [visible(word) for _, word, _ in found["top"]],
            "probability": [p for *_, p in found["top"]],
            "id": [token for token, *_ in found["top"]],
        }
    )
    data_table(
        table,
        hide_index=True,
        row_height=26,
        height=300,
        key=keys.of(f"lens_local_{which}"),
        column_config={"probability": st.column_config.NumberColumn(format="%.3g")},
    )
    st.caption(f"{for_markdown(model.role)}: {for_markdown(found['words'])}")
    show(_held_against(found))


def _held_against(found: dict[str, Any]) -> str:
    if "agreement" in found:
        return str(found["agreement"]["words"])
    return (
        "No averaged Jacobians of this model are here ([jacobian] of a study file asks for them, and a pack may be made"
        " without them), so that it is not known how far an average holds here."
    )


def _average(store: Store, model_id: str) -> UnderLens | None:
    """The study's averaged Jacobian lens of the model, one with whole matrices first."""
    lenses = store.lenses(model_id)
    own = lenses[(lenses["kind"] == "jacobian") & lenses["is_readable"].astype(bool)]
    own = own.sort_values("is_whole", ascending=False, kind="stable")
    return None if own.empty else UnderLens("jacobian", str(store.path), str(own["lens_id"].iloc[0]))
