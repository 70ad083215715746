"""Every kind of direction, one entry each: what it is called, how a study makes its own, how one is made by hand.

A kind that is `swept` can stand in a study file; one that can be made `by_hand` is offered on the Steering page, with a
control for each field that it needs. How a vector is made from activations is in `directions.py`, or beside the entry.
docs/extending/add-a-direction.md adds one step by step.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np

from backend.geometry import directions
from backend.geometry.directions import (
    ANCHOR_IMPORTANCE,
    MANIFOLD_NEIGHBOURS,
    DirectionError,
    Directions,
    Neighbourhood,
)
from backend.geometry.neighbourhoods import around
from backend.models.word_contexts import CONTEXTS, USUAL
from backend.registry import Registry
from backend.store.registered import NAME as REGISTERED


class SpecError(DirectionError):
    """A direction that cannot be made from what there is."""


@dataclass(frozen=True)
class DirectionSpec:
    """How a direction is made. Fields that its kind does not use are None, or what they are by default."""

    kind: str
    model_id: str
    layer: int  # 0-based block at which the vector is made, which need not be where it is used
    chunk_id: str | None = None
    other_chunk_id: str | None = None  # subtracted, of a pair
    chunk_a: str | None = None  # of chunk_analogy, b − a + c
    chunk_b: str | None = None
    chunk_c: str | None = None
    category: str | None = None
    tags: str | None = None  # who tagged the chunks
    component: int | None = None  # from 1, of on_manifold
    neighbours: int = MANIFOLD_NEIGHBOURS
    threshold: float = ANCHOR_IMPORTANCE  # importance of an anchor, of diff_in_means
    seed: int | None = None  # of random
    number: int = 0  # of random: each seed has as many directions as are wanted
    dictionary_id: str | None = None
    feature: int | None = None
    decoder: str | None = None  # of feature: the model whose row it is; None: model_id's own
    feature_a: int | None = None  # of feature_analogy, b − a + c
    feature_b: int | None = None
    feature_c: int | None = None
    word_a: str | None = None  # of analogy, b − a + c; a word of one token
    word_b: str | None = None
    word_c: str | None = None
    context: str | None = None  # in what these are read; None: the usual one
    file: str | None = None
    key: str | None = None
    sha256: str | None = None
    norm: float | None = None  # of the vector in the file
    vector_id: str | None = None  # of the study's library

    def __post_init__(self) -> None:
        by_hand = DIRECTION_KINDS[self.kind].by_hand
        if by_hand is None:
            raise SpecError(
                f"A direction of kind {self.kind} is made by a study alone; choose one of {', '.join(kinds_by_hand())}."
            )
        missing = [name for name in by_hand.needs if getattr(self, name) is None]
        if missing:
            raise SpecError(f"A direction of kind {self.kind} needs {' and '.join(missing)}.")
        for name, least in (
            ("layer", 0),
            ("number", 0),
            ("seed", 0),
            ("component", 1),
            ("neighbours", 1),
            ("feature", 0),
            ("feature_a", 0),
            ("feature_b", 0),
            ("feature_c", 0),
        ):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise SpecError(f"{name} is {value!r}; a whole number from {least} on was expected.")
        if self.context not in (None, *CONTEXTS):
            raise SpecError(f"There is no context {self.context!r} of words; there are {', '.join(CONTEXTS)}.")
        for name in ("threshold", "norm"):
            value = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
                raise SpecError(f"{name} is {value!r}; a finite number was expected.")

    @property
    def chunks(self) -> tuple[str, ...]:
        """Those whose own activation it is made of, each as often as it is named."""
        every = (self.chunk_id, self.other_chunk_id, self.chunk_a, self.chunk_b, self.chunk_c)
        return tuple(chunk for chunk in every if chunk is not None)

    @property
    def words(self) -> tuple[str, ...]:
        """a, b and c of an analogy; none of any other kind."""
        return tuple(word for word in (self.word_a, self.word_b, self.word_c) if word is not None)

    def to_json(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DirectionSpec":
        """The spec that `to_json` gave. Raises SpecError for anything else."""
        try:
            given = json.loads(text)
        except ValueError as error:
            raise SpecError(f"The definition of a direction is not JSON: {error}") from error
        known = {part.name for part in fields(cls)}
        if not isinstance(given, dict) or not {"kind", "model_id", "layer"} <= given.keys() <= known:
            raise SpecError(
                f"A direction is defined by kind, model_id, layer and some of {', '.join(sorted(known))}; got"
                f" {text[:200]}"
            )
        return cls(**given)


@dataclass(frozen=True)
class StudyChunks:
    """What a study makes its own directions of, at one layer."""

    model_id: str
    layer: int  # 0-based block
    activations: Mapping[str, np.ndarray]  # chunk id -> (d_model,), of every chunk
    importance: Mapping[str, float | None]  # by which anchors are chosen
    seed: int  # the study's
    n_random: int  # random directions that the study file asks for
    threshold: float  # importance of an anchor
    reference: Mapping[str, np.ndarray] | None = None  # those of the reference set, where the study has one

    @property
    def place(self) -> dict[str, Any]:
        return {"model_id": self.model_id, "layer": self.layer}

    @property
    def population(self) -> Mapping[str, np.ndarray]:
        """What means are taken over."""
        return self.activations if self.reference is None else self.reference

    @property
    def d_model(self) -> int:
        return len(next(iter(self.activations.values()), ()))


class Material(Protocol):
    """What a direction made by hand can be made of, at its spec's layer: read when it is asked for.

    Each raises SpecError that says what is missing.
    """

    def activations(self) -> dict[str, np.ndarray]:
        """Of every chunk of the study, by id."""
        ...

    def activation(self, chunk_id: str) -> np.ndarray:
        """Of one chunk, which may be of a text that somebody typed."""
        ...

    def importance(self) -> Mapping[str, float | None]: ...

    def first_tags(self, source: str) -> Mapping[str, str]:
        """First category by chunk."""
        ...

    def d_model(self) -> int: ...

    def decoder_row(self, dictionary_id: str, feature: int, decoder: str) -> np.ndarray:
        """Of the model `decoder`, in units of its residual stream."""
        ...

    def word(self, word: str) -> np.ndarray:
        """The residual stream at a word of one token, in the spec's context."""
        ...

    def vector(self) -> np.ndarray:
        """Of the file."""
        ...

    def counterfactual(self, chunk_id: str) -> tuple[np.ndarray, dict[str, Any]]:
        """The chunk's activation less the mean of its counterfactuals', of its own length, and how it was made."""
        ...

    def kept_vector(self, vector_id: str) -> np.ndarray:
        """Of the study's library, of any length."""
        ...


