"""The controls that say what is done to the residual stream, and what they add up to."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.layer_strip import layer_strip
from app.shared import chosen_dictionary, chosen_stream, live, parting
from app.shared.chosen_dictionary import DICTIONARY, FEATURE
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.chosen_vector import (
    CATEGORY,
    CHUNKS_OF_ANALOGY,
    CONTEXT,
    FEATURES_OF_ANALOGY,
    MINUS,
    TAGGED,
    VECTOR,
    WORDS_OF_ANALOGY,
)
from app.shared.chunk_colours import TAGS
from app.shared.geometry_columns import DIRECTION, UNIT
from app.shared.model_names import called
from app.shared.pick_chunk import pick_chunk
from app.shared.steer_by_feature import decoder_words
from app.shell import keys, selection
from app.shell.fields import Field, Whole, declare
from app.shell.more import more
from app.shell.numbers import number as figure
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import (
    CATEGORIES,
    category,
    direction_words,
    unit_words,
)
from app.steering.steered_text import Subject
from backend.errors import AnchorscopeError
from backend.geometry import directions
from backend.geometry.direction_kinds import DIRECTION_KINDS, DirectionSpec, kinds_by_hand
from backend.geometry.direction_library import available, category_gate_of, make_direction
from backend.geometry.directions import Direction
from backend.live.available import Choice
from backend.live.kept import About
from backend.live.requests import MAX_WORD, Open, Words
from backend.live.sentence import sentence
from backend.live.service import Status
from backend.models.interventions import OPERATIONS, PLACES, UNITS, Gate, Intervention
from backend.models.names import role_words
from backend.models.word_contexts import CONTEXTS, USUAL
from backend.schema.tables import TABLES
from backend.store.library import LONGEST_NAME, KeptVector, Library
from backend.store.store import Store

if TYPE_CHECKING:
    from backend.geometry.direction_files import Entry

CONTROL_SEED = (
    2**40
)  # the same random directions for every run at a layer, so that runs can be compared; beyond the seeds people choose
THROUGH = declare(Field("last_layer", "last layer", None, of="layer"))
OPERATION = declare(Field("operation", "operation", OPERATIONS))
PLACE = declare(Field("steered_where", "place of the steering", PLACES, before="steering "))
WHILE = declare(Field("only_while", "condition of the steering", ["always", *CATEGORIES], before="only while "))
BETA = declare(Field("beta", "β", None))
FROM = declare(Field("vector_from", "chunk of the vector", None))
COMPONENT = declare(Field("vector_component", "component of the vector", ("1", "2", "3", "4")))
DRAWN = declare(Field("vector_seed", "seed of the vector", Whole(0, 2**31), "1"))
MADE = declare(Field("vector_layer", "layer of the vector", None, before="made at layer "))
DECODER = declare(Field("vector_decoder", "decoder of the vector", ("base", "distilled")))
USUAL_CODES, USUAL_RMS = 4.0, 8.0  # β at first: of a feature's mean code, and of the residual stream's RMS
MADE_BY = (FROM, MINUS, COMPONENT, DRAWN, CATEGORY, MADE, DECODER)  # how the vector is made, besides its kind
N_CONTROLS = 8  # random directions of the control strip
_UPLOAD = "direction_file"
_LARGEST_FILE = 16  # MB: what server.maxUploadSize allows; vectors of all layers of a large model have 8


@dataclass(frozen=True)
class Plan:
    """What the controls say.

    Without an intervention, `problem` says why in a sentence, or `waits_for` names the reading it waits for.
    """

    intervention: Intervention | None
    direction: Direction | None
    words: str  # the direction as a sentence calls it
    source_layer: int | None
    sources: tuple[str, ...]  # chunks the vector comes from
    opened: Status
    problem: str | None = None
    waits_for: str | None = None
    view: Mapping[str, str] | None = None
    limit: float = 0.0  # of β either way, where it is drawn and chosen

    def sentence(self, subject: Subject, *, seed: int | None = None, betas: tuple[float, ...] = ()) -> str:
        result = self.opened.result
        assert self.intervention is not None and self.source_layer is not None  # asked only where there is one
        return sentence(
            self.intervention,
            self.words,
            source_layer=self.source_layer,
            chunk=subject.name,
            span=result["span"],
            n_prompt=result["n_prompt"],
            seed=seed,
            betas=betas,
        )

    def controls(self, seed: int) -> tuple[np.ndarray, ...]:
        """Random directions of the same norm; the same ones for every β and place."""
        assert self.direction is not None and self.source_layer is not None  # asked only where there is one
        d_model = len(self.direction.vector)
        made = directions.random(
            N_CONTROLS, d_model, model_id=self.direction.model_id, layer=self.source_layer, seed=seed
        )
        return tuple(direction.vector for direction in made.made)


def plan(store: Store, subject: Subject, choice: Choice, opened: Status) -> Plan:
    """Shows the controls, and gives what they say."""
    facts = opened.result
    layers = available(store, choice.model_id)
    applied = _layers(store, facts["n_layers"])
    door, spec, words, sources, problem = _direction_controls(store, subject, choice, layers, applied, facts)
    layer_strip(
        facts["n_layers"],
        key=keys.of("layer_strip"),
        selected=applied,
        stored=layers,
        source=spec.layer if spec else None,
        preview=facts.get("lens"),
        on_select=lambda first, last: _choose_layers(choice, first, last),
    )
    st.caption(
        "Block whose output is changed: click one, drag a range. Hover: the logit lens at the token before"
        f" {subject.name}. A dot: activations of the study are stored there."
    )
    parting.caption(store, choice.model_id, applied[0])
    with door:
        operation = selection.pick(OPERATION, "Operation", show=lambda name: OPERATIONS[name].words)
        places = [name for name in PLACES if subject.chunk is not None or not PLACES[name].of_chunk]
        place = selection.pick(
            PLACE,
            "Where",
            places,
            show=lambda name: PLACES[name].words,
            help=(
                "The token before the chunk (the anchor); every token that predicts one of the chunk's; everything from"
                " the anchor on, what is written included; or the prompt."
            ),
        )
        gate, gate_problem = _gate(store, choice, applied, layers)
    problem = problem or gate_problem
    direction, waits_for = None, None
    if problem is None and spec is not None:
        direction, problem, waits_for = _made(store, subject, choice, spec, facts["d_model"])
    codes = None if direction is None else codes_of(store, direction)
    unit, beta, beta_problem = _magnitude(door, operation, facts["d_model"], facts["rms"][applied[0]], codes)
    problem = problem or beta_problem
    if direction is not None and codes is not None:
        _say_what_a_code_is(direction, codes, unit, beta)
    intervention = None
    if direction is not None and problem is None:
        try:
            intervention = Intervention(
                tuple(range(applied[0], applied[1] + 1)), place, operation, direction.vector, beta, unit, gate
            )
            intervention.edits(facts["span"], n_prompt=facts["n_prompt"])
        except AnchorscopeError as error:
            intervention, problem = None, str(error)
    return Plan(
        intervention,
        direction,
        words,
        spec.layer if spec else None,
        sources,
        opened,
        problem,
        waits_for,
        selection.values(),
        _reach(unit, usual_beta(unit, facts["d_model"], facts["rms"][applied[0]], codes), codes)[0],
    )


def _layers(store: Store, n_layers: int) -> tuple[int, int]:
    """The first and the last changed layer: the layer chosen for every page, and on to the last that is chosen; half
    depth where none is chosen and the study has none, and the last block where the model has fewer.
    """
    wanted = chosen_stream.chosen(store)
    layer = n_layers // 2 if wanted is None or wanted.layer is None else wanted.layer
    if layer >= n_layers:
        selection.stand_in(LAYER, f"layer {layer}", f"layer {n_layers - 1}, the last of this model")
        layer = n_layers - 1
    through = selection.get(THROUGH)
    if through is None:
        return layer, layer
    if not (through.isascii() and through.isdecimal() and len(through) < 5 and layer <= int(through) < n_layers):
        selection.forget_unknown(THROUGH)
        return layer, layer
    return layer, int(through)


def _choose_layers(choice: Choice, first: int, last: int) -> None:
    selection.choose({MODEL: choice.model_id, LAYER: str(first), THROUGH: None if last == first else str(last)})


def _direction_controls(
    store: Store,
    subject: Subject,
    choice: Choice,
    layers: list[int],
    applied: tuple[int, int],
    facts: Mapping[str, Any],
) -> tuple[DeltaGenerator, DirectionSpec | None, str, tuple[str, ...], str | None]:
    """The door to what few change, how the direction is made, what it is called, the chunks it comes from, and what is
    wrong, if anything.
    """
    asked = _Asked(
        store,
        subject,
        choice.model_id,
        facts,
        store.tag_sources(),
        _dictionaries(store, choice),
        *_vectors(store, choice, facts),
    )
    there = {
        "chunk_id": subject.chunk is not None,
        "chunk_a": subject.chunk is not None,
        "tags": bool(asked.tags),
        "dictionary_id": len(asked.dictionaries) > 0,
        "vector_id": len(asked.vectors) > 0,
    }
    offered = {
        kind: how
        for kind, how in kinds_by_hand().items()
        if (layers or not how.of_study) and all(there.get(need, True) for need in how.needs)
    }
    usual = max(offered, key=lambda kind: offered[kind].preference)
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    with row:
        kind = selection.pick(
            DIRECTION,
            "Direction",
            list(offered),
            default=usual,
            show=direction_words,
            help="\n".join(f"- {direction_words(name)}: {DIRECTION_KINDS[name].help}" for name in offered),
        )
        own = st.container(width="content")
        door = more(*MADE_BY, OPERATION, PLACE, WHILE, UNIT)
    how = offered[kind]
    if not {"dictionary_id", "vector_id"} & set(how.needs):  # which are of a layer
        with door:
            asked.fields["layer"] = _source_layer(kind, layers, applied, facts["n_layers"])
    for need in how.needs:
        if need not in asked.fields and asked.problem is None:
            control = control_of(need)
            with own if control.is_asked else door:
                control.show(asked)
    if asked.problem is not None:
        return door, None, "", (), asked.problem
    spec = DirectionSpec(kind, choice.model_id, **asked.fields)
    return door, spec, how.phrase.format(**asked.fields | asked.names), asked.sources, None


@dataclass
class _Asked:
    """What a direction's controls have to choose from, and what has been chosen."""

    store: Store
    subject: Subject
    model_id: str  # that is steered
    facts: Mapping[str, Any]
    tags: list[str]  # who tagged the chunks
    dictionaries: pd.DataFrame
    vectors: pd.DataFrame  # of the library, that fit
    elsewhere: pd.DataFrame  # of the library, that do not
    fields: dict[str, Any] = field(default_factory=dict)  # of DirectionSpec
    names: dict[str, str] = field(default_factory=dict)  # by field: what a sentence calls it, if not by its value
    sources: tuple[str, ...] = ()  # chunks that the vector comes from
    problem: str | None = None


