"""Any direction of a study by its definition: what the Steering page asks for, made as the study makes its own.

A spec says how a direction is made; it is plain JSON, so that a kept run can be made again. Means are those of the
study's reference set (of all its chunks where it has none); a text that somebody typed has activations of its own,
which serve as the chunk's and take no part in any mean.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.crosscoder.stored import decoder_row
from backend.geometry import directions
from backend.geometry.direction_kinds import DirectionSpec, SpecError, kinds_by_hand
from backend.geometry.directions import CategoryGate, Direction
from backend.store.library import Library

if TYPE_CHECKING:
    from backend.store.store import Store


def available(store: "Store", model_id: str) -> list[int]:
    """Layers at which the study has activations of its chunks by this model, lowest first."""
    return store.activation_layers(model_id)


def make_direction(
    store: "Store",
    spec: DirectionSpec,
    *,
    activations: Mapping[str, np.ndarray] | None = None,
    words: Mapping[str, np.ndarray] | None = None,
    vector: np.ndarray | None = None,
    d_model: int | None = None,
) -> Direction:
    """The direction that the spec defines; equal, id included, to the study's own of the same definition.

    `activations` are those of chunks, by id and at the spec's layer, which the store lacks; they go before the store's.
    `words` are the residual streams at words of one token, at the spec's layer and in its context: the model must have
    read them. `vector` is the file's, for kind `file`, of any length: the spec's `norm` says which it has in the file.
    `d_model` is needed for a random direction of a model that is not in the study. Raises an AnchorscopeError that says
    what is missing.
    """
    n_layers = store.model_facts(spec.model_id).get("n_layers")
    if n_layers is not None and spec.layer >= n_layers:
        raise SpecError(
            f"A direction at layer {spec.layer} was asked for; the model has {n_layers} layers, 0 to {n_layers - 1}."
        )
    given = _OfStudy(store, spec, activations or {}, words or {}, vector, d_model)
    made = kinds_by_hand()[spec.kind].make(spec, given)
    if not made.made:
        raise SpecError(f"There is no such direction ({spec.kind}, layer {spec.layer}): {made.refused[0].reason}.")
    return made.made[-1]


def category_gate_of(store: "Store", model_id: str, layer: int, category: str, tags: str) -> CategoryGate:
    """The gate "only while `category`" at a layer with stored activations, with how well it separates the study's
    chunks.
    """
    return directions.category_gate(_study(store, model_id, layer), store.first_tags(tags), category)


@dataclass(frozen=True)
class _OfStudy:
    """`direction_kinds.Material` of a study, and of what is given beside it."""

    store: "Store"
    spec: DirectionSpec
    given: Mapping[str, np.ndarray]
    words: Mapping[str, np.ndarray]
    file_vector: np.ndarray | None
    width: int | None

    @cached_property
    def _stored(self) -> dict[str, np.ndarray]:
        return _study(self.store, self.spec.model_id, self.spec.layer)

    @cached_property
    def _reference(self) -> Mapping[str, bool]:
        return self.store.reference_chunks(self.spec.model_id) or dict.fromkeys(self._stored, True)

    def activations(self) -> dict[str, np.ndarray]:
        return {chunk: vector for chunk, vector in self._stored.items() if chunk in self._reference}

    def activation(self, chunk_id: str) -> np.ndarray:
        if chunk_id in self.given:
            return self.given[chunk_id]
        if chunk_id not in self._stored:
            raise SpecError(
                f"Chunk {chunk_id} has no activation at layer {self.spec.layer} in this study; the model must read its"
                " text first."
            )
        return self._stored[chunk_id]

    def importance(self) -> dict[str, float | None]:
        return anchor_importance(self.store, self.spec.model_id, self._reference)

    def first_tags(self, source: str) -> dict[str, str]:
        return self.store.first_tags(source)

    def d_model(self) -> int:
        width = self.width or self.store.model_facts(self.spec.model_id).get("d_model")
        if width is None:
            raise SpecError(
                f"The width of model {self.spec.model_id} is not known here; load the model to make a random direction."
            )
        return width

    def word(self, word: str) -> np.ndarray:
        if word not in self.words:
            raise SpecError(
                f"The word “{word}” has not been read at layer {self.spec.layer}; the model must read it first."
            )
        return self.words[word]

    def vector(self) -> np.ndarray:
        if self.file_vector is None:
            raise SpecError(
                f"The vector of {self.spec.file} is kept in the run that used it; choose the file again to use it anew."
            )
        return self.file_vector

    def counterfactual(self, chunk_id: str) -> tuple[np.ndarray, dict[str, Any]]:
        model, layer = self.spec.model_id, self.spec.layer
        found = self.store.counterfactual_direction(chunk_id, model, layer)
        if found.empty:
            chunks = self.store.steered_anchors(model, layer)["chunk_id"]
            raise SpecError(
                f"This study has no direction from chunk {chunk_id} to its counterfactuals at layer {layer}: its stage"
                f" anchors made them of {len(chunks)} chunks there (Steepness and importance, Before and after)."
            )
        row = found.iloc[0]
        return float(row["norm"]) * np.asarray(row["vector"], np.float64), json.loads(row["parameters"])

    def kept_vector(self, vector_id: str) -> np.ndarray:
        kept, width = Library(self.store.path).get(vector_id), self.width
        if kept.layer != self.spec.layer:
            raise SpecError(
                f"“{kept.name}” is of the output of layer {kept.layer}; layer {self.spec.layer} was asked for."
            )
        if width is not None and len(kept.vector) != width:
            raise SpecError(
                f"“{kept.name}” has {len(kept.vector)} values; the residual stream of this model has {width}."
            )
        return kept.vector

    def decoder_row(self, dictionary_id: str, feature: int, decoder: str) -> np.ndarray:
        return _decoder_row(self.store, self.spec.layer, dictionary_id, feature, decoder)


def anchor_convention(store: "Store") -> str | None:
    """The convention of the importance that anchors are chosen by: the first that is known of any chunk."""
    for convention in directions.ANCHOR_CONVENTIONS:
        found = store.metric_by_chunk(directions.ANCHOR_METRIC, [convention])
        if any(value is not None for value in found.values()):
            return convention
    return None


def anchor_importance(store: "Store", model_id: str, reference: Mapping[str, bool]) -> dict[str, float | None]:
    """The importance that anchors are chosen by, of the steered chunks of the model's `reference` set that have a row
    of it; None where it is unknown.

    All are of one convention, that of the frozen set: values under two conventions are not on one scale. Answers forced
    at the cap and rollouts drawn later are left out: what is steered would be steered anew along other vectors.
    """
    convention = store.reference_convention(model_id) or anchor_convention(store)
    if convention is None:
        return {}
    found = store.given_metric_by_chunk(directions.ANCHOR_METRIC, convention)
    return {chunk: value for chunk, value in found.items() if reference.get(chunk, False)}


def _decoder_row(store: "Store", layer: int, dictionary_id: str, feature: int, decoder: str) -> np.ndarray:
    rows = [row for row in store.whole_table("dictionaries").to_pylist() if row["dictionary_id"] == dictionary_id]
    if not rows:
        raise SpecError(f"The study has no dictionary {dictionary_id}.")
    (row,) = rows
    models = [row["base_model_id"], row["distilled_model_id"]]
    if decoder not in models:
        there = ", ".join(filter(None, models))
        raise SpecError(f"Dictionary {dictionary_id} has no decoder for model {decoder}; it is of {there}.")
    if layer != row["layer"] or feature >= row["n_features"]:
        there = f"features 0 to {row['n_features'] - 1} at layer {row['layer']}"
        raise SpecError(f"Dictionary {dictionary_id} has {there}; feature {feature} at layer {layer} was asked for.")
    model = models.index(decoder)
    stored = decoder_row(store.path, dictionary_id, sha256=row["sha256"], model=model, feature=feature)
    return stored.astype(np.float64) / row["scale"][model]


def _study(store: "Store", model_id: str, layer: int) -> dict[str, np.ndarray]:
    """Every stored chunk activation at the layer, by chunk."""
    ids, vectors = store.activations(model_id, layer)
    if not ids:
        layers = available(store, model_id)
        there = (
            f"there are some at layers {', '.join(map(str, layers))}"
            if layers
            else "there are none of this model at any layer"
        )
        raise SpecError(f"The study has no chunk activations at layer {layer}; {there}.")
    return dict(zip(ids, vectors, strict=True))
