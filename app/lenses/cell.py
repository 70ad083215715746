"""The cell that is looked at: its likeliest tokens, and the chunk it stands in."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app.components.reader import reader
from app.lenses.asking import answer
from app.lenses.heat import Cell, cell, go_to
from app.lenses.reading import Shown, chunk_rows, read
from app.shared import chosen_chunk, chunk_colours
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_table import data_table
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, show, visible
from backend.live.requests import LensCell
from backend.store.store import Store


def draw_tokens(here: Here, store: Store) -> None:
    """The top 20 tokens of the cell, by each model that is shown."""
    shown, chosen = here.once(read), here.once(cell)
    if chosen is None:
        st.caption("Click a cell: its 20 likeliest tokens are listed here.")
        return
    show(_words(shown, chosen))
    for column, number_ in zip(st.columns(len(shown.asked.models), gap="small"), range(2), strict=False):
        with column:
            _top(shown, chosen, number_)


def _words(shown: Shown, chosen: Cell) -> str:
    place = chosen.place
    at = f"token {place.start} ({visible(place.word)})" if place.end - place.start == 1 else "the mean of its tokens"
    of = "the prompt" if place.chunk is None else f"chunk {place.chunk}"
    return f"Layer {chosen.layer}, {at} of {of}: what comes next, as read there"


def _top(shown: Shown, chosen: Cell, which: int) -> None:
    model, key = shown.asked.models[which], keys.of(f"lens_top_{which}")
    request = LensCell(
        shown.asked.texts[which], chosen.layer, chosen.place.start, chosen.place.end, shown.asked.lenses[which]
    )
    found = answer(shown, which, request, "Reading the cell")
    if found is None:
        return
    rows = found["top"]
    table = pd.DataFrame(
        {
            "token": [visible(word) for _, word, _, _ in rows],
            "probability": [p for _, _, p, _ in rows],
            "logit": [logit for *_, logit in rows],
            "id": [token for token, *_ in rows],
        }
    )
    data_table(
        table,
        hide_index=True,
        row_height=26,
        height="content",
        key=key,
        column_config={name: st.column_config.NumberColumn(format="%.3g") for name in ("probability", "logit")},
    )
    entropy = found["entropy"]
    st.caption(
        f"{for_markdown(model.name)}: entropy {number(entropy)} nats."
        if entropy is not None
        else f"{for_markdown(model.name)}: of named tokens alone; logits are known up to one positive factor."
    )


def draw_text(here: Here, store: Store) -> None:
    """The text, with the chunk that is looked at; a click on another goes there."""
    shown, chosen = here.once(read), here.once(cell)
    rows = chunk_rows(shown)
    if rows.empty:
        return
    if shown.asked.where is None:
        number_ = 1 if chosen is None or chosen.place.chunk is None else chosen.place.chunk
        selected = rows["chunk_id"].iloc[number_ - 1]
        reader(rows.assign(category="untagged", value=float("nan")), None, selected=selected, on_chunk=_goer(shown))
        return
    tags = selection.checked(chunk_colours.TAGS, store.tag_sources()) or ""
    coloured = chunk_colours.chunks(store, here.chunk.cot, tags, None, None)
    reader(coloured, None, selected=here.chunk.chunk, on_chunk=chosen_chunk.go_along)


def _goer(shown: Shown) -> Callable[[str], None]:
    """Of a typed text, whose chunks are nowhere else: to the chunk's first token."""

    def go(chunk: str) -> None:
        start, _ = shown.found["spans"][chunk]
        place = next((place for place in shown.grids[-1].places if place.start >= start), None)
        if place is not None:
            go_to(shown, place)

    return go