def _pick_chunk(asked: _Asked) -> None:
    chunks, store = asked.subject.chunks, asked.store
    of, asked.names["chunk_id"] = pick_chunk(FROM, "Vector from", chunks, store, default=asked.subject.chunk)
    asked.fields["chunk_id"], asked.sources = of, (*asked.sources, of)


def _pick_other_chunk(asked: _Asked) -> None:
    usual = _neighbour(asked.subject)
    other, name = pick_chunk(MINUS, "minus", asked.subject.chunks, asked.store, default=usual)
    asked.fields["other_chunk_id"], asked.names["other_chunk_id"] = other, name
    asked.sources = (*asked.sources, other)


def _pick_three_chunks(asked: _Asked) -> None:
    for name, (choice, label) in CHUNKS_OF_ANALOGY.items():
        usual = _neighbour(asked.subject) if name == "chunk_a" else asked.subject.chunk
        found = pick_chunk(choice, label, asked.subject.chunks, asked.store, default=usual)
        asked.fields[name], asked.names[name] = found
        asked.sources = (*asked.sources, found[0])


def _pick_category(asked: _Asked) -> None:
    asked.fields["tags"] = selection.checked(TAGS, asked.tags)
    about = selection.pick(CATEGORY, "Category", show=category)
    asked.fields["category"], chunks = about, asked.subject.chunks
    asked.sources = (*asked.sources, *chunks.loc[chunks["category"] == about, "chunk_id"])


