"""From a quadruple to Steering: b − a + c is kept in the library, and is the direction there."""

import json
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app.shared import live
from app.shared.chosen_vector import VECTOR
from app.shared.waiting import Reading, wait_for
from app.shell import keys, navigation, selection
from app.shell.untrusted import one_line, show
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DIRECTION_KINDS, DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.geometry.directions import Direction
from backend.live.available import Choice
from backend.live.requests import Words, experiment_id
from backend.models.names import short_name
from backend.store.library import LONGEST_NAME, KeptVector, Library
from backend.store.store import Store

_ASKED = "analogy_asked"
_LABEL = "Keep it and steer along it"


def steer_by_words(store: Store, words: tuple[str, str, str], *, model_id: str, layer: int, context: str) -> None:
    """A button that has the model read the words a, b and c, keeps b − a + c, and goes there."""
    choice = _choice(store, model_id)
    if choice is None:
        st.caption("This model is not on this machine, so that its words cannot be read here.")
        return
    request = Words(words, layer, context)
    run_id = experiment_id(model_id, request)
    if st.button(_LABEL, icon=":material/tune:", key=keys.of("analogy_words")):
        st.session_state[_ASKED] = run_id
    if st.session_state.get(_ASKED) != run_id:
        return
    status = live.read(choice, request)
    if "vectors" not in status.result:
        again = partial(live.read, choice, request, again=True)
        wait_for(Reading(status, "Reading the three words", "analogy", again))
    del st.session_state[_ASKED]
    spec = DirectionSpec("analogy", model_id, layer, word_a=words[0], word_b=words[1], word_c=words[2], context=context)
    phrase = f"{words[1]} − {words[0]} + {words[2]}"
    _keep_and_go(store, choice, spec, phrase, words=status.result["vectors"], revision=status.result.get("revision"))


def steer_by_chunks(store: Store, spec: DirectionSpec, phrase: str) -> None:
    """A button that keeps b − a + c of the spec's chunks, and goes there."""
    choice = _choice(store, spec.model_id)
    if choice is None:
        st.caption("This model is not on this machine, so that it cannot be steered here.")
    elif st.button(_LABEL, icon=":material/tune:", key=keys.of("analogy_chunks")):
        _keep_and_go(store, choice, spec, phrase)


def steer_by_features(store: Store, dictionary: pd.Series, features: tuple[int, int, int], *, model_id: str) -> None:
    """A button that keeps b − a + c of the features a, b and c, and goes there."""
    choice = _choice(store, model_id)
    if choice is None:
        st.caption("This model is not on this machine, so that it cannot be steered here.")
        return
    if not st.button(_LABEL, icon=":material/tune:", key=keys.of("analogy_features")):
        return
    a, b, c = map(int, features)
    name, layer = str(dictionary.dictionary_id), int(dictionary.layer)
    spec = DirectionSpec("feature_analogy", model_id, layer, dictionary_id=name, feature_a=a, feature_b=b, feature_c=c)
    _keep_and_go(store, choice, spec, f"features {b} − {a} + {c}")


def _choice(store: Store, model_id: str) -> Choice | None:
    return next((choice for choice in live.steerable(store) if choice.model_id == model_id), None)


def _keep_and_go(
    store: Store,
    choice: Choice,
    spec: DirectionSpec,
    phrase: str,
    *,
    words: dict[str, np.ndarray] | None = None,
    revision: str | None = None,
) -> None:
    try:
        made = make_direction(store, spec, words=words)
        kept = _kept(choice, made, phrase, revision)
        library = Library(store.path)
        known = library.vectors()["vector_id"]
        if not (known == kept.vector_id).any():  # under whatever name
            library.keep(kept)
    except AnchorscopeError as error:
        show(str(error))
        return
    selection.choose(
        {VECTOR: kept.vector_id},
        direction="library",
        model=spec.model_id,
        layer=str(spec.layer),
        last_layer=None,
        run=None,
        second_run=None,
    )
    navigation.go_to(navigation.STEERING)


def _kept(choice: Choice, made: Direction, phrase: str, revision: str | None) -> KeptVector:
    """At its length, with how it was made."""
    role = DIRECTION_KINDS[made.kind].words
    return KeptVector(
        one_line(f"{phrase}, layer {made.layer}, {short_name(choice.model.name)}", LONGEST_NAME),
        choice.model_id,
        choice.model.name,
        revision,
        made.layer,
        (made.vector.astype(np.float64) * made.norm).astype(np.float32),
        made.kind,
        {"words": f"{phrase} ({role})", "parameters": json.loads(made.parameters)},
    )
