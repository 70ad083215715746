"""On which tokens features are counted, and how many those are."""

import pandas as pd
import streamlit as st

from app.shared import chosen_dictionary
from app.shared.views import Here
from app.shell import selection
from app.shell.fields import Field, declare
from app.shell.untrusted import show
from backend.cot.reasoning import TARGETS
from backend.store.store import Store

SCHEMES = {"reasoning": "the target words' first tokens", "before_reasoning": "the tokens that predict them"}
SCHEME = declare(Field("firing_on", "tokens that features are counted on", SCHEMES))


def scheme(here: Here) -> str:
    """On which tokens features are counted."""
    words = "; ".join(f"{name}: {', '.join(targets)}" for name, targets in TARGETS.items())
    return selection.pick(
        SCHEME,
        "Firing on",
        show=SCHEMES.__getitem__,
        widget=st.segmented_control,
        required=True,
        help=(
            f"Target words ({words}) in the study's CoTs, in any case, without prompts. What fires on a word itself"
            " says how the model reads it; only what fires before it can have a part in writing it."
        ),
    )


def counted(store: Store, dictionary: pd.Series) -> None:
    """How many tokens the frequencies rest on."""
    judged = (
        "not measured yet"
        if pd.isna(dictionary.n_judged)
        else f"measured on {int(dictionary.n_judged):,} tokens of the study's CoTs"
    )
    show(f"{chosen_dictionary.named(store, dictionary)}, {judged}")
