"""Directions to steer along, made from chunk activations; a direction is a unit vector that is found by its id alone.

How each kind is made from chunk activations; `direction_kinds.py` has an entry for each, with its formula and source.
What cannot be a direction (a zero or
unknown vector, a side without chunks) is refused with the reason, and never replaced.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from backend.models.interventions import Gate

# Anchors are Dawes's, and so is their convention: with `ta` and few rollouts nearly every chunk is beyond the
# threshold.
ANCHOR_IMPORTANCE = 0.2
ANCHOR_METRIC, ANCHOR_CONVENTIONS = (
    "counterfactual_importance_kl",
    ("fl", "published"),
)  # published where ours is known nowhere
MANIFOLD_NEIGHBOURS = 16


class DirectionError(AnchorscopeError):
    """A vector that is no unit vector, or directions that contradict each other."""


@dataclass(frozen=True)
class Direction:
    """One row of the table `directions`."""

    direction_id: str
    kind: str  # a name of direction_kinds
    model_id: str
    layer: int  # 0-based block
    chunk_id: str | None  # the chunk it was made from; None for directions of the whole study
    norm: float  # length before it was made a unit vector
    vector: np.ndarray = field(repr=False, compare=False)  # (d_model,) float32, unit length
    seed: int | None  # of a random direction
    parameters: str  # JSON: how it was made, with counts

    def __post_init__(self) -> None:
        length = float(np.linalg.norm(self.vector.astype(np.float64)))
        if self.vector.ndim != 1 or not math.isclose(length, 1, abs_tol=1e-5):
            raise DirectionError(
                f"Direction {self.direction_id} has shape {self.vector.shape}, length {length}; a unit vector is"
                " needed."
            )

    def row(self) -> dict[str, Any]:
        """The columns of the table `directions`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Refused:
    """A direction that could not be made."""

    kind: str
    chunk_id: str | None
    reason: str


@dataclass(frozen=True)
class Directions:
    made: tuple[Direction, ...]
    refused: tuple[Refused, ...]


def per_chunk(activations: Mapping[str, np.ndarray], *, model_id: str, layer: int) -> Directions:
    """The activation of each chunk; `activations` maps a chunk's id to its (d_model,) mean residual stream at
    `layer`."""
    return collect(
        unit("per_chunk", vector, model_id=model_id, layer=layer, chunk_id=chunk, parameters={})
        for chunk, vector in activations.items()
    )


def centered(
    activations: Mapping[str, np.ndarray],
    *,
    model_id: str,
    layer: int,
    population: Mapping[str, np.ndarray] | None = None,
) -> Directions:
    """The activation of each chunk less the mean over all chunks of `population` (these chunks by default) whose
    activation is known.
    """
    known = _known(activations if population is None else population)
    if not known:
        return Directions((), tuple(Refused("centered", chunk, "its activation is unknown") for chunk in activations))
    mean = np.mean([known[chunk] for chunk in sorted(known)], axis=0, dtype=np.float64)
    parameters = {"n_chunks": len(known), "chunks": stable_id("s", *sorted(known))}
    return collect(
        unit(
            "centered",
            np.asarray(vector, np.float64) - mean,
            model_id=model_id,
            layer=layer,
            chunk_id=chunk,
            parameters=parameters,
        )
        for chunk, vector in activations.items()
    )


def diff_in_means(
    activations: Mapping[str, np.ndarray],
    importance: Mapping[str, float | None],
    *,
    model_id: str,
    layer: int,
    threshold: float = ANCHOR_IMPORTANCE,
) -> Directions:
    """Mean activation of the anchors (importance ≥ threshold) less that of the rest: one direction, or none and the
    reason.

    A chunk whose importance is missing, None or NaN, or whose activation is unknown, is on neither side.
    """
    values = {chunk: value for chunk, value in importance.items() if value is not None and math.isfinite(value)}
    known = {chunk: vector for chunk, vector in _known(activations).items() if chunk in values}
    anchors = sorted(chunk for chunk in known if values[chunk] >= threshold)
    rest = sorted(chunk for chunk in known if values[chunk] < threshold)
    if not anchors or not rest:
        reason = (
            f"{len(anchors)} chunks have an importance of at least {threshold} and {len(rest)} a lower one; both must"
            " be more than 0"
        )
        return Directions((), (Refused("diff_in_means", None, reason),))
    vector = _mean(known, anchors) - _mean(known, rest)
    parameters = {
        "threshold": threshold,
        "n_anchors": len(anchors),
        "n_rest": len(rest),
        "n_unknown": len(activations) - len(known),
        "anchors": stable_id("s", *anchors),
        "rest": stable_id("s", *rest),
    }
    return collect(
        [unit("diff_in_means", vector, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)]
    )


