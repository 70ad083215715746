"""Which models this machine can steer now, found without loading any."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.live.requests import Model
from backend.models import embedded
from backend.models.loading import identify_model
from backend.models.names import short_names

EMBEDDED = f"embedded:{embedded.MODEL_NAME}"
REASONERS = tuple(f"embedded:{name}" for name in embedded.REASONERS)


@dataclass(frozen=True)
class Choice:
    """A model that can be steered here. `model_id` is what directions and results are kept under."""

    model: Model
    model_id: str


def choices(models: pd.DataFrame, device: str = "cpu") -> list[Choice]:
    """The study's models (rows of `Queries.models`) whose weights are on this machine, then the embedded ones.

    A model whose weights are not those of the study has another id, so that nothing of the old one is taken for its
    own. `device` is where they will compute.
    """
    words = short_names(models)
    named = [
        Model(
            row.name,
            None if not _is_hub_id(row.name) or pd.isna(row.revision) else row.revision,
            row.dtype,
            device,
            words[row.model_id],
        )
        for row in models.rename_axis("number").itertuples(index=False)
        if isinstance(row.dtype, str) and is_here(row.name, None if pd.isna(row.revision) else row.revision)
    ]
    known = {model.name for model in named}
    named += [
        Model(name, device=device) for name in (EMBEDDED, *REASONERS) if name not in known and is_here(name, None)
    ]
    found = []
    for model in named:
        try:
            found.append(_identified(model))
        except AnchorscopeError:
            continue  # weights that are damaged: the page says that the model cannot be loaded
    return found


def device_of(runs: pd.DataFrame) -> str:
    """Where live models compute: $ANCHORSCOPE_DEVICE, or the device of the study file that was run last (rows of
    `Queries.runs`); the CPU where neither says one.
    """
    if own := os.environ.get("ANCHORSCOPE_DEVICE"):
        return own
    for parameters in runs["parameters"]:
        found = json.loads(parameters) if isinstance(parameters, str) else None
        if isinstance(found, dict) and isinstance(engine := found.get("engine"), dict) and "device" in engine:
            return str(engine["device"])
    return "cpu"


def is_here(name: str, revision: str | None) -> bool:
    """Whether the weights are on this machine: nothing is fetched to find out."""
    if name.startswith("embedded:"):
        return embedded.is_ready() and (
            name == EMBEDDED or (name in REASONERS and embedded.is_merged(name.removeprefix("embedded:")))
        )
    if Path(name).expanduser().is_dir():
        return True
    return _is_hub_id(name) and _snapshot(name, revision) is not None


def _identified(model: Model) -> Choice:
    """The model with its id; one of the hub by the commit that is here, because asking the hub takes long and may fetch
    gigabytes.
    """
    if _is_hub_id(model.name) and (folder := _snapshot(model.name, model.revision)) is not None:
        found = replace(model, revision=folder.name)
        return Choice(found, stable_id("m", model.name, folder.name, model.dtype))
    return Choice(model, identify_model(model.name, revision=model.revision, dtype=model.dtype))


def _snapshot(name: str, revision: str | None) -> Path | None:
    """Folder of a hub model with its weights in the hub's local cache, called by its commit."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and any(folder.glob("*.safetensors")) else None


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir()
