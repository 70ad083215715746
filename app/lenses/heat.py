"""The map: what the lens says at every layer and place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.figures.lenses import MOST_WORDED, lens_heat
from app.lenses.reading import Shown, cost_lines, read
from app.shared import chosen_chunk, chosen_stream, parting, text_source, views
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.clicks import marks
from app.shared.text_source import TOKEN
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.fields import Field, Whole, declare
from app.shell.more import more
from app.shell.untrusted import for_markdown, visible
from backend.lens.grid import UNKNOWN, Place
from backend.lens.positions import ALL
from backend.lens.quantities import QUANTITIES, Quantity
from backend.store.store import Store

_WIDTHS = ("24", "48", "120", "300")
QUANTITY = declare(Field("lens_colour", "colour of the map", QUANTITIES))
TARGET = declare(Field("lens_target", "token that the map is coloured by", None, of="lens_followed"))
WIDTH = declare(Field("lens_width", "columns drawn at a time", _WIDTHS))
FROM = declare(Field("lens_from", "first column drawn", Whole(0, 10**6), of="chunk"))


@dataclass(frozen=True)
class Cell:
    """The cell that is looked at."""

    layer: int
    column: int  # index among the places
    place: Place


def draw(here: Here, store: Store) -> None:
    """The map with its controls; a click goes to the cell."""
    shown = here.once(read)
    quantity, target = here.once(coloured)
    values = _values(shown, quantity, target)
    window = _window(shown, here.once(cell))
    is_chunk = shown.asked.cut.is_chunk
    frame = _cells(shown, values, window)
    chosen = here.once(cell)
    key = keys.of("lens_heat")
    data_figure(
        lens_heat(
            frame,
            _columns(shown.grids[-1].places, window, is_chunk),
            n_layers=shown.grids[-1].n_layers,
            title=_title(shown, quantity),
            axis="chunk" if is_chunk else "token",
            low_is_sure=quantity.low_is_sure,
            bounds=_bounds(shown, quantity, values),
            ticks=_ticks(quantity, shown.asked.is_difference),
            greyed=greyed_layers(shown),
            unmeasured=unmeasured_layers(shown),
            selected=(chosen.layer, place_number(chosen.place, chosen.column, is_chunk))
            if chosen is not None
            else None,
            view=f"{shown.key}.{window.start}.{len(window)}",
        ),
        key=key,
        on_select=partial(_clicked, key, shown, window),
        selection_mode="points",
        config={"scrollZoom": False},
    )
    st.caption(definition(shown, quantity, target))
    if chosen is not None:
        parting.caption(store, shown.asked.models[-1].choice.model_id, chosen.layer)
    cost_lines(shown)


def coloured(here: Here) -> tuple[Quantity, int]:
    """The controls of the colour: the quantity, and the number of the followed token."""
    shown = here.once(read)
    followed = shown.found["followed"]
    names = [name for name, one in QUANTITIES.items() if followed or not one.of_followed]
    if shown.found["n_named"] is not None and "rank" in names:
        names = ["rank"]
    with views.controls(gap="medium"):
        name = selection.pick(QUANTITY, "Colour", names, show=lambda name: QUANTITIES[name].label, width=280)
        target = 0
        if followed:
            asked = [one["asked"] for one in followed]
            words = {one["asked"]: visible(one["word"]) for one in followed}
            with more(TARGET, WIDTH):
                target = asked.index(selection.pick(TARGET, "Followed token", asked, show=words.__getitem__, width=150))
                selection.pick(WIDTH, "Columns at a time", width=150)
        else:
            with more(WIDTH):
                selection.pick(WIDTH, "Columns at a time", width=150)
    return QUANTITIES[name], target


def cell(here: Here) -> Cell | None:
    """The cell that is looked at: the selection's layer, and its token or chunk."""
    shown = here.once(read)
    stream, places = chosen_stream.chosen(here.store), shown.grids[-1].places
    n_layers, column = shown.grids[-1].n_layers, _column(shown, here)
    if column is None or not places:
        return None
    layer = n_layers // 2 if stream is None or stream.layer is None else stream.layer
    if layer >= n_layers:
        selection.stand_in(LAYER, f"layer {layer}", f"layer {n_layers - 1}, the last of this model")
        layer = n_layers - 1
    return Cell(layer, column, places[column])


