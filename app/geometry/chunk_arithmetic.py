"""b − a + c of three chunks' activations, as a direction that is kept and steered along."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.geometry.steer_by_analogy import steer_by_chunks
from app.shared import chosen_stream
from app.shared.chosen_vector import CHUNKS_OF_ANALOGY
from app.shared.pick_chunk import pick_chunk
from app.shared.views import Here
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import for_markdown
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.store.store import Store


def recorded(here: Here) -> Missing | None:
    """Activations of the chunk that is open."""
    return undone(here.store.path, "activations") if _places(here).empty else None


def _places(here: Here) -> pd.DataFrame:
    return here.once(_found)


def _found(here: Here) -> pd.DataFrame:
    return here.store.activations_of(here.chunk.chunk)


def draw(here: Here, store: Store) -> None:
    """Pickers of a, b and c, how long their sum is beside its parts, and the way to Steering."""
    chunks = store.tagged_chunks(here.chunk.cot, "")
    chunks = chunks.assign(number=chunks["chunk_index"] + 1)
    usual = dict(zip(CHUNKS_OF_ANALOGY, _usual(chunks["chunk_id"].tolist(), here.chunk.chunk), strict=True))
    fields, names = dict[str, Any](), dict[str, str]()
    with more(*(field for field, _ in CHUNKS_OF_ANALOGY.values())):
        stream = chosen_stream.pick(store, _places(here), width=420)
        for name, (field, label) in CHUNKS_OF_ANALOGY.items():
            fields[name], names[name] = pick_chunk(field, label, chunks, store, default=usual[name], width=300)
    phrase = f"{names['chunk_b']} − {names['chunk_a']} + {names['chunk_c']}"
    spec = DirectionSpec("chunk_analogy", stream.model, stream.layer or 0, **fields)
    try:
        made = make_direction(store, spec)
        parts = [make_direction(store, DirectionSpec("per_chunk", *_at(spec), chunk_id=one)) for one in fields.values()]
    except AnchorscopeError as error:
        st.caption(for_markdown(str(error), 400))
        return
    lengths = ", ".join(number(part.norm) for part in parts)
    b, a, _ = (part.vector.astype(np.float64) * part.norm for part in parts)
    st.caption(
        f"{phrase} has the norm {number(made.norm)}; b, a and c have {lengths}, and b − a has"
        f" {number(float(np.linalg.norm(b - a)))}. Chunks of another chain: open it in the Workspace; those that"
        " are chosen here stay. A vector says nothing by itself: on Steering it stands beside random ones of its norm."
    )
    steer_by_chunks(store, spec, phrase)


def _at(spec: DirectionSpec) -> tuple[str, int]:
    return spec.model_id, spec.layer


def _usual(chunks: list[str], here: str) -> tuple[str, str, str]:
    """b, a and c where none is chosen: the open chunk, the one before it, the first of the chain."""
    at = chunks.index(here)
    return here, chunks[at - 1] if at else chunks[min(1, len(chunks) - 1)], chunks[0]