@dataclass(frozen=True)
class Swept:
    """A study steers along these directions, chunk by chunk."""

    make: Callable[[StudyChunks], Directions]
    is_drawn: bool = False  # as many as the study file asks for; else one that applies to each chunk


@dataclass(frozen=True)
class ByHand:
    """One such direction is made from what somebody chose."""

    phrase: str  # in a sentence, of the fields that it needs: "the activation of {chunk_id}"
    needs: tuple[str, ...]  # fields of DirectionSpec that it cannot be made without; each has a control on the page
    make: "Callable[[Any, Material], Directions]"  # of a DirectionSpec, whose `needs` are there; the last made counts
    words: str = ""  # in its picker, where the page of a whole study calls it otherwise
    of_study: bool = False  # needs the study's activations at the layer
    preference: int = 0  # where none is chosen, the one of the largest that can be made


@dataclass(frozen=True)
class DirectionKind:
    name: str  # as it is stored
    words: str  # on a page
    help: str  # formula and source
    colour: str
    swept: Swept | None
    by_hand: ByHand | None
    of_importance: bool = False  # made from the rollouts that importance is measured on: no law is claimed between them

    @property
    def is_drawn(self) -> bool:
        return self.swept is not None and self.swept.is_drawn


DIRECTION_KINDS: Registry[DirectionKind] = Registry("direction of kind", error=SpecError)
register = DIRECTION_KINDS.register


