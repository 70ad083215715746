"""All keys of the dashboard in one place, and the sheet that shows them (`?`): our own browser component."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException

from app.shared.clicks import heard, told
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
        before, again = heard(key), None
        for at, name in _presses(told(key, "pressed")):
            if at > before:
                try:
                    on_key(name)
                except RerunException as asked:  # a key pressed after it counts too
                    again = asked
        if again is not None:
            raise again

    _component()(key=key, data={"keys": listed, "heard": heard(key)}, on_pressed_change=pressed)


def _presses(said: Any) -> list[tuple[float, str]]:
    """When each key was pressed, and its name, as far as a browser said it in the right form."""
    presses = said if isinstance(said, list) else []
    return [
        (one[0], one[1])
        for one in presses
        if isinstance(one, list) and len(one) == 2 and isinstance(one[0], int | float) and isinstance(one[1], str)
    ]


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"keyboard.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_keyboard", html=html, css=css, js=js)
