"""A study's models, as ids and as what a worker needs to load them."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from backend.cot.prompts import asked
from backend.errors import AnchorscopeError
from backend.live.available import is_here
from backend.models.loading import LoadedModel, check_model, identify_model, is_hub_id, load_tokenizer
from precompute.engines.local import ModelSpec
from precompute.study import Model, Study


def model_id(model: Model) -> str:
    """The id that rows bear, found without loading the weights."""
    return _identified(model.name, model.revision, model.dtype)


@cache
def _identified(name: str, revision: str | None, dtype: str) -> str:
    return identify_model(name, revision=revision, dtype=dtype)


def by_id(study: Study) -> dict[str, Model]:
    return {model_id(model): model for model in study.models}


def reader_of(study: Study, cot: Mapping[str, Any]) -> str | None:
    """Id of the study's model that reads the CoT: its writer, or for an imported CoT the model whose `reads` names the writer."""
    if cot["model_id"] in by_id(study):
        return cot["model_id"]
    return next((name for name, model in by_id(study).items() if cot["model_name"] in model.reads), None)


def require_usable(study: Study) -> None:
    """Raise before anything runs where a model of the study cannot be used, or cannot be asked under one of its prompts. One that is
    still on a hub is not fetched to find out."""
    for model in study.models:
        elsewhere = model.name.startswith("embedded:") or is_hub_id(model.name)
        if is_here(model.name, model.revision) or not elsewhere:
            check_model(model.name, revision=model.revision, dtype=model.dtype)
            tokenizer = None if study.problems is None else load_tokenizer(model.name, revision=model.revision)
            for prompt in () if tokenizer is None else study.prompts_of(model):
                asked(tokenizer, "What is 1 + 1?", prompt)


def spec(study: Study, model: Model) -> ModelSpec:
    return ModelSpec(model.name, model.revision, model.dtype, study.engine.device)


def model_row(loaded: LoadedModel, role: str) -> dict[str, Any]:
    """A row of table models."""
    return {
        "model_id": loaded.model_id,
        "name": loaded.name,
        "role": role,
        "revision": loaded.revision,
        "dtype": loaded.dtype,
        "family": loaded.family,
        "n_layers": loaded.n_layers,
        "d_model": loaded.d_model,
        "vocab_size": loaded.vocab_size,
    }


def require_layers(layers: Iterable[int], n_layers: int, key: str) -> None:
    """Raise where a study asks for a layer that the model does not have; none is counted from the end."""
    absent = sorted(layer for layer in layers if not 0 <= layer < n_layers)
    if absent:
        raise AnchorscopeError(f"{key} has {absent}, but the model has {n_layers} layers, 0 to {n_layers - 1}.")
