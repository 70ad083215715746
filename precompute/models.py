"""A study's models, as ids and as what a worker needs to load them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from backend.errors import AnchorscopeError
from backend.models.loaded import LoadedModel
from backend.models.loading import identify_model
from precompute.engines.engine import ModelSpec
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
    """Id of the study's model that reads the CoT: its writer, or for an imported CoT the model whose `reads` names the
    writer.
    """
    if cot["model_id"] in by_id(study):
        return cot["model_id"]
    return next((name for name, model in by_id(study).items() if cot["model_name"] in model.reads), None)


def readers(study: Study, cot: Mapping[str, Any]) -> list[str]:
    """Ids of the models that read the CoT where both of a pair do: both, else the one that wrote it or reads its
    writer's.
    """
    own = reader_of(study, cot)
    pair = [model_id(model) for model in study.pair]
    return pair if own in pair else [own] if own is not None else []


def spec(study: Study, model: Model) -> ModelSpec:
    return ModelSpec(model.name, model.revision, model.dtype, study.engine.device)


def sampling_spec(study: Study, model: Model) -> ModelSpec:
    """The model for sampling, in the dtype of [sampling] where that names one."""
    return replace(spec(study, model), dtype=study.sampling.dtype or model.dtype)


def model_row(loaded: LoadedModel, role: str, *, dtype: str | None = None) -> dict[str, Any]:
    """A row of table models; `dtype` is the study's, where the model was loaded in another to sample."""
    loaded = replace(loaded, dtype=dtype or loaded.dtype)
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
