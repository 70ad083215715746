"""Buttons that put a text on the clipboard, as it is: our own browser component."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import keys

_HERE = Path(__file__).parent


def copy_buttons(texts: Mapping[str, str], *, key: str) -> None:
    """One button a text, by what it is called. An empty text has none."""
    _component()(key=keys.of(key), data={"texts": [[name, text] for name, text in texts.items() if text]})


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"copy.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_copy", html=html, css=css, js=js)
