"""A text token by token, each tinted by what one feature does there, and clickable: our own browser component."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.shared.clicks import reported
from app.shell.numbers import number

_HERE = Path(__file__).parent


def token_text(
    tokens: Sequence[str],
    codes: Mapping[int, float],
    *,
    key: str,
    colour: str,
    n_prompt: int,
    selected: int | None,
    marked: range,
    on_token: Callable[[int], None],
    first: int = 0,
) -> None:
    """Show `tokens` (texts, of positions `first` on) tinted by `codes` (by position); call `on_token` with the position
    of one clicked.

    Prompt tokens are pale; the `selected` one is framed, those in `marked` are underlined, and the text is scrolled
    there.
    """

    def clicked() -> None:
        position = reported(key, "token")
        if type(position) is int and first <= position < first + len(tokens):
            on_token(position)

    data = {
        "tokens": tinted(tokens, codes, first),
        "first": first,
        "n_prompt": n_prompt,
        "selected": selected,
        "colour": colour,
        "marked": [marked.start, marked.stop],
    }
    _component()(key=key, data=data, on_token_change=clicked)


def tinted(tokens: Sequence[str], codes: Mapping[int, float], first: int) -> list[list[Any]]:
    """[text, strength from 0 to 1, words of the hover] of each token; the strength is the size of its code over the
    largest one shown.
    """
    largest = max((abs(codes.get(first + at, 0.0)) for at in range(len(tokens))), default=0.0)
    return [
        [
            text,
            round(abs(codes.get(position, 0.0)) / largest, 4) if largest else 0.0,
            f"token {position}, f {number(codes.get(position, 0.0))}",
        ]
        for position, text in enumerate(tokens, start=first)
    ]


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any]:
    html, css, js = ((_HERE / f"token_text.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("anchorscope_token_text", html=html, css=css, js=js)
