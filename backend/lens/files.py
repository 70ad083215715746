"""Lenses in the layouts in which they are published: which there are, and a study's rows from and to them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.ids import stable_id
from backend.lens import jacobian_files, tuned_files
from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens, TunedLens
from backend.lens.stored import lens_of, rows_of
from backend.registry import Registry
from backend.schema.provenance import commit, versions

if TYPE_CHECKING:
    import torch

    from backend.models.loaded import LoadedModel
    from backend.store.store import Store

FILE = "file"  # what is kept of a layer that was brought
Map = tuple["torch.Tensor", "torch.Tensor | None"]  # less the identity, and what is added


@dataclass(frozen=True)
class Brought:
    """What a file gave: maps by layer, less the identity, and what it says of itself as JSON can hold it."""

    maps: dict[int, Map]
    n_tokens: int | None
    said: dict[str, Any]
    left_out: str | None = None  # what of it has no place here, in a sentence


@dataclass(frozen=True)
class Layout:
    """One kind of lens as others write it."""

    name: str  # the kind of lens, in LENSES
    words: str  # which files
    is_one: Callable[[Path], bool]
    read: Callable[[Path, "LoadedModel", str | None], Brought]  # … and a name that the model has elsewhere
    write: Callable[["Store", str, "LoadedModel", Path], None]  # a stored lens, into a folder


def _read_tuned(path: Path, loaded: "LoadedModel", known_as: str | None) -> Brought:
    found = tuned_files.read(path, loaded, known_as=known_as)
    embeddings = any(bool(part.any()) for part in found.embeddings)
    left_out = "The translator of the embeddings is left out: they are no layer." if embeddings else None
    return Brought(dict(found.lens.translators), None, dict(found.config), left_out)


def _write_tuned(store: "Store", lens_id: str, loaded: "LoadedModel", folder: Path) -> None:
    lens = lens_of(store, lens_id)
    assert isinstance(lens, TunedLens)
    tuned_files.write(lens, loaded, folder)


def _is_jacobian(path: Path) -> bool:
    files = [path] if path.is_file() else path.rglob(f"*{jacobian_files.SUFFIX}")
    return any(file.name.endswith(jacobian_files.SUFFIX) for file in files)


def _read_jacobian(path: Path, loaded: "LoadedModel", known_as: str | None) -> Brought:
    import torch

    found = jacobian_files.read(path, loaded, known_as=known_as)
    eye = torch.eye(loaded.d_model)
    maps: dict[int, Map] = {layer: (matrix - eye, None) for layer, matrix in found.lens.jacobians.items()}
    return Brought(maps, None, {"model": found.model, "n_prompts": found.n_prompts})


def _write_jacobian(store: "Store", lens_id: str, loaded: "LoadedModel", folder: Path) -> None:
    lens, facts = lens_of(store, lens_id), store.lens_facts(lens_id)
    assert isinstance(lens, JacobianLens)
    changes = store.jacobian_convergence(lens_id)["relative_change"]
    said = json.loads(facts["parameters"] or "{}")
    card = jacobian_files.Card(
        loaded.name,
        loaded.revision,
        store.name,
        int(said.get("n_prompts") or len(changes)),
        int(said.get("max_tokens") or 128),
        loaded.dtype,
        [None if change != change else float(change) for change in changes],
    )
    jacobian_files.write(lens, card, folder)


LAYOUTS: Registry[Layout] = Registry(
    "layout of a lens",
    Layout("tuned", "a folder with config.json and params.pt", tuned_files.is_one, _read_tuned, _write_tuned),
    Layout(
        "jacobian",
        f"a file *{jacobian_files.SUFFIX}, or a folder with one",
        _is_jacobian,
        _read_jacobian,
        _write_jacobian,
    ),
    error=LensError,
)


def layout_of(path: Path) -> Layout:
    """The layout of what lies at `path`. Raises LensError where it is none that is known."""
    for layout in LAYOUTS.values():
        if path.exists() and layout.is_one(path):
            return layout
    known = "; or ".join(layout.words for layout in LAYOUTS.values())
    raise LensError(f"{path} is no lens in a layout that is known here: {known}.")


def brought(
    path: Path, loaded: "LoadedModel", *, known_as: str | None = None
) -> tuple[dict[str, list[dict[str, Any]]], Brought]:
    """Rows of the lens at `path`, by table, and what it gave. Its id follows from its values and the model.

    Raises LensError for anything that is no lens of this model.
    """
    layout = layout_of(path)
    found = layout.read(path, loaded, known_as)
    digest = hashlib.sha256()
    for layer in sorted(found.maps):
        for part in found.maps[layer]:
            digest.update(b"" if part is None else part.contiguous().numpy().tobytes())
    lens_id = stable_id("l", FILE, layout.name, loaded.model_id, digest.hexdigest())
    card = {
        "lens_id": lens_id,
        "model_id": loaded.model_id,
        "kind": layout.name,
        "variant": path.name,
        "source": FILE,
        "n_tokens": found.n_tokens,
        "n_problems": None,
        "corpus": None,
        "seed": None,
        "dtype": None,
        "revision": found.said.get("base_model_revision"),
        "parameters": json.dumps(found.said),
        "versions": json.dumps(versions()),
        "commit": commit(),
    }
    layers = [_layer(lens_id, layer) for layer in sorted(found.maps)]
    maps = [row for layer in sorted(found.maps) for row in rows_of(lens_id, layer, *found.maps[layer])]
    return {"lenses": [card], "lens_layers": layers, "lens_rows": maps}, found


def _layer(lens_id: str, layer: int) -> dict[str, Any]:
    from backend.schema.tables import TABLES

    return dict.fromkeys(TABLES["lens_layers"].columns) | {"lens_id": lens_id, "layer": layer, "kept": FILE}