def random(n: int, d_model: int, *, model_id: str, layer: int, seed: int) -> Directions:
    """`n` directions uniform on the sphere; each has a seed of its own that follows from `seed`, model, layer and its
    number.
    """
    made = []
    for number in range(n):
        own_seed = seed_for("random direction", seed, model_id, layer, number)
        vector = np.random.default_rng(own_seed).standard_normal(d_model)
        made.append(
            unit(
                "random",
                vector,
                model_id=model_id,
                layer=layer,
                chunk_id=None,
                parameters={"number": number},
                seed=own_seed,
            )
        )
    return collect(made)


def pair(activations: Mapping[str, np.ndarray], chunk: str, other: str, *, model_id: str, layer: int) -> Directions:
    """The activation of `chunk` less that of `other`."""
    vector = np.asarray(activations[chunk], np.float64) - np.asarray(activations[other], np.float64)
    return collect([unit("pair", vector, model_id=model_id, layer=layer, chunk_id=chunk, parameters={"minus": other})])


def category(
    activations: Mapping[str, np.ndarray], tags: Mapping[str, str], name: str, *, source: str, model_id: str, layer: int
) -> Directions:
    """Mean activation of the chunks of category `name` less that of the other tagged chunks: one direction, or none and
    the reason.

    `tags` maps a chunk to its first category by `source`. A chunk without one, or of unknown activation, is on neither
    side.
    """
    known = _known(activations)
    inside, rest = _sides(known, tags, name)
    if not inside or not rest:
        reason = (
            f"{len(inside)} chunks with activations are tagged {name} by {source} and {len(rest)} otherwise; both must"
            " be more than 0"
        )
        return Directions((), (Refused("category", None, reason),))
    parameters = {
        "category": name,
        "source": source,
        "n_category": len(inside),
        "n_rest": len(rest),
        "n_unknown": len(activations) - len(inside) - len(rest),
        "chunks": stable_id("s", *inside),
        "rest": stable_id("s", *rest),
    }
    vector = _mean(known, inside) - _mean(known, rest)
    return collect([unit("category", vector, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)])


def on_manifold(
    activations: Mapping[str, np.ndarray],
    chunk: str,
    *,
    component: int,
    model_id: str,
    layer: int,
    k: int = MANIFOLD_NEIGHBOURS,
) -> Directions:
    """The `component`-th (from 1) principal direction of the `k` chunks nearest to `chunk`, by Euclidean distance,
    itself left out.

    The neighbours are centred on their own mean; k is smaller where the study has fewer. The sign is the one that makes
    the largest coordinate positive. `norm` is the standard deviation of the neighbours along the direction.
    """
    if not np.isfinite(activations[chunk]).all():
        return Directions((), (Refused("on_manifold", chunk, "its activation is unknown"),))
    known = _known(activations)
    others = sorted(known.keys() - {chunk})
    cloud = np.array([known[other] for other in others], np.float64).reshape(len(others), -1)
    distances = np.linalg.norm(cloud - np.asarray(activations[chunk], np.float64), axis=1) if others else np.empty(0)
    nearest = np.argsort(distances, kind="stable")[:k]
    found = Neighbourhood.of(chunk, [others[i] for i in nearest], cloud[nearest])
    return collect([found.tangent(component, model_id=model_id, layer=layer)])


