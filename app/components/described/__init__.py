"""Names and words for what a page draws: every chart says what it shows to who hears the page, and whatever scrolls can
be reached by keyboard. One component, unseen, for all pages: no figure and no view has to think of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


def describe() -> None:
    """Put it on the page; it goes on by itself while the page changes."""
    with st.container(key="described"):
        _component()(key="described_charts")


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    return st.components.v2.component("anchorscope_described", js=(_HERE / "described.js").read_text(encoding="utf-8"))
