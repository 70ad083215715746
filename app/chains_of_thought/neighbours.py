"""The chunks whose activations lie nearest to the selected one's."""

import streamlit as st

from app.chains_of_thought.tokens import has_tokens
from app.shared import chosen_stream
from app.shared.chunk_list import go_table
from app.shared.views import Here
from app.shell import keys
from app.shell.missing import no_activations, no_tokens, say
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    found = store.activations_of(where.chunk)
    if found.empty:
        if store.activation_places().empty or not has_tokens(here):
            say(
                no_activations(store.coverage().iloc[0], store.path)
                if store.activation_places().empty
                else no_tokens(store.path)
            )
        else:
            st.caption("No model has read this chunk, so it has no activation.")
        return
    stream = chosen_stream.pick(store, found, width=240)
    assert stream.layer is not None  # it is of these rows
    near = store.neighbours(where.chunk, stream.model, stream.layer, 12)
    st.caption(
        f"The {len(near)} chunks whose mean residual stream at layer {stream.layer} has the largest cosine with this"
        " one's, over all chunks. Choose a row to go there."
    )
    go_table(
        near,
        {"cosine": near["cosine"].astype(float).round(3)},
        key=keys.of(f"neighbours_{where.chunk}_{stream.id}"),
        own=where.cot,
    )
