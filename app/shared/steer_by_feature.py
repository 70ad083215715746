"""From a feature to the Steering page: its decoder row becomes the direction there, with its unit and norm."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shell import keys, navigation, selection, studies
from app.shell.untrusted import show
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DirectionSpec
from backend.geometry.direction_library import make_direction
from backend.store.store import Store


def steer_by(store: Store, dictionary: pd.Series, features: Sequence[int], *, label: str) -> None:
    """A button that asks which of the features, and whose decoder, and goes there."""
    with st.popover(label, icon=":material/tune:", disabled=not features):
        st.caption(
            "Its decoder row becomes the direction there: not its code on each token is changed, but the same vector is"
            " added wherever the page says, times a β of yours. β begins at what the feature adds when it fires at its"
            " mean."
        )
        roles = chosen_dictionary.roles(dictionary)
        feature = st.selectbox("Feature", features, key=keys.of("steer_by"))
        model_id = st.selectbox(
            "Decoder of", list(roles), index=len(roles) - 1, format_func=roles.__getitem__, key=keys.of("steer_in")
        )
        if st.button("Open on the Steering page", key=keys.of("open_steering")) and feature is not None:
            try:
                _go(store, dictionary, int(feature), model_id)
            except AnchorscopeError as error:
                show(str(error))


def _go(store: Store, dictionary: pd.Series, feature: int, model_id: str) -> None:
    """Raises AnchorscopeError where the feature's weights cannot be read."""
    layer, name = int(dictionary.layer), dictionary.dictionary_id
    made = make_direction(store, DirectionSpec("feature", model_id, layer, dictionary_id=name, feature=feature))
    rows = studies.ask(store.features, dictionary_id=name).set_index("feature")
    mean = rows["mean_activation"].reindex([feature]).iloc[0]
    beta = made.norm * (1.0 if pd.isna(mean) else float(mean))
    selection.choose(
        {chosen_dictionary.DICTIONARY: name, chosen_dictionary.FEATURE: str(feature)},
        direction="feature",
        model=model_id,
        layer=str(layer),
        last_layer=None,
        operation="add",
        steered_where="onward",
        unit="absolute",
        beta=f"{beta:.3g}",
        run=None,
        second_run=None,
        only_while=None,
    )
    navigation.go_to(navigation.STEERING)
