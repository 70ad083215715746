"""The lens of a direction: of a category's mean, a difference of two chunks, a decoder row, or a kept vector."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from app.lenses.reading import Model, asked
from app.shared import chosen_dictionary, chosen_stream, vector_lens
from app.shared.chosen_dictionary import DICTIONARY, FEATURE
from app.shared.chosen_vector import CATEGORY, MINUS, VECTOR
from app.shared.chunk_colours import TAGS
from app.shared.geometry_columns import DIRECTION
from app.shared.views import Here
from app.shell import selection
from app.shell.more import more
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import category, direction_words
from backend.errors import AnchorscopeError
from backend.geometry import directions
from backend.geometry.direction_kinds import DIRECTION_KINDS, DirectionSpec, kinds_by_hand
from backend.geometry.direction_library import available, make_direction
from backend.live.audits import N_RANDOM
from backend.live.requests import Lens
from backend.store.library import Library
from backend.store.store import Store

_SEED = 1  # of the random vectors, the same ones for every direction of a layer


@dataclass
class _Wanted:
    """What a direction is made of, as far as it was chosen."""

    here: Here
    model: Model
    layers: list[int]  # at which the study has activations of the model
    fields: dict[str, Any] = field(default_factory=dict)  # of DirectionSpec


def draw(here: Here, store: Store) -> None:
    """The controls of the direction, and the tokens that it writes under the lens that is chosen."""
    wanted = here.once(asked)
    model, under = wanted.models[-1], wanted.lenses[-1]
    found = _Wanted(here, model, available(store, model.choice.model_id))
    there = _there(found)
    offered = {name: how for name, how in kinds_by_hand().items() if there.issuperset(how.needs)}
    offered = {name: how for name, how in offered.items() if found.layers or not how.of_study}
    if not offered:
        st.caption(
            f"The study has no activations of {for_markdown(model.name, 60)}, no dictionary of it and no kept vector"
            " for it, so there is no direction to read."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = selection.pick(
            DIRECTION,
            "Direction",
            list(offered),
            default=max(offered, key=lambda name: offered[name].preference),
            show=direction_words,
            help="\n".join(f"- {direction_words(name)}: {DIRECTION_KINDS[name].help}" for name in offered),
            width=320,
        )
        needs = offered[kind].needs
        with nullcontext() if set(needs) <= {"chunk_id"} else more():  # the chunk is chosen elsewhere
            for control in dict.fromkeys(_CONTROLS[need] for need in needs):
                control(found)
    if "layer" not in found.fields:
        found.fields["layer"] = _layer(found, offered[kind].of_study)
    try:
        made = make_direction(store, DirectionSpec(kind, model.choice.model_id, **found.fields))
        controls = directions.random(
            N_RANDOM, len(made.vector), model_id=made.model_id, layer=found.fields["layer"], seed=_SEED
        )
        request = Lens(made.vector, tuple(one.vector for one in controls.made), lens=under, layer=found.fields["layer"])
        show(f"{direction_words(kind)}, made at layer {request.layer} of {one_line(model.name, 60)}")
        vector_lens.draw(model.choice, request)
    except AnchorscopeError as error:
        show(str(error))


def _there(found: _Wanted) -> set[str]:
    """The fields that can be filled in here."""
    lacking = {
        "chunk_id": found.here.once(asked).where is None,
        "tags": not found.here.store.tag_sources(),
        "dictionary_id": _dictionaries(found).empty,
        "vector_id": _vectors(found).empty,
    }
    return {name for name in _CONTROLS if not lacking.get(name)}


def _layer(found: _Wanted, of_study: bool) -> int:
    """The layer that is looked at; of a direction of the study the nearest with activations."""
    stream = chosen_stream.chosen(found.here.store)
    wanted = 0 if stream is None or stream.layer is None else stream.layer
    return min(found.layers, key=lambda layer: abs(layer - wanted)) if of_study and found.layers else wanted


def _pick_chunk(found: _Wanted) -> None:
    found.fields["chunk_id"] = found.here.chunk.chunk


def _pick_other(found: _Wanted) -> None:
    chunks = found.here.store.tagged_chunks(found.here.chunk.cot, "")
    others = chunks[chunks["chunk_id"] != found.here.chunk.chunk]
    names = {row.chunk_id: f"{row.chunk_index + 1}. {one_line(str(row.text), 60)}" for row in others.itertuples()}
    if not names:
        raise AnchorscopeError("This chain has a single chunk: there is no other to take from it.")
    found.fields["other_chunk_id"] = selection.pick(
        MINUS, "The selected chunk, minus chunk", list(names), show=names.__getitem__, width=380
    )


def _pick_category(found: _Wanted) -> None:
    found.fields["tags"] = selection.checked(TAGS, found.here.store.tag_sources())
    found.fields["category"] = selection.pick(CATEGORY, "Category", show=category, width=240)


def _pick_feature(found: _Wanted) -> None:
    by_id = _dictionaries(found).set_index("dictionary_id", drop=False)
    names = {name: chosen_dictionary.named(found.here.store, row) for name, row in by_id.iterrows()}
    name = selection.pick(DICTIONARY, "Dictionary", list(names), show=names.__getitem__, width=380)
    most = int(by_id.loc[name, "n_features"]) - 1
    feature = selection.pick_whole(FEATURE, "Feature", 0, high=most)
    found.fields |= {"layer": int(by_id.loc[name, "layer"]), "dictionary_id": name, "feature": feature}


def _pick_vector(found: _Wanted) -> None:
    rows = _vectors(found).set_index("vector_id")
    names = {str(row.Index): f"{one_line(row.name, 60)}, layer {row.layer}" for row in rows.itertuples()}
    chosen = selection.pick(VECTOR, "Vector", list(names), show=names.__getitem__, width=380)
    found.fields |= {"vector_id": chosen, "layer": int(rows["layer"][chosen])}


_CONTROLS: dict[str, Callable[[_Wanted], None]] = {  # by field of DirectionSpec; some fill in several
    "chunk_id": _pick_chunk,
    "other_chunk_id": _pick_other,
    "category": _pick_category,
    "tags": _pick_category,
    "dictionary_id": _pick_feature,
    "feature": _pick_feature,
    "vector_id": _pick_vector,
}


def _dictionaries(found: _Wanted) -> pd.DataFrame:
    """The study's dictionaries that have a decoder for the model."""
    rows, own = found.here.store.dictionaries(), found.model.choice.model_id
    return rows[(rows["base_model_id"] == own) | (rows["distilled_model_id"] == own)]


def _vectors(found: _Wanted) -> pd.DataFrame:
    """The library's vectors that were kept for the model."""
    rows = Library(found.here.store.path).vectors()
    return rows[rows["model_id"] == found.model.choice.model_id]
