"""All keys of the dashboard in one place, and the sheet that shows them (`?`): our own browser component."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.shared.clicks import reported
from app.shell import keys
from app.shell.shortcuts import Shortcut

_HERE = Path(__file__).parent


def keyboard(shortcuts: list[Shortcut], on_key: Callable[[str], None]) -> None:
    """Listen to the keys of these; `on_key` is called with one that something here, and not the browser, acts on."""
    key = keys.of("keyboard")
    listed = [
        {"keys": list(one.pressed), "shown": list(one.shown or one.pressed), "words": one.words, "does": one.does}
        for one in shortcuts
    ]

    def pressed() -> None:
        said = reported(key, "key")
        if isinstance(said, str) and (name := said.partition(" ")[0]):
            on_key(name)

    _component()(key=key, data={"keys": listed}, on_key_change=pressed)


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"keyboard.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_keyboard", html=html, css=css, js=js)
