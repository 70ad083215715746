"""The door to the settings that few change: a page shows four controls at most, and the rest of each row behind it."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shell import selection
from app.shell.fields import Field

MOST = 4  # controls in sight on a page that is opened for the first time
LABEL = "More"


def more(*fields: Field) -> DeltaGenerator:
    """The popover for the controls of these choices; it says how many of them are not as they are at first."""
    n_changed = sum(selection.get(field) not in (None, field.default) for field in fields)
    return st.popover(f"{LABEL} ({n_changed})" if n_changed else LABEL, icon=":material/tune:")
