"""The study's library of vectors, with their audits, and the typed texts that links name: kept in the ledger of live
runs, beside the study.

1. A vector's id follows from its float32 values, its layer and its model. So the same vector, kept again, is the same
   one, and a link finds it wherever it was kept.
2. Its name is what people call it: one vector's alone, changed at will. Nothing is found by it, and nothing is
   overwritten: a name that is taken is refused.
3. A vector that is deleted takes its audits along.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.store.experiments import Experiments, _frame
from backend.store.unit_files import Writer, arrow_rows

VECTORS, AUDITS, TEXTS = "vectors", "vector audits", "typed texts"  # stages of the ledger
LONGEST_NAME = 80


class LibraryError(AnchorscopeError):
    """A vector that cannot be kept, named or found."""


@dataclass(frozen=True)
class KeptVector:
    """One row of the table `vectors`."""

    name: str
    model_id: str
    model: str
    revision: str | None
    layer: int  # 0-based block
    vector: np.ndarray = field(repr=False, compare=False)  # (d_model,) float32, of any length
    kind: str
    made: Mapping[str, Any]
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.vector.dtype != np.float32 or self.vector.ndim != 1:
            raise LibraryError(f"A vector of float32 is kept, got {self.vector.dtype} of shape {self.vector.shape}.")
        if not np.isfinite(self.vector).all() or not self.vector.any():
            raise LibraryError("This vector is zero, or has values that are NaN or infinite: it points nowhere.")

    @property
    def sha256(self) -> str:
        """Of the values, little-endian."""
        return hashlib.sha256(self.vector.astype("<f4").tobytes()).hexdigest()

    @property
    def vector_id(self) -> str:
        return stable_id("v", self.model_id, self.layer, self.sha256)

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.vector.astype(np.float64)))

    @property
    def unit(self) -> np.ndarray:
        """(d_model,) float32: what is steered along."""
        return (self.vector.astype(np.float64) / self.norm).astype(np.float32)

    def row(self) -> dict[str, Any]:
        """The columns of the table `vectors`."""
        return {
            "vector_id": self.vector_id,
            "name": self.name,
            "created_at": self.created_at,
            "model_id": self.model_id,
            "model": self.model,
            "revision": self.revision,
            "layer": self.layer,
            "norm": self.norm,
            "vector": self.vector,
            "sha256": self.sha256,
            "kind": self.kind,
            "made": json.dumps(dict(self.made), sort_keys=True),
        }


class Library:
    """The library of the study at `study`, a folder or a portable file, read anew at every call."""

    def __init__(self, study: Path | str):
        self._kept = Experiments(study)

    # Vectors

    def keep(self, vector: KeptVector) -> str:
        """Keep a vector under its name; its id. One that is there already under this name stays as it is.

        Raises LibraryError for a name that is no name, or that another vector has, and for a vector that is there under
        another name; NotKept.
        """
        vector = replace(vector, name=_name(vector.name), created_at=_now())
        with self._kept.writing("keep a vector") as writer:
            there = self.vectors()
            known = there.loc[there["vector_id"] == vector.vector_id, "name"]
            if len(known) and known.iloc[0] != vector.name:
                raise LibraryError(
                    f"This vector is in the library already, as “{known.iloc[0]}”. Choose it there, or rename it."
                )
            if known.empty:
                _refuse_a_taken_name(there, vector.name)
                writer.add(VECTORS, vector.vector_id, {"vectors": arrow_rows("vectors", [vector.row()])})
        return vector.vector_id

    def rename(self, vector_id: str, name: str) -> None:
        """Raises LibraryError for a name that is taken, or where there is no such vector; NotKept."""
        name = _name(name)
        with self._kept.writing("rename a vector") as writer:
            there = self.vectors()
            row = replace(self.get(vector_id), name=name).row()
            _refuse_a_taken_name(there[there["vector_id"] != vector_id], name)
            writer.add(VECTORS, vector_id, {"vectors": arrow_rows("vectors", [row])})

    def delete(self, vector_id: str) -> None:
        """The vector and its audits are no longer shown, published or exported; links to it say so. One that is not
        there stays so. Raises NotKept.
        """
        audits = self.audits(vector_id)["audit_id"]
        if not len(self._kept.units("vectors", VECTORS, [vector_id])):
            return
        with self._kept.writing("delete a vector") as writer:
            _forget(writer, AUDITS, *audits)
            _forget(writer, VECTORS, vector_id)

    def get(self, vector_id: str) -> KeptVector:
        """Raises LibraryError where the library has no such vector."""
        rows = self._kept.units("vectors", VECTORS, [vector_id]).to_pylist()
        if not rows:
            raise LibraryError(
                f"The library of this study has no vector {vector_id}: it was deleted, or kept beside another study."
                " Choose its file again and keep it here; it has the same id then, and links to it work again."
            )
        row = rows[0]
        return KeptVector(
            row["name"],
            row["model_id"],
            row["model"],
            row["revision"],
            row["layer"],
            np.asarray(row["vector"], np.float32),
            row["kind"],
            json.loads(row["made"]),
            row["created_at"],
        )

    def vectors(self) -> pd.DataFrame:
        """Every vector, by name, without its values: d_model says how many they are."""
        rows = self._kept.units("vectors", VECTORS)
        widths = [len(vector) for vector in rows["vector"].to_pylist()]
        table = _frame(rows.drop_columns(["vector"]))
        return table.assign(d_model=widths).sort_values(["name", "vector_id"], ignore_index=True)

    # Audits

    def keep_audit(self, row: Mapping[str, Any]) -> None:
        """Keep a row of `vector_audits`; the same id again replaces it. Raises NotKept."""
        with self._kept.writing("keep an audit") as writer:
            writer.add(AUDITS, row["audit_id"], {"vector_audits": arrow_rows("vector_audits", [row])})

    def audits(self, vector_id: str) -> pd.DataFrame:
        """The audits of a vector, the newest first."""
        rows = _frame(self._kept.units("vector_audits", AUDITS))
        own = rows[rows["vector_id"] == vector_id]
        return own.sort_values(["created_at", "audit_id"], ascending=[False, True], ignore_index=True)

    # Typed texts

    def keep_text(self, text: str) -> str:
        """Keep what somebody typed; its id. Raises NotKept."""
        name = stable_id("t", text)
        if self.text(name) is None:
            row = {"text_id": name, "text": text, "created_at": _now()}
            with self._kept.writing("keep a typed text") as writer:
                writer.add(TEXTS, name, {"typed_texts": arrow_rows("typed_texts", [row])})
        return name

    def text(self, text_id: str) -> str | None:
        """None where there is none of this id."""
        rows = self._kept.units("typed_texts", TEXTS, [text_id]).to_pylist()
        return rows[0]["text"] if rows else None


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise LibraryError("A vector of the library needs a name: type one.")
    if len(name) > LONGEST_NAME:
        raise LibraryError(f"The name has {len(name)} characters, at most {LONGEST_NAME} are kept. Shorten it.")
    return name


def _refuse_a_taken_name(there: pd.DataFrame, name: str) -> None:
    taken = there[there["name"] == name]
    if len(taken):
        row = taken.iloc[0]
        raise LibraryError(
            f"Another vector of the library is called “{name}” (layer {row['layer']}, sha256 {row['sha256'][:12]}…)."
            " Choose another name, or rename that one first."
        )


def _forget(writer: Writer, stage: str, *keys: str) -> None:
    for key in keys:
        writer.add(stage, key, {})


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