def _pick_component(asked: _Asked) -> None:
    asked.fields["component"] = int(selection.pick(COMPONENT, "Component"))


def _pick_seed(asked: _Asked) -> None:
    asked.fields["seed"] = selection.pick_whole(DRAWN, "Seed of the direction")


def _pick_dictionary(asked: _Asked) -> None:
    dictionary = _dictionary(asked.dictionaries)
    asked.fields |= {"layer": int(dictionary["layer"]), "dictionary_id": dictionary["dictionary_id"]}


def _pick_feature(asked: _Asked) -> None:
    dictionary = _picked_dictionary(asked)
    asked.fields["feature"] = selection.pick_whole(FEATURE, "Feature", 0, high=int(dictionary["n_features"]) - 1)
    if chosen_dictionary.compares(dictionary):
        _pick_decoder(asked, dictionary)


def _pick_three_features(asked: _Asked) -> None:
    most = int(_picked_dictionary(asked)["n_features"]) - 1
    for name, (choice, label) in FEATURES_OF_ANALOGY.items():
        asked.fields[name] = selection.pick_whole(choice, label, 0, high=most)


def _picked_dictionary(asked: _Asked) -> pd.Series:
    return asked.dictionaries.set_index("dictionary_id", drop=False).loc[asked.fields["dictionary_id"]]