def _column(shown: Shown, here: Here) -> int | None:
    places, cut = shown.grids[-1].places, shown.asked.cut
    token = text_source.token(len(shown.found["token_ids"]))
    if token is None and shown.asked.where is not None:
        spans = shown.found["spans"]
        token = spans[here.chunk.chunk][0] if here.chunk.chunk in spans else None
    if token is None:
        return None
    if not cut.is_chunk:
        return next((at for at, place in enumerate(places) if place.start == token), None)
    numbers = [number for number, (start, end) in enumerate(shown.found["spans"].values(), 1) if start <= token < end]
    return next((at for at, place in enumerate(places) if place.chunk in numbers), None)


def _values(shown: Shown, quantity: Quantity, target: int) -> np.ndarray:
    """(n_layers, n_places): of the one model, or distilled less base."""
    each = [quantity.values(grid, target) for grid in shown.grids]
    return each[0] if len(each) == 1 else each[1] - each[0]


def _bounds(shown: Shown, quantity: Quantity, values: np.ndarray) -> tuple[float, float]:
    """Of one model from 0 to where the quantity's scale ends, so that maps compare; of a difference what it reaches."""
    if not shown.asked.is_difference:
        return 0.0, quantity.most(shown.found["n_vocabulary"])
    known = np.abs(values[np.isfinite(values)])
    reach = float(known.max()) if len(known) and known.max() else 1.0
    return -reach, reach


def _ticks(quantity: Quantity, is_difference: bool) -> dict[float, str]:
    if not quantity.is_log or is_difference:
        return {}
    return {float(power): f"{10**power:,}" for power in range(7)}


def _title(shown: Shown, quantity: Quantity) -> str:
    unit = f", {quantity.unit}" if quantity.unit and (shown.asked.is_difference or not quantity.is_log) else ""
    return f"{quantity.label}{unit}" + (
        f": {shown.asked.models[1].name} − {shown.asked.models[0].name}" if shown.asked.is_difference else ""
    )


def _window(shown: Shown, chosen: Cell | None) -> range:
    """The columns that are drawn: all, or so many around the one that is looked at, with a slider."""
    n, width = len(shown.grids[-1].places), int(selection.in_force(WIDTH))
    if n <= width:
        return range(n)
    usual = (0 if chosen is None else chosen.column) // width * width
    start = min(int(selection.get(FROM) or usual) if FROM.takes(selection.get(FROM) or "0") else usual, n - width)
    what = "chunk" if shown.asked.cut.is_chunk else "token of the map"
    st.slider(
        f"Columns {start + 1} to {start + width} of {n}: first {what}",
        0,
        n - width,
        **selection.following("lens_from", start, lambda at: selection.choose({FROM: str(at)})),
    )
    return range(start, start + width)


def greyed_layers(shown: Shown) -> list[int]:
    """Layers at which a lens of the map shows no gain over the token-frequency baseline, where that was measured."""
    found: set[int] = set()
    for own in _measured(shown):
        found |= set(own.loc[own["gain_low"] <= 0, "layer"])
    return sorted(found)


def unmeasured_layers(shown: Shown) -> list[int]:
    """Layers at which the gain of a lens of the map is not known, where it is at others; neither that of a layer that
    is greyed for another lens, nor the last, which is the model itself."""
    found: set[int] = set()
    for own in _measured(shown):
        known = set(own.loc[own["gain_low"].notna(), "layer"])
        found |= set(range(shown.grids[-1].n_layers - 1)) - known if known else set()
    return sorted(found - set(greyed_layers(shown)))


def _measured(shown: Shown) -> list[pd.DataFrame]:
    """The quality of each lens of the map, over all positions, one row a layer where it was measured."""
    return [
        rows[(rows["lens_id"] == (under.lens_id or under.kind)) & (rows["positions"] == ALL)]
        for rows, under in zip(shown.quality, shown.asked.lenses, strict=True)
    ]


