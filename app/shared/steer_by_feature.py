"""From a feature to the Steering page: its decoder row becomes the direction there, with its unit and norm."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shell import keys, navigation, selection
from app.shell.untrusted import show
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.models.names import role_words
from backend.store.store import Store


def steer_by(store: Store, dictionary: pd.Series, features: Sequence[int], *, label: str) -> None:
    """A button that asks which of the features, and whose decoder, and goes there."""
    with st.popover(label, icon=":material/tune:", disabled=not features):
        st.caption(
            "Its decoder row becomes the direction there: not its code on each token is changed, but the same vector is"
            " added wherever the page says, times a β of yours. β begins at a few times what the feature adds when it"
            " fires at its mean."
        )
        roles = chosen_dictionary.roles(dictionary)
        feature = st.selectbox("Feature", features, key=keys.of("steer_by"))
        model_id = st.selectbox(
            "Model that is steered",
            list(roles),
            index=len(roles) - 1,
            format_func=lambda name: role_words(roles[name]),
            key=keys.of("steer_in"),
        )
        own = roles[model_id]
        decoder = own
        if chosen_dictionary.compares(dictionary):
            whose = [own, *(role for role in roles.values() if role != own)]
            decoder = st.selectbox(
                "Decoder row",
                whose,
                format_func=lambda role: decoder_words(role, own),
                key=keys.of(f"steer_with_{own}"),
            )
        if st.button("Open on the Steering page", key=keys.of("open_steering")) and feature is not None:
            try:
                _go(store, dictionary, int(feature), model_id, decoder)
            except AnchorscopeError as error:
                show(str(error))


def decoder_words(role: str, own: str) -> str:
    """Whose decoder row it is, as a picker says it where the model that is `own` is steered."""
    whose = "the model's" if role == "model" else f"the {role_words(role)}'s"
    return f"{whose} own" if role == own else f"{whose}: same vector, same norm"


def _go(store: Store, dictionary: pd.Series, feature: int, model_id: str, decoder: str) -> None:
    """Raises AnchorscopeError where the feature's weights cannot be read."""
    layer, name = int(dictionary.layer), dictionary.dictionary_id
    whose = next(model for model, role in chosen_dictionary.roles(dictionary).items() if role == decoder)
    spec = DirectionSpec("feature", model_id, layer, dictionary_id=name, feature=feature, decoder=whose)
    make_direction(store, spec)  # here, so that what is wrong with it is said before the page changes
    selection.choose(
        {chosen_dictionary.DICTIONARY: name, chosen_dictionary.FEATURE: str(feature)},
        vector_decoder=decoder if chosen_dictionary.compares(dictionary) else None,
        direction="feature",
        model=model_id,
        layer=str(layer),
        last_layer=None,
        operation="add",
        steered_where="onward",
        unit="absolute",
        beta=None,
        run=None,
        second_run=None,
        only_while=None,
    )
    navigation.go_to(navigation.STEERING)
