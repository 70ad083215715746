"""How alike a vector is to the study's directions at its layer, and to the others of its library."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.statistics.cosines import cosines, random_bound, random_p
from backend.store.library import KeptVector, Library
from backend.store.store import Store

_COLUMNS = ["direction_id", "kind", "chunk_id", "number", "name"]


@dataclass(frozen=True)
class Likeness:
    """`rows` have direction_id, kind, chunk_id, number (of the chunk, from 1), name (of a vector of the library),
    cosine, p (of one random vector) and p_of_all (of the largest of as many as there are), the largest |cosine| first.
    """

    rows: pd.DataFrame
    d: int
    bound: float  # |cosine| that 95 % of random vectors of this width stay below
    bound_of_all: float  # and that the largest of as many stays below in 95 %


def likeness(store: Store, kept: KeptVector) -> Likeness:
    """With every direction of the same model and layer. The vectors of the library count as given, without their sign
    being turned.
    """
    found, vectors = store.directions_at(kept.model_id, kept.layer)
    others = _others(store, kept)
    records = [row | {"name": None} for row in found.to_dict("records")] + [row for row, _ in others]
    rows, d, n = pd.DataFrame(records, columns=_COLUMNS), len(kept.vector), max(1, len(records))
    values = cosines(kept.vector, np.array([*vectors, *(one for _, one in others)]).reshape(-1, d))
    rows = rows.assign(
        cosine=values,
        p=[random_p(value, d) for value in values],
        p_of_all=[random_p(value, d, n=n) for value in values],
    )
    rows = rows.sort_values("cosine", key=lambda column: -column.abs(), kind="stable", ignore_index=True)
    return Likeness(rows, d, random_bound(d), random_bound(d, n=n))


def _others(store: Store, kept: KeptVector) -> list[tuple[dict[str, object], np.ndarray]]:
    """The library's other vectors of the same model and layer, each with its row."""
    library = Library(store.path)
    there = library.vectors()
    same = there[(there["model_id"] == kept.model_id) & (there["layer"] == kept.layer)]
    return [
        (
            {"direction_id": row.vector_id, "kind": "library", "chunk_id": None, "name": row.name},
            library.get(row.vector_id).vector,
        )
        for row in same[same["vector_id"] != kept.vector_id].itertuples(index=False)
    ]
