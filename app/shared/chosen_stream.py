"""Which residual stream is looked at: one model and one layer for every page.

1. What the selection names counts, where the study or this machine has such a model, and the model such a block.
2. Else the usual one, of the layers that the study has done something at: a swept one; among several, one of the model
   that wrote the chain that is open; where most chunks were swept; one that a dictionary reads; one with most
   activations; of the distilled model; nearest to half depth; the lower one.
3. A page that has nothing there shows the nearest it has and says so, and the selection stays: of the same model the
   nearest layer, of two the lower one; where it has nothing of the model, the nearest layer of the model that comes
   first by 2.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.shared import live, model_names, parting
from app.shell import selection, studies
from app.shell.fields import Field, declare
from backend.store.geometry_columns import NO_LAYER
from backend.store.store import Store

MODEL = declare(Field("model", "model", None))
LAYER = declare(Field("layer", "layer", None))


@dataclass(frozen=True)
class Stream:
    """The residual stream after one block of one model; the layer is None where none is chosen and nothing was done at
    any.
    """

    model: str
    layer: int | None

    @property
    def id(self) -> str:
        return f"{self.model}:{self.layer}"


def chosen(store: Store) -> Stream | None:
    """What the selection names, completed by the usual one; None where the study has no model at all."""
    models, streams = studies.ask(store.models), _in_order(store)
    model = _model(store, models)
    layer = _layer(models, model)
    if model is None:
        model = next((row.model_id for row in streams.itertuples() if layer in (None, row.layer)), None)
    if model is None:
        writer = _writer(store, selection.get("cot"))
        model = next(iter([*streams["model_id"], *writer, *models["model_id"][::-1]]), None)
    if layer is None:
        layer = next((int(row.layer) for row in streams.itertuples() if row.model_id == model), None)
    if layer is None and len(streams):
        layer = int(streams["layer"].iloc[0])
    return None if model is None else Stream(model, layer)


def nearest(store: Store, there: Iterable[Stream]) -> Stream:
    """The stream to show, of those that are `there` (at least one)."""
    there, wanted, order = list(there), chosen(store), list(dict.fromkeys(_in_order(store)["model_id"]))

    def distance(one: Stream) -> tuple[bool, int, int, int, str]:
        of_model = (
            wanted is not None and one.model != wanted.model,
            order.index(one.model) if one.model in order else len(order),
        )
        at = None if wanted is None else wanted.layer
        away = 0 if at is None or one.layer is None else abs(one.layer - at)
        return *of_model, away, one.layer or 0, one.model

    return min(there, key=distance)


def pick(
    store: Store,
    found: pd.DataFrame,
    label: str = "Residual stream of",
    *,
    then: Callable[[], None] | None = None,
    **how: Any,
) -> Stream:
    """A picker among rows with `model_id`, `model` and `layer` (at least one); what is chosen there holds for every
    page.
    """
    words = named(model_names.named(store, found))
    streams = {stream.id: stream for stream in _streams(found)}
    shown = nearest(store, streams.values())
    if (wanted := chosen(store)) is not None and wanted != shown and shown.layer != NO_LAYER:
        selection.stand_in(LAYER, _words(store, wanted, other=shown), _words(store, shown, other=wanted))

    if selection.is_offered(LAYER):
        return shown

    def take(value: str) -> None:
        stream = streams[value]
        selection.choose({MODEL: stream.model} | ({} if stream.layer == NO_LAYER else {LAYER: str(stream.layer)}))
        if then:
            then()

    models = model_names.in_full(store, (stream.model for stream in streams.values()))
    parted = parting.at_layer(store, shown.model, shown.layer)
    how.setdefault("help", "\n\n".join(filter(None, (models, parted))) or None)
    selection.offer("pick_residual", label, list(streams), shown.id, take, show=words.__getitem__, **how)
    return shown


def named(found: pd.DataFrame) -> dict[str, str]:
    """What to call each stream, by its id, from rows with `model_id`, `model`, `layer`; the model is named where there
    are several.
    """
    several = found["model_id"].nunique() > 1
    return {
        f"{row.model_id}:{row.layer}": ("no layer, CoTs" if row.layer == NO_LAYER else f"layer {row.layer}")
        + (f" of {row.model}" if several else "")
        for row in found[["model_id", "model", "layer"]].drop_duplicates().itertuples()
    }


def at(rows: pd.DataFrame, stream: Stream) -> pd.DataFrame:
    """The rows of one stream."""
    return rows[(rows["model_id"] == stream.model) & (rows["layer"] == stream.layer)]


def _streams(found: pd.DataFrame) -> list[Stream]:
    return [Stream(row.model_id, int(row.layer)) for row in found[["model_id", "layer"]].drop_duplicates().itertuples()]


def in_words(store: Store, stream: Stream) -> str:
    """The layer, and the model that it is of."""
    return f"{_layer_words(stream)} of {model_names.called(store, stream.model)}"


def _words(store: Store, stream: Stream, *, other: Stream) -> str:
    return _layer_words(stream) if stream.model == other.model else in_words(store, stream)


def _layer_words(stream: Stream) -> str:
    return "no layer" if stream.layer is None else f"layer {stream.layer}"


def _model(store: Store, models: pd.DataFrame) -> str | None:
    """The model that the selection names, where there is such a one."""
    model = selection.get(MODEL)
    if (
        model is None
        or model in set(models["model_id"])
        or model in {choice.model_id for choice in live.steerable(store)}
    ):
        return model
    selection.forget_unknown(MODEL)
    return None


def _layer(models: pd.DataFrame, model: str | None) -> int | None:
    """The layer that the selection names, where the model (or, where none is chosen, any) has so many."""
    text = selection.get(LAYER)
    if text is None:
        return None
    depths = models.loc[models["model_id"] == model if model is not None else models["model_id"].notna(), "n_layers"]
    deepest = None if depths.empty or depths.isna().any() else int(depths.max())
    if text.isascii() and text.isdecimal() and len(text) < 5 and (deepest is None or int(text) < deepest):
        return int(text)
    selection.forget_unknown(LAYER)
    return None


def _writer(store: Store, cot: str | None) -> list[str]:
    """The model that wrote a chain; none where there is no such chain."""
    return [] if cot is None else list(store.cot_to_read(cot)["model_id"])


def _in_order(store: Store) -> pd.DataFrame:
    """The layers that the study has done something at, the usual one first."""
    return _ordered(store, str(store.generation), store.published_at, selection.get("cot"))


@st.cache_data(max_entries=64, show_spinner=False)
def _ordered(_store: Store, generation: str, published_at: str, cot: str | None) -> pd.DataFrame:
    """Asked several times in every run of a page: remembered for the generation and the chain that is open."""
    streams = _store.streams()
    half = (streams["n_layers"].astype(float) - 1) / 2
    return streams.assign(
        unswept=streams["n_swept"] == 0,
        unopened=~streams["model_id"].isin(_writer(_store, cot)),
        less_swept=-streams["n_swept"],
        untrained=streams["n_dictionaries"] == 0,
        less_stored=-streams["n_stored"],
        undistilled=streams["role"] != "distilled",
        away=(streams["layer"] - half).abs(),
    ).sort_values(
        ["unswept", "unopened", "less_swept", "untrained", "less_stored", "undistilled", "away", "layer", "model_id"],
        kind="stable",
        ignore_index=True,
    )