def may_be_kind(name: str) -> bool:
    """Whether it is a kind of direction, or could be one that a study keeps and whose code is not here."""
    return name in DIRECTION_KINDS or REGISTERED.fullmatch(name) is not None


def swept_kinds() -> tuple[str, ...]:
    """What can stand in a study file."""
    return tuple(kind.name for kind in DIRECTION_KINDS.values() if kind.swept is not None)


def kinds_by_hand() -> dict[str, ByHand]:
    """What a person can choose."""
    return {kind.name: kind.by_hand for kind in DIRECTION_KINDS.values() if kind.by_hand is not None}


def kinds_of_importance() -> frozenset[str]:
    """Kinds made from the rollouts that importance is measured on."""
    return frozenset(kind.name for kind in DIRECTION_KINDS.values() if kind.of_importance)


def _of(spec: DirectionSpec) -> dict[str, Any]:
    return {"model_id": spec.model_id, "layer": spec.layer}


def _tangents(study: StudyChunks) -> Directions:
    """The leading tangent at each chunk, of the reference set's nearest chunks."""
    others = {chunk: vector for chunk, vector in study.activations.items() if chunk not in study.population}
    near = {found.chunk_id: found for found in around(study.population, others=others)}
    alone = {chunk: Neighbourhood.of(chunk, (), np.empty((0, study.d_model))) for chunk in study.activations}
    return directions.collect(
        found.tangent(1, **study.place)
        if np.isfinite(study.activations[chunk]).all()
        else directions.Refused("on_manifold", chunk, "its activation is unknown")
        for chunk, found in (alone | near).items()
    )


def _to_counterfactual(spec: DirectionSpec, given: Material) -> Directions:
    chunk = str(spec.chunk_id)  # there, because it is one of the entry's needs
    vector, parameters = given.counterfactual(chunk)
    made = directions.unit("counterfactual", vector, chunk_id=chunk, parameters=parameters, **_of(spec))
    return directions.collect([made])


def _analogy(spec: DirectionSpec, given: Material) -> Directions:
    a, b, c = (given.word(word) for word in spec.words)
    words = dict(zip("abc", spec.words, strict=True))
    return directions.analogy(
        "analogy", a, b, c, parameters=words | {"context": spec.context or USUAL, "leading_space": True}, **_of(spec)
    )


def _chunk_analogy(spec: DirectionSpec, given: Material) -> Directions:
    chunks = {"a": str(spec.chunk_a), "b": str(spec.chunk_b), "c": str(spec.chunk_c)}
    a, b, c = (given.activation(chunk) for chunk in chunks.values())
    return directions.analogy("chunk_analogy", a, b, c, parameters=dict(chunks), **_of(spec))


def _feature_analogy(spec: DirectionSpec, given: Material) -> Directions:
    features = {"a": spec.feature_a, "b": spec.feature_b, "c": spec.feature_c}
    decoder = spec.decoder or spec.model_id
    a, b, c = (given.decoder_row(str(spec.dictionary_id), int(one or 0), decoder) for one in features.values())
    parameters: dict[str, Any] = {**features, "dictionary": spec.dictionary_id}
    if decoder != spec.model_id:
        parameters["decoder"] = decoder
    return directions.analogy("feature_analogy", a, b, c, parameters=parameters, **_of(spec))


def _around(chunk_id: str, given: Material) -> dict[str, np.ndarray]:
    return given.activations() | {chunk_id: given.activation(chunk_id)}