def _pick_three_words(asked: _Asked) -> None:
    for name, (choice, label) in WORDS_OF_ANALOGY.items():
        word = (selection.get(choice) or "").strip()
        st.text_input(label, max_chars=MAX_WORD, **selection.following(f"word_{name}", word, _taker_of(choice)))
        asked.fields[name], asked.names[name] = word, one_line(word, 30)
    asked.fields["context"] = selection.pick(CONTEXT, "Words are read", show=CONTEXTS.__getitem__)
    if not all(asked.fields[name] for name in WORDS_OF_ANALOGY):
        asked.problem = "Type three words, each one token of the model: b − a + c."


def _taker_of(field: Field) -> Callable[[str], None]:
    return lambda said: selection.choose({field: said.strip() or None})


def _pick_decoder(asked: _Asked, dictionary: pd.Series) -> None:
    """Whose decoder row is put into the model that is steered: its own, or the other's as it is."""
    roles = chosen_dictionary.roles(dictionary)
    own = roles[asked.model_id]
    options = [own, *(role for role in DECODER.options if role != own)]
    role = selection.pick(
        DECODER,
        "Decoder row",
        options,
        default=own,
        show=lambda role: decoder_words(role, own),
        help=(
            "A crosscoder has a decoder row for each model. The other model's row is the same vector with the same norm"
            " in both models, as where one vector is put into two; each model's own row is what the feature is there."
        ),
    )
    if role != own:
        asked.fields["decoder"] = next(model for model, of in roles.items() if of == role)
        asked.names["feature"] = f"{asked.fields['feature']} in the {role_words(role)} (same vector, same norm)"


def _pick_file(asked: _Asked) -> None:
    found = _file(asked.fields["layer"], asked.facts)
    if isinstance(found, str):
        asked.problem = found
    else:
        asked.fields |= found
        asked.names |= {name: one_line(found[name], 40) for name in ("file", "key")}


def _pick_vector(asked: _Asked) -> None:
    rows = asked.vectors.set_index("vector_id")
    names = {vector: f"{one_line(row['name'], 60)}, layer {row['layer']}{row['of']}" for vector, row in rows.iterrows()}
    elsewhere = {row.vector_id: one_line(row.name, 60) for row in asked.elsewhere.itertuples()}
    chosen = selection.pick(VECTOR, "Vector", list(names), elsewhere=elsewhere, show=(elsewhere | names).__getitem__)
    asked.fields |= {"vector_id": chosen, "layer": int(rows["layer"][chosen])}
    asked.names["vector_id"] = f"“{one_line(rows['name'][chosen], 60)}”"


@dataclass(frozen=True)
class _Control:
    show: Callable[[_Asked], None]
    is_asked: bool = False  # in sight: what only the person knows, as the number of a feature