@dataclass(frozen=True)
class Neighbourhood:
    """The chunks nearest to one, and their principal components (`principal_directions`)."""

    chunk_id: str
    neighbours: tuple[str, ...]  # nearest first
    lengths: np.ndarray  # (n,), falling
    principal: np.ndarray  # (n, d_model) float64, unit rows

    @classmethod
    def of(cls, chunk: str, neighbours: Sequence[str], vectors: np.ndarray) -> "Neighbourhood":
        """`vectors` (n, d_model) are the neighbours' activations, nearest first."""
        if not len(neighbours):
            return cls(chunk, (), np.empty(0), vectors)
        return cls(chunk, tuple(neighbours), *principal_directions(vectors))

    def spans(self, n: int) -> bool:
        """Whether the neighbours vary along `n` directions."""
        return 1 <= n < len(self.neighbours) and bool(self.lengths[n - 1] > 1e-9 * self.lengths[0])

    def tangent(self, component: int, *, model_id: str, layer: int) -> "Direction | Refused":
        """The `component`-th (from 1) principal direction."""
        n = len(self.neighbours)
        if not 1 <= component < n:
            reason = f"component {component} was asked for, but {n} neighbours span {max(n - 1, 0)} directions"
            return Refused("on_manifold", self.chunk_id, reason)
        if not self.spans(component):
            reason = f"its neighbours do not vary along component {component}"
            return Refused("on_manifold", self.chunk_id, reason)
        length = self.lengths[component - 1]
        parameters = {
            "component": component,
            "k": n,
            "variance_share": round(float(length**2 / (self.lengths**2).sum()), 6),
            "neighbours": stable_id("s", *sorted(self.neighbours)),
        }
        vector = length / math.sqrt(n - 1) * self.principal[component - 1]
        return unit(
            "on_manifold", vector, model_id=model_id, layer=layer, chunk_id=self.chunk_id, parameters=parameters
        )


