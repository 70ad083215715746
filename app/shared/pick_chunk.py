"""A picker of a chunk that a vector is made of: of the text that is open, or one of another that was chosen before."""

from typing import Any

import pandas as pd

from app.shell import selection
from app.shell.fields import Field
from app.shell.untrusted import one_line
from backend.store.store import Store


def pick_chunk(
    field: Field, label: str, chunks: pd.DataFrame, store: Store, *, default: str | None, **how: Any
) -> tuple[str, str]:
    """Its id and what a sentence calls it; `chunks`, with chunk_id, number (from 1) and text, are those of the text."""
    words = {row.chunk_id: f"chunk {row.number}: {one_line(row.text, 60)}" for row in chunks.itertuples()}
    pinned = selection.get(field)
    if pinned is not None and pinned not in words and len(place := store.chunk_place(pinned)):
        words[pinned] = f"chunk {int(place['chunk_index'][0]) + 1} of another CoT"
    chosen = selection.pick(field, label, list(words), default=default, show=words.__getitem__, **how)
    return chosen, words[chosen].partition(":")[0]