def _joined(layers: Sequence[int]) -> str:
    """Layers as runs: 0 to 3, 7."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _cells(shown: Shown, values: np.ndarray, window: range) -> pd.DataFrame:
    """One row a cell that has come; of a difference those that have come of both, with both words where they part."""
    grids, words, is_chunk = shown.grids, shown.words, shown.asked.cut.is_chunk
    last, rows = grids[-1], []
    for layer in range(last.n_layers):
        for column in window:
            tokens = [int(grid.token[layer, column]) for grid in grids]
            if UNKNOWN in tokens:
                continue
            rows.append(
                {
                    "layer": layer,
                    "column": place_number(last.places[column], column, is_chunk),
                    "value": float(values[layer, column]),
                    "word": _word([visible(words[token]) for token in tokens]),
                    "probability": float(last.probability[layer, column]),
                    "entropy": float(last.entropy[layer, column]),
                    "kl": float(last.kl[layer, column]),
                }
            )
    return pd.DataFrame(rows)


def _word(words: Sequence[str]) -> str:
    """Of one model its word; of two that of the distilled one, where they part, and nothing where they agree."""
    return words[-1] if len(words) == 1 or words[0] != words[-1] else ""


def _columns(places: Sequence[Place], window: range, is_chunk: bool) -> pd.DataFrame:
    rows = [(place_number(places[at], at, is_chunk), visible(places[at].word)) for at in window]
    ticks = [f"{number} {word}" if is_chunk else word for number, word in rows]
    return pd.DataFrame({"column": [number for number, _ in rows], "tick": ticks})


def place_number(place: Place, column: int, is_chunk: bool) -> int:
    """What the axis counts: chunks from 1, or tokens of the whole text from 0."""
    return column + 1 if is_chunk else place.start


def _clicked(key: str, shown: Shown, window: range) -> None:
    """Go to the cell that was clicked on the chart `key`: its layer, and its token or chunk."""
    mark = next(iter(marks(key)), None)
    parts = mark.split(".") if isinstance(mark, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        return
    layer, number = map(int, parts)
    places, is_chunk = shown.grids[-1].places, shown.asked.cut.is_chunk
    column = next((at for at in window if place_number(places[at], at, is_chunk) == number), None)
    if column is None or layer >= shown.grids[-1].n_layers:
        return
    go_to(shown, places[column], layer=layer, window=window)
    selection.redraw()


def go_to(shown: Shown, place: Place, *, layer: int | None = None, window: range | None = None) -> None:
    """Look at a place, its chunk where it is in a stored chain, and a layer; what is drawn stays where it was."""
    names = [name for name, (start, end) in shown.found["spans"].items() if start <= place.start < end]
    if shown.asked.where is not None and names:
        chosen_chunk.go(names[0])
    is_token = not shown.asked.cut.is_chunk or shown.asked.where is None
    selection.choose(
        {TOKEN: str(place.start) if is_token else None, FROM: None if window is None else str(window.start)}
        | ({} if layer is None else {LAYER: str(layer), MODEL: shown.asked.models[-1].choice.model_id})
    )


def definition(shown: Shown, quantity: Quantity, target: int) -> str:
    """What the map shows, in words."""
    lens = shown.asked.kind
    followed = shown.found["followed"]
    of = f" The followed token is {_named(followed[target])}." if quantity.of_followed else ""
    words = (
        " Words stand where the two models' top tokens part: the reasoner's."
        if shown.asked.is_difference
        else f" Words are the top token, in maps of up to {MOST_WORDED} columns; ␣ is a space, ↵ a line's end."
    )
    if shown.found["n_named"] is not None:
        words = (
            f" This lens knows {shown.found['n_named']} named tokens alone: words and ranks are among these, and their"
            " probabilities are not known." + words
        )
    if greyed := greyed_layers(shown):
        words += (
            f" Grey: layers {_joined(greyed)}, where on held-out problems this lens is no better than the frequencies"
            " of tokens alone: what it says there is not of this text."
        )
    if unmeasured := unmeasured_layers(shown):
        words += (
            f" Hatched: layers {_joined(unmeasured)}, where this lens was not measured: whether it is better than these"
            " frequencies there is not known."
        )
    return (
        f"{lens.label}, {lens.formula}: {lens.words} {shown.asked.cut.words} A cell says which token comes next, as"
        f" read there; the last row is the model itself. Colour: {quantity.meaning}.{of}{words} Click a cell to go"
        " there."
    )


def _named(one: Mapping[str, Any]) -> str:
    of = (
        f", the first of the {one['n_tokens']} tokens of {for_markdown(one['asked'], 30)}"
        if one["n_tokens"] > 1
        else ""
    )
    return f"{for_markdown(visible(one['word']), 30)}{of}"