register(
    DirectionKind(
        "category",
        words="a category − the rest",
        help="mean(chunks of a category) − mean(the other tagged chunks)",
        colour="#CC79A7",
        swept=None,
        by_hand=ByHand(
            "{category} − rest",
            needs=("category", "tags"),
            make=lambda spec, given: directions.category(
                given.activations(), given.first_tags(spec.tags), spec.category, source=spec.tags, **_of(spec)
            ),
            of_study=True,
            preference=3,
        ),
    )
)
register(
    DirectionKind(
        "per_chunk",
        words="the chunk's own activation",
        help="a, the chunk's mean residual stream (Dawes 2025, section 3)",
        colour="#0072B2",
        swept=Swept(lambda study: directions.per_chunk(study.activations, **study.place)),
        by_hand=ByHand(
            "the activation of {chunk_id}",
            needs=("chunk_id",),
            make=lambda spec, given: directions.per_chunk(
                {spec.chunk_id: given.activation(spec.chunk_id)}, **_of(spec)
            ),
            words="a chunk's own activation",
        ),
    )
)
register(
    DirectionKind(
        "centered",
        words="own activation − mean of all chunks",
        help="a − mean over the chunks of the study's reference set (Dawes 2025, section 3, of all chunks)",
        colour="#D55E00",
        swept=Swept(lambda study: directions.centered(study.activations, population=study.population, **study.place)),
        by_hand=ByHand(
            "the activation of {chunk_id} − mean of all chunks",
            needs=("chunk_id",),
            make=lambda spec, given: directions.centered(
                {spec.chunk_id: given.activation(spec.chunk_id)}, population=given.activations(), **_of(spec)
            ),
            words="a chunk's activation − mean of all",
            of_study=True,
        ),
    )
)
register(
    DirectionKind(
        "diff_in_means",
        words="mean of anchors − mean of the rest",
        help="mean(anchors) − mean(the rest), anchors being chunks of counterfactual importance ≥ 0.2 (Dawes 2025)",
        colour="#009E73",
        swept=Swept(
            lambda study: directions.diff_in_means(
                study.population, study.importance, threshold=study.threshold, **study.place
            )
        ),
        by_hand=ByHand(
            "anchors − rest",
            needs=(),
            make=lambda spec, given: directions.diff_in_means(
                given.activations(), given.importance(), threshold=spec.threshold, **_of(spec)
            ),
            words="anchors − the rest",
            of_study=True,
            preference=2,
        ),
        of_importance=True,
    )
)
register(
    DirectionKind(
        "pair",
        words="one chunk − another",
        help="a_i − a_j of two chunks",
        colour="#E69F00",
        swept=None,
        by_hand=ByHand(
            "{chunk_id} − {other_chunk_id}",
            needs=("chunk_id", "other_chunk_id"),
            make=lambda spec, given: directions.pair(
                {chunk: given.activation(chunk) for chunk in (spec.chunk_id, spec.other_chunk_id)},
                spec.chunk_id,
                spec.other_chunk_id,
                **_of(spec),
            ),
        ),
    )
)
register(
    DirectionKind(
        "on_manifold",
        words="along the manifold (local tangent)",
        help="a principal direction of the nearest chunk activations, along which the cloud of chunks extends; a study"
        " sweeps the first",
        colour="#56B4E9",
        swept=Swept(_tangents),
        by_hand=ByHand(
            "principal direction {component} of the neighbours of {chunk_id}",
            needs=("chunk_id", "component"),
            make=lambda spec, given: directions.on_manifold(
                _around(spec.chunk_id, given), spec.chunk_id, component=spec.component, k=spec.neighbours, **_of(spec)
            ),
            of_study=True,
        ),
    )
)
register(
    DirectionKind(
        "feature",
        words="a feature's decoder row",
        help="a decoder row of a crosscoder or autoencoder, in units of the residual stream",
        colour="#7F3C8D",
        swept=None,
        by_hand=ByHand(
            "the decoder row of feature {feature}",
            needs=("dictionary_id", "feature"),
            make=lambda spec, given: directions.feature(
                given.decoder_row(spec.dictionary_id, spec.feature, spec.decoder or spec.model_id),
                number=spec.feature,
                dictionary=spec.dictionary_id,
                decoder=spec.decoder,
                **_of(spec),
            ),
        ),
    )
)
register(
    DirectionKind(
        "analogy",
        words="b − a + c of three words",
        help="the offset from a to b added to c, of the residual stream at words of one token (Mikolov et al. 2013)",
        colour="#0F766E",
        swept=None,
        by_hand=ByHand("{word_b} − {word_a} + {word_c}", needs=("word_a", "word_b", "word_c"), make=_analogy),
    )
)
register(
    DirectionKind(
        "chunk_analogy",
        words="b − a + c of three chunks",
        help="the same of three chunks' activations",
        colour="#4D7C0F",
        swept=None,
        by_hand=ByHand(
            "{chunk_b} − {chunk_a} + {chunk_c}", needs=("chunk_a", "chunk_b", "chunk_c"), make=_chunk_analogy
        ),
    )
)
register(
    DirectionKind(
        "feature_analogy",
        words="b − a + c of three features",
        help="the same of three decoder rows of one dictionary, in units of the residual stream",
        colour="#A21CAF",
        swept=None,
        by_hand=ByHand(
            "the decoder rows of features {feature_b} − {feature_a} + {feature_c}",
            needs=("dictionary_id", "feature_a", "feature_b", "feature_c"),
            make=_feature_analogy,
        ),
    )
)
register(
    DirectionKind(
        "random",
        words="random directions (mean over them)",
        help="uniform on the sphere, seeded (Dawes 2025, section 3)",
        colour="#8A8F98",
        swept=Swept(
            lambda study: directions.random(study.n_random, study.d_model, seed=study.seed, **study.place),
            is_drawn=True,
        ),
        by_hand=ByHand(
            "random direction {seed}",
            needs=("seed",),
            make=lambda spec, given: directions.random(spec.number + 1, given.d_model(), seed=spec.seed, **_of(spec)),
            words="random",
            preference=1,
        ),
    )
)
register(
    DirectionKind(
        "file",
        words="a vector file",
        help="a vector that somebody made elsewhere",
        colour="#6B6B6B",
        swept=None,
        by_hand=ByHand(
            "{file} ({key})",
            needs=("file", "key", "sha256"),
            make=lambda spec, given: directions.from_vector(
                given.vector(), file=spec.file, key=spec.key, sha256=spec.sha256, norm=spec.norm, **_of(spec)
            ),
        ),
    )
)
register(
    DirectionKind(
        "library",
        words="a vector of the library",
        help="a vector that was kept under a name, uploaded or made here",
        colour="#B8860B",
        swept=None,
        by_hand=ByHand(
            "{vector_id}",
            needs=("vector_id",),
            make=lambda spec, given: directions.from_library(
                given.kept_vector(spec.vector_id), vector_id=spec.vector_id, **_of(spec)
            ),
        ),
    )
)
register(
    DirectionKind(
        "eigen",
        words="leading eigenvectors of G (mean over them)",
        help="eigenvectors of a chunk's Fisher metric G, along which its predictions give way the most",
        colour="#A6761D",
        swept=None,  # the geometry stage makes them where it has G
        by_hand=None,
    )
)
register(
    DirectionKind(
        "counterfactual",
        words="the chunk − what is said in its place",
        help="a − mean activation of the first chunks of the rollouts that begin otherwise: minus its length takes the"
        " chunk to its counterfactuals (Dawes 2025)",
        colour="#44AA99",
        swept=None,  # the anchors stage makes them, where it steers along them
        by_hand=ByHand(
            "{chunk_id} − what is said in its place",
            needs=("chunk_id",),
            make=_to_counterfactual,
            of_study=True,
        ),
        of_importance=True,
    )
)
SHIPPED = frozenset(DIRECTION_KINDS)  # what comes later, somebody registered