def principal_directions(neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (falling) and unit vectors (k, d_model) of the principal components of neighbours (k, d_model), centred
    on their mean.

    The sign is the one that makes the largest coordinate positive. A length squared over k − 1 is the variance along
    the direction.
    """
    _, lengths, principal = np.linalg.svd(neighbours - neighbours.mean(0), full_matrices=False)
    largest = np.abs(principal).argmax(1)
    return lengths, principal * np.sign(principal[np.arange(len(principal)), largest])[:, None]


def from_vector(
    vector: np.ndarray, *, file: str, key: str, sha256: str, model_id: str, layer: int, norm: float | None = None
) -> Directions:
    """A vector read from a file, whose digest and key are part of what it is.

    `norm` is its length there, where `vector` has another.
    """
    parameters = {"file": file, "key": key, "sha256": sha256}
    made = unit("file", vector, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)
    return collect([made if norm is None or isinstance(made, Refused) else replace(made, norm=float(norm))])


def from_library(vector: np.ndarray, *, vector_id: str, model_id: str, layer: int) -> Directions:
    """A vector of the study's library, whose id follows from its values."""
    parameters = {"vector": vector_id}
    return collect([unit("library", vector, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)])


def feature(
    row: np.ndarray, *, number: int, dictionary: str, model_id: str, layer: int, decoder: str | None = None
) -> Directions:
    """A feature's decoder row of the model, in units of the residual stream: `norm` is what a code of 1 adds to the
    reconstruction.

    `decoder` names the other model of the pair where the row is that one's: the same vector with the same norm, put
    into this model.
    """
    parameters = {"feature": number, "dictionary": dictionary, "norm": "of the residual stream, for a code of 1"}
    if decoder not in (None, model_id):
        parameters["decoder"] = decoder
    return collect([unit("feature", row, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)])


def analogy(
    kind: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, *, parameters: dict[str, Any], model_id: str, layer: int
) -> Directions:
    """b − a + c, where d of the parallelogram would lie. Source: Mikolov, Yih & Zweig (2013), NAACL."""
    vector = b.astype(np.float64) - a + c
    return collect([unit(kind, vector, model_id=model_id, layer=layer, chunk_id=None, parameters=parameters)])


def eigen(
    vector: np.ndarray, *, number: int, eigenvalue: float, chunk: str, model_id: str, layer: int, position: str
) -> Directions:
    """The `number`-th (from 1, largest first) eigenvector of the Fisher metric G of steps at a chunk's position set;
    `norm` is 1.

    KL along it tends to ½·eigenvalue·β², nats.
    """
    parameters = {"number": number, "eigenvalue": float(f"{eigenvalue:.6g}"), "layer": layer, "position": position}
    return collect([unit("eigen", vector, model_id=model_id, layer=layer, chunk_id=chunk, parameters=parameters)])


@dataclass(frozen=True)
class CategoryGate:
    """A gate that is open where the residual stream lies nearer to a category's mean chunk than to the mean of the
    rest.

    The shares say how well that separates chunks, each judged by means that it takes no part in: means of so few chunks
    in so many dimensions always separate the chunks they were made of.
    """

    gate: Gate
    true_share: float  # of the category's chunks that it lets pass
    false_share: float  # of the other chunks that it lets pass
    n_category: int
    n_rest: int


def category_gate(activations: Mapping[str, np.ndarray], tags: Mapping[str, str], name: str) -> CategoryGate:
    """The linear gate for "only while `name`": w = mean(category) − mean(rest), threshold halfway between their
    projections.

    Sides are those of `category`. Raises DirectionError for a side of fewer than two chunks, and for equal means.
    """
    known = _known(activations)
    inside, rest = _sides(known, tags, name)
    if min(len(inside), len(rest)) < 2:
        raise DirectionError(
            f"“Only while {name}” needs at least 2 chunks of the category and 2 others with activations and tags; "
            f"there are {len(inside)} and {len(rest)}. Choose another category or layer."
        )
    means = _mean(known, inside), _mean(known, rest)
    w = means[0] - means[1]
    if not np.linalg.norm(w) > 1e-12:
        raise DirectionError(
            f"The chunks of {name} and the others have the same mean activation at this layer; nothing tells them"
            " apart."
        )
    gate = Gate(w.astype(np.float32), float(w @ (means[0] + means[1]) / 2), f"the token leans to {name}")
    true_share = np.mean(
        [_passes(known[chunk], _without(means[0], known[chunk], len(inside)), means[1]) for chunk in inside]
    )
    false_share = np.mean(
        [_passes(known[chunk], means[0], _without(means[1], known[chunk], len(rest))) for chunk in rest]
    )
    return CategoryGate(gate, float(true_share), float(false_share), len(inside), len(rest))


def _passes(vector: np.ndarray, inside: np.ndarray, rest: np.ndarray) -> bool:
    """Whether h · w > threshold for these means, which is to say whether h is nearer to the first."""
    return bool(np.linalg.norm(vector - inside) < np.linalg.norm(vector - rest))


def _without(mean: np.ndarray, vector: np.ndarray, n: int) -> np.ndarray:
    """The mean of the other n − 1 vectors."""
    return (n * mean - vector) / (n - 1)


def _sides(known: Mapping[str, np.ndarray], tags: Mapping[str, str], name: str) -> tuple[list[str], list[str]]:
    """Chunks of the category and the other tagged ones, in order."""
    tagged = sorted(known.keys() & tags.keys())
    return [chunk for chunk in tagged if tags[chunk] == name], [chunk for chunk in tagged if tags[chunk] != name]


def unit(
    kind: str,
    vector: np.ndarray,
    *,
    model_id: str,
    layer: int,
    chunk_id: str | None,
    parameters: dict[str, Any],
    seed: int | None = None,
) -> Direction | Refused:
    """A direction along `vector` of any length, whose id follows from everything but its coordinates: `parameters` say
    how it was made. Refused where it is unknown or points nowhere.
    """
    exact = np.asarray(vector, np.float64)
    norm = float(np.linalg.norm(exact))
    if not math.isfinite(norm):
        return Refused(kind, chunk_id, "its activation is unknown")
    if norm < 1e-12:
        return Refused(kind, chunk_id, "its vector is zero and points nowhere")
    direction_id = stable_id("d", kind, model_id, layer, chunk_id, seed, parameters)
    return Direction(
        direction_id,
        kind,
        model_id,
        layer,
        chunk_id,
        norm,
        (exact / norm).astype(np.float32),
        seed,
        json.dumps(parameters, sort_keys=True),
    )


def collect(results: Iterable[Direction | Refused]) -> Directions:
    """What was made, and what was refused."""
    results = list(results)
    made = tuple(result for result in results if isinstance(result, Direction))
    return Directions(made, tuple(result for result in results if isinstance(result, Refused)))


def _known(activations: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {chunk: np.asarray(vector) for chunk, vector in activations.items() if np.isfinite(vector).all()}


def _mean(activations: Mapping[str, np.ndarray], chunks: list[str]) -> np.ndarray:
    return np.asarray([activations[chunk] for chunk in chunks]).mean(axis=0, dtype=np.float64)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