_CONTROLS = {  # by field of DirectionSpec; some fill in several
    "chunk_id": _Control(_pick_chunk),
    "other_chunk_id": _Control(_pick_other_chunk),
    "chunk_a": _Control(_pick_three_chunks),
    "chunk_b": _Control(_pick_three_chunks),
    "chunk_c": _Control(_pick_three_chunks),
    "component": _Control(_pick_component),
    "category": _Control(_pick_category),
    "tags": _Control(_pick_category),
    "seed": _Control(_pick_seed),
    "dictionary_id": _Control(_pick_dictionary),
    "feature": _Control(_pick_feature, is_asked=True),
    "feature_a": _Control(_pick_three_features),
    "feature_b": _Control(_pick_three_features),
    "feature_c": _Control(_pick_three_features),
    "word_a": _Control(_pick_three_words, is_asked=True),
    "word_b": _Control(_pick_three_words, is_asked=True),
    "word_c": _Control(_pick_three_words, is_asked=True),
    "vector_id": _Control(_pick_vector, is_asked=True),
    "file": _Control(_pick_file, is_asked=True),
    "key": _Control(_pick_file, is_asked=True),
    "sha256": _Control(_pick_file, is_asked=True),
}


def control_of(need: str) -> _Control:
    """The control for a field of DirectionSpec. Raises AnchorscopeError for a field that has none."""
    if need not in _CONTROLS:
        raise AnchorscopeError(f"There is no control for {need}; a direction can need {', '.join(_CONTROLS)}.")
    return _CONTROLS[need]


def _dictionaries(store: Store, choice: Choice) -> pd.DataFrame:
    """The study's dictionaries that have a decoder for this model."""
    found = pd.DataFrame(store.whole_table("dictionaries").to_pylist(), columns=list(TABLES["dictionaries"].columns))
    return found[(found["base_model_id"] == choice.model_id) | (found["distilled_model_id"] == choice.model_id)]


