"""Lenses of others brought into a study, and a study's lenses in the layouts that others read.

A lens that was brought is rows like any other, and the next run of the study with [lens] measures its quality.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.lens.files import LAYOUTS, brought
from backend.live.available import choices
from backend.root import PRECOMPUTE
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.export import _nothing_left_on_failure, _refuse_existing

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

STAGE = "lens_files"


def import_lens(study: Path, path: Path, model: str, *, known_as: str | None = None, wait: bool = False) -> list[str]:
    """Make the lens at `path` part of the study in the folder `study`, as one of its model `model`; `known_as` is what
    that model is called where the lens comes from. Returns what there is to say, in sentences.

    Raises AnchorscopeError for a model that the study has not or that is not here, and LensError for a lens that is not
    that model's.
    """
    with contextlib.closing(Store(study)) as store:
        loaded = _model(store, model)
    rows, found = brought(path, loaded, known_as=known_as)
    (card,) = rows["lenses"]
    folder = StudyFolder(study)
    with folder.writing(f"import-lens {path}", wait=wait) as writer:
        if card["lens_id"] in folder.ledger().keys(STAGE):
            return [f"{path} is in {study} already, as {card['lens_id']}."]
        writer.add(STAGE, card["lens_id"], rows, provenance={"model_id": loaded.model_id})
        publish(writer)
    said = f"{path} is lens {card['lens_id']} of {model} now: {len(rows['lens_layers'])} layers."
    return [said, *([found.left_out] if found.left_out else [])]


def export_lens(study: Path, folder: Path, lens_id: str | None) -> list[Path]:
    """Write a lens of the study into `folder`, in the layout of its kind; the only one there is where none is named.

    Returns the files.
    """
    _refuse_existing(folder)
    with contextlib.closing(Store(study)) as store:
        facts = store.lens_facts(_chosen(store, study, lens_id))
        loaded = _model(store, facts["model_name"])
        temporary = folder.with_name(folder.name + ".tmp")
        with _nothing_left_on_failure(temporary):
            LAYOUTS[facts["kind"]].write(store, facts["lens_id"], loaded, temporary)
            temporary.rename(folder)
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _chosen(store: Store, study: Path, lens_id: str | None) -> str:
    whole = [one for model_id in store.models()["model_id"] for one in _whole(store, model_id)]
    wanted = whole[0]["lens_id"] if lens_id is None and len(whole) == 1 else lens_id
    if wanted is None or wanted not in [one["lens_id"] for one in whole]:
        listed = ", ".join(f"{one['lens_id']} ({one['kind']}, {one['variant']})" for one in whole) or "none"
        asked = "Say which lens" if lens_id is None else f"There is no lens {lens_id!r}"
        raise AnchorscopeError(f"{asked}: {study} has {listed}. Give one with --lens-id.")
    return wanted


def _whole(store: Store, model_id: str) -> list[dict[str, Any]]:
    found = store.lenses(model_id)
    return found[found["is_whole"]].to_dict("records")


def _model(store: Store, name: str) -> "LoadedModel":
    """The study's model of that name, loaded; its weights are those of the study."""
    from backend.models.loading import load_model

    known = store.models()
    own = known[known["name"] == name]
    if own.empty:
        raise AnchorscopeError(f"{store.path} has no model {name!r}; it has {', '.join(known['name'])}.")
    for choice in choices(own):
        if choice.model_id in set(own["model_id"]):
            return load_model(name, revision=choice.model.revision, dtype=choice.model.dtype)
    raise AnchorscopeError(
        f"The weights of {name} that {store.path} was made with are not on this machine. Fetch them (of the embedded"
        f" models: `{PRECOMPUTE} model`), then give the same command again."
    )
