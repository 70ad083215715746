"""That a null of a dictionary was not trained, what is therefore not known, and the line that has it trained."""

import pandas as pd
import streamlit as st

from app.shell import studies
from app.shell.missing import say, undone
from backend.store.store import Store

ASK = 'nulls = ["same", "noise", "frozen_encoder", "frozen_decoder", "planted"]'


def say_untrained(dictionary: pd.Series, wanted: str, unknown: str) -> None:
    """`wanted` in words, such as null pair; `unknown` says, without its full stop, what is not known without it."""
    if not isinstance(dictionary.training_id, str):
        st.info(
            f"No {wanted} stands beside this dictionary, because it was read from a file, and a null is the same"
            f" training. So {unknown}."
        )
        return
    st.info(
        f"No {wanted} was trained beside this dictionary, so {unknown}. Add this line to its table [crosscoder] in the"
        " study file, and run it again:"
    )
    st.code(ASK, language="toml")


def say_undone(
    store: Store, dictionary: pd.Series, stage: str, wanted: str, unknown: str, kinds: tuple[str, ...]
) -> None:
    """What `stage` would say of nulls of these kinds is not there: they were not trained, or it has not run since."""
    nulls = studies.ask(store.null_dictionaries, dictionary_id=dictionary.dictionary_id)
    if nulls["null"].isin(kinds).any():
        say(undone(store.path, stage))
    else:
        say_untrained(dictionary, wanted, unknown)