def _vectors(store: Store, choice: Choice, facts: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The library's vectors that fit this model's residual stream, with words (`of`) where one was kept for another
    model; and those that do not.
    """
    found = Library(store.path).vectors()
    fits = (found["d_model"] == facts["d_model"]) & (found["layer"] < facts["n_layers"])
    others = [f", of {called(store, model)}" for model in found["model"]]
    found = found.assign(of=np.where(found["model_id"] == choice.model_id, "", others))
    return found[fits], found[~fits]


def _dictionary(found: pd.DataFrame) -> pd.Series:
    """The one whose feature is the direction."""
    by_id = found.set_index("dictionary_id", drop=False)
    if len(by_id) == 1:
        return by_id.loc[selection.checked(DICTIONARY, list(by_id.index))]
    names = {row.Index: f"{row.kind}, layer {row.layer}, {row.n_features:,} features" for row in by_id.itertuples()}
    return by_id.loc[selection.pick(DICTIONARY, "Dictionary", list(names), show=names.__getitem__)]


@dataclass(frozen=True)
class Codes:
    """How strongly a feature fires in the study, as steps along its decoder row: a code times the row's norm. Unknown
    is NaN.
    """

    norm: float  # of the row: what a code of 1 adds
    mean: float  # code when it fires
    largest: float

    @property
    def usual(self) -> float:
        """β at first, absolute: some times what the feature adds when it fires; where that is unknown, a code of so
        many.
        """
        return USUAL_CODES * self.norm * (1.0 if math.isnan(self.mean) else self.mean)

    def in_words(self, step: float) -> str:
        """What an absolute step is in codes."""
        if math.isnan(self.mean) or not self.mean:
            return f"a code of {figure(step / self.norm)}"
        return f"{step / (self.norm * self.mean):.2g} × its mean code"


def codes_of(store: Store, made: Direction) -> Codes | None:
    """Of a feature's direction; None for any other."""
    if made.kind != "feature":
        return None
    about = json.loads(made.parameters)
    row = store.features(about["dictionary"]).set_index("feature").reindex([about["feature"]]).iloc[0]
    return Codes(made.norm, float(row["mean_activation"]), float(row["max_activation"]))


def chosen_feature(store: Store, choice: Choice) -> Direction | None:
    """The feature's direction that is chosen, where one is and this model can be steered along it."""
    found = _dictionaries(store, choice)
    if selection.get(DIRECTION) != "feature" or found.empty:
        return None
    by_id = found.set_index("dictionary_id", drop=False)
    dictionary = by_id.loc[selection.in_force(DICTIONARY, list(by_id.index))]
    feature = chosen_dictionary.feature(dictionary, default=0)
    role, roles = selection.get(DECODER), chosen_dictionary.roles(dictionary)
    decoder = next((model for model, of in roles.items() if of == role), None)
    name, layer = dictionary["dictionary_id"], int(dictionary["layer"])
    spec = DirectionSpec("feature", choice.model_id, layer, dictionary_id=name, feature=feature, decoder=decoder)
    return make_direction(store, spec)


def _say_what_a_code_is(made: Direction, codes: Codes, unit: str, beta: float) -> None:
    """The unit and norm of a feature's direction, how strongly it fires in the study, and what β is of that."""
    fires = (
        "How strongly it fires in the study is not measured."
        if math.isnan(codes.mean)
        else (
            f"When it fires in the study its code is {figure(codes.mean)} in the mean and {figure(codes.largest)} at"
            f" most, which is β = {figure(codes.mean * codes.norm)} and {figure(codes.largest * codes.norm)} absolute."
        )
    )
    whose = "of the other model, as it is" if "decoder" in json.loads(made.parameters) else "of this model"
    now = f"β = {codes.in_words(beta)}." if unit == "absolute" else f"β here counts {unit_words(unit)}."
    st.caption(
        f"The decoder row {whose}, in units of the residual stream: its norm is {figure(codes.norm)}, which a code of 1"
        f" adds, so β = {figure(codes.norm)} absolute is a code of 1. {fires} {now}"
    )


def _source_layer(kind: str, stored: list[int], applied: tuple[int, int], n_layers: int) -> int:
    """Where the vector is made: at the changed layer where it can be, else at the stored one nearest to it, which the
    sentence says.
    """
    options = stored if kinds_by_hand()[kind].of_study else list(range(n_layers))
    nearest = min(options, key=lambda layer: abs(layer - applied[0]))
    if DIRECTION_KINDS[kind].is_drawn:  # it is the same everywhere
        return nearest
    every = [str(layer) for layer in range(n_layers)]
    return int(
        selection.pick(MADE, "Made at layer", [str(layer) for layer in options], default=str(nearest), elsewhere=every)
    )


def _neighbour(subject: Subject) -> str:
    """The chunk before this one, or after the first."""
    ids = list(subject.chunks["chunk_id"])
    here = ids.index(subject.chunk)
    return ids[here - 1] if here else ids[min(1, len(ids) - 1)]


def _file(layer: int, facts: Mapping[str, Any]) -> dict[str, Any] | str:
    """The fields of a direction from a file, or why there is none."""
    given = st.file_uploader(
        "Vector file",
        type=["safetensors", "pt", "pth", "npz", "npy", "gguf"],
        key=keys.of(_UPLOAD),
        max_upload_size=_LARGEST_FILE,
        help=(
            "safetensors, .pt (weights only), .npz, .npy, or a control vector in GGUF (repeng, llama.cpp). Nothing in"
            " it is run."
        ),
    )
    if given is None:
        return "Choose a file with a vector."
    from backend.geometry.direction_files import candidates_in, read_direction

    try:
        entries = candidates_in(given.getvalue(), given.name)
        names = {entry.key: f"{one_line(entry.key, 40)} {tuple(entry.shape)}{_said_place(entry)}" for entry in entries}
        usual = next((i for i, entry in enumerate(entries) if entry.layer == layer), 0)
        key = st.selectbox(
            "Entry",
            list(names),
            index=usual,
            format_func=names.__getitem__,
            key=keys.of(f"direction_entry_{given.file_id}"),
        )
        entry, of = (
            next(entry for entry in entries if entry.key == key),
            {"d_model": facts["d_model"], "n_layers": facts["n_layers"]},
        )
        row = None
        if rows := entry.rows(**of):
            row = st.selectbox(
                "Row",
                list(rows),
                index=None,
                format_func=rows.__getitem__,
                placeholder="Choose a row",
                key=keys.of(f"direction_row_{given.file_id}_{key}"),
            )
        found = read_direction(given.getvalue(), given.name, key=key, layer=layer, row=row, **of)
    except AnchorscopeError as error:
        return str(error)
    st.session_state["direction_vector"] = found.given
    if found.layer not in (None, layer):
        st.caption(f"The file says that this vector is of layer {found.layer}: it counts as made there.")
        layer = found.layer
    return {"layer": layer, "file": found.name, "key": found.key, "sha256": found.sha256, "norm": found.norm}


def _said_place(entry: "Entry") -> str:
    """Where the file says that a vector is from, for the list of its entries."""
    if entry.fault is not None:
        return ", not of the residual stream after a block"
    return "" if entry.layer is None else f", layer {entry.layer}"


def _made(
    store: Store, subject: Subject, choice: Choice, spec: DirectionSpec, d_model: int
) -> tuple[Direction | None, str | None, str | None]:
    """The direction, or why there is none, or the reading of the text that it waits for."""
    extra: dict[str, np.ndarray] | None = None
    if any(spec.layer not in set(store.activation_at(name, choice.model_id)["layer"]) for name in spec.chunks):
        status = live.read(choice, Open(subject.text, subject.chunk, (spec.layer,), floor=False))
        if status.error:
            return None, status.error, None
        if "activations" not in status.result:
            return None, None, status.ticket_id
        extra = status.result["activations"][spec.layer]
    words: dict[str, np.ndarray] | None = None
    if spec.words:
        status = live.read(choice, Words(spec.words, spec.layer, spec.context or USUAL))
        if status.error:
            return None, status.error, None
        if "vectors" not in status.result:
            return None, None, status.ticket_id
        words = status.result["vectors"]
    try:
        vector = st.session_state.get("direction_vector") if spec.file is not None else None
        made = make_direction(store, spec, activations=extra, words=words, vector=vector, d_model=d_model)
        return made, None, None
    except AnchorscopeError as error:
        return None, str(error), None


def _gate(store: Store, choice: Choice, applied: tuple[int, int], layers: list[int]) -> tuple[Gate | None, str | None]:
    """Only while: a category that the token's residual stream leans to."""
    options = ["always"]
    tags = selection.checked(TAGS, store.tag_sources())
    if tags and applied[0] == applied[1] and applied[0] in layers:
        options += TAGGED
    chosen = selection.pick(
        WHILE,
        "Only while",
        options,
        show=lambda name: "always" if name == "always" else f"it leans to {category(name).lower()}",
        help=(
            "Token by token: only where the residual stream at this layer projects beyond halfway between the mean"
            " chunk of the category and the mean of the rest. For one layer with stored activations."
        ),
    )
    if chosen == "always" or tags is None:
        return None, None
    try:
        found = category_gate_of(store, choice.model_id, applied[0], chosen, tags)
    except AnchorscopeError as error:
        return None, str(error)
    st.caption(
        f"opens for {found.true_share:.0%} of {found.n_category} chunks of the category and {found.false_share:.0%} of"
        f" {found.n_rest} others, each judged by the means of the rest"
    )
    return found.gate, None


def _magnitude(
    door: DeltaGenerator, operation: str, d_model: int, rms: float, codes: Codes | None
) -> tuple[str, float, str | None]:
    """Unit and β, with what β is in shares of the residual norm; `rms` is that of the residual stream where it is
    steered.
    """
    with door:
        usual_unit = None if codes is None else "absolute"
        unit = selection.pick(UNIT, "β in", default=usual_unit, show=lambda name: UNITS[name].short)
    if not OPERATIONS[operation].has_magnitude:
        st.caption("Removing the component has no magnitude.")
        return unit, 0.0, None
    text = selection.get(BETA)
    try:
        beta = usual_beta(unit, d_model, rms, codes) if text is None else float(text)
    except ValueError:
        beta = math.nan
    problem = (
        None
        if math.isfinite(beta)
        else f"β is “{one_line(str(text), 20)}”; a number was expected. Move the slider to choose one."
    )
    limit, step = _reach(unit, usual_beta(unit, d_model, rms, codes), codes)

    def take(value: float) -> None:
        selection.choose({BETA: f"{value:g}"})

    shown = beta if math.isfinite(beta) else 0.0
    with st.container(key=keys.of("beta_slider")):
        slide = selection.following(f"beta_slide_{unit}", float(np.clip(shown, -limit, limit)), take)
        st.slider("Magnitude β", -limit, limit, step=step, format="%+g", **slide)
    with door:
        st.number_input("β, exactly", step=step, format="%g", **selection.following("beta_typed", float(shown), take))
    if (share_of := UNITS[unit].share) is not None and problem is None:
        share = abs(beta) * share_of(d_model)
        how = "moved" if OPERATIONS[operation].zero_changes_nothing else "measured"
        st.caption(f"Every changed position is {how} by {share:.1%} of its own norm.")
    return unit, beta, problem


def usual_beta(unit: str, d_model: int, rms: float, codes: Codes | None) -> float:
    """β where none is chosen: of a feature, its own mean code some times over; else some RMS of the residual stream.

    Either is enough to move the predictions: docs/methods.md has what it did in the embedded models.
    """
    share, usual = UNITS[unit].share, UNITS[unit].usual
    if codes is not None and share is not None:
        usual = codes.usual / (share(d_model) * math.sqrt(d_model) * rms)
    elif math.isnan(usual):
        usual = USUAL_RMS * rms if codes is None else codes.usual
    return float(f"{usual:.3g}")


def _reach(unit: str, usual: float, codes: Codes | None) -> tuple[float, float]:
    """How far β goes either way, and by what steps; of a feature in absolute units twice the usual, in sixteenths."""
    if codes is not None and math.isnan(UNITS[unit].usual) and usual:
        return 2 * abs(usual), abs(usual) / 8
    step = UNITS[unit].step
    return max(UNITS[unit].most, step * math.ceil(abs(usual) / step)), step


def offer_to_keep(store: Store, choice: Choice, plan: Plan) -> None:
    """A name, and a button that keeps the plan's direction in the library; nothing where it is there already."""
    made = plan.direction
    if made is None or made.kind == "library":
        return
    about = json.loads(made.parameters)
    if made.kind == "file":
        st.caption(
            "This vector is in this browser tab alone, and a link opens without it: keep it to have it in links."
        )
    usual = f"{about['file'].rpartition('.')[0]} {about['key']}" if made.kind == "file" else plan.words
    with st.popover("Keep this vector", icon=":material/bookmark_add:"), st.form(keys.of("keep_vector"), border=False):
        name = st.text_input(
            "Name", usual[:LONGEST_NAME], max_chars=LONGEST_NAME, key=keys.of(f"name_{made.direction_id}")
        )
        if not st.form_submit_button("Keep in the library", type="primary"):
            return
        try:
            kept = KeptVector(
                name,
                choice.model_id,
                choice.model.name,
                plan.opened.result.get("revision"),
                made.layer,
                _as_given(made),
                made.kind,
                {"words": plan.words, "parameters": about},
            )
            chosen = Library(store.path).keep(kept)
        except AnchorscopeError as error:
            show(str(error))
            return
    selection.choose({DIRECTION: "library", VECTOR: chosen})
    selection.rerun()


def _as_given(made: Direction) -> np.ndarray:
    """The vector as it is in its file; of one made here, the unit vector at its length. Raises AnchorscopeError."""
    if made.kind != "file":
        return (made.vector.astype(np.float64) * made.norm).astype(np.float32)
    given = st.session_state.get("direction_vector")
    if given is None:
        raise AnchorscopeError("The file is not here any more: choose it again.")
    return given


def about_run(
    subject: Subject, choice: Choice, plan: Plan | None, words: str, *, stored: pd.DataFrame | None = None
) -> About:
    """What the page knows of a run; `plan` is None where a sentence is reworded."""
    about = About(
        choice.model_id,
        choice.model.name,
        words,
        None,
        {},
        cot_id=subject.cot,
        chunk_id=subject.chunk if subject.cot else None,
        written_by=subject.written_by,
        stored=stored,
        view=dict((plan and plan.view) or selection.values()),
    )
    if plan is None:
        return about
    made = plan.direction
    assert made is not None  # there is no run without one
    direction = {
        "words": plan.words,
        "layer": plan.source_layer,
        "norm": made.norm,
        "direction_id": made.direction_id,
        "parameters": made.parameters,
    }
    controls = {"kind": "random", "n": N_CONTROLS, "seed": CONTROL_SEED, "layer": plan.source_layer}
    return replace(about, direction_kind=made.kind, direction=direction, controls=controls)
