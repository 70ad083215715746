"""Text that a model or a file wrote, on its way to the screen.

Streamlit's Markdown fetches remote images and its HTML runs script, so such text goes only through `st.text`,
`st.code`, `data_table` (no link columns) and `textContent` in our components; in a label or a caption, through
`for_markdown`. Plotly interprets a little HTML and LaTeX in titles and hovers: `for_plotly` makes a text mean itself
there.
"""

import re
import textwrap
from typing import Literal

import streamlit as st

from backend.plain import plain


def for_plotly(text: str, *, limit: int = 200, width: int = 60) -> str:
    """`text` on lines of `width` characters, shortened to `limit`, so that Plotly shows exactly these characters."""
    flat = one_line(text, limit)
    lines = [flat] if len(flat) <= width else textwrap.wrap(flat, width)
    return "<br>".join(_escaped(line) for line in lines)


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, an ellipsis where something is left out."""
    flat = re.sub(r"\s+", " ", plain(text)).strip()
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def visible(token: str) -> str:
    """A token on one line, every space and line break of it seen: "␣the", "↵"."""
    shown = plain(token).replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣")
    return re.sub(r"\s", "␣", shown) or "(no text)"


def for_markdown(text: str, limit: int = 120) -> str:
    """`text` on one line, so that Markdown shows exactly these characters: for labels and captions, which are Markdown
    whatever is done.

    A mark that cannot be seen stands after each colon, since emoji codes and addresses are found after the signs were
    escaped.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", one_line(text, limit)).replace(":", ":\u2060")


def show(text: str) -> None:
    """The text as running words."""
    st.text(plain(text))


def show_exactly(text: str, *, height: int | Literal["stretch", "content"] = "content") -> None:
    """The text with every space and line break it has, in a box that can be copied from."""
    st.code(text, language=None, wrap_lines=True, height=height)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
