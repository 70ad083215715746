"""Parts of a page that are drawn anew by themselves, and only where something that they read has changed.

1. While a part is drawn, every choice of the selection that it reads is written down, and beside it the value with
   which it was drawn (`noting`). What is read outside of all parts belongs to the page.
2. Whatever changes the selection then asks which parts were drawn with other values (`outdated`): those alone run
   again, or the page does, where it is among them.
3. A part that was cut off before its end is drawn anew with the next change, whatever it had read.
4. While a page is still being drawn nothing is known of it yet, and it runs again as a whole.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, get_script_run_ctx

PAGE = ""  # the name of what is outside of all parts
_DRAWN, _WAITING = "parts_drawn", "parts_waiting"
_CUT_OFF: dict[str, str | None] = {"": "cut off"}  # drawn with what no selection is
_READ: ContextVar[set[str] | None] = ContextVar("choices that are read by the part that is drawn", default=None)
_WITHIN: ContextVar[int] = ContextVar("how many parts what is drawn stands in", default=0)


def begin() -> None:
    """The page is about to be drawn as a whole."""
    st.session_state[_DRAWN], st.session_state[_WAITING] = {}, set()
    _READ.set(set())


def end(values: Mapping[str, str]) -> None:
    """The page was drawn as a whole, the selection being what it is now."""
    _drawn()[PAGE] = _with(_READ.get() or (), values)


def read(*names: str) -> None:
    """These choices are read by what is being drawn."""
    if (names_read := _READ.get()) is not None:
        names_read.update(names)


@contextmanager
def unnoted() -> Iterator[None]:
    """What is read inside is nobody's: what it decides is the same at every value."""
    before = _READ.set(set())
    try:
        yield
    finally:
        _READ.reset(before)


@contextmanager
def noting(part: str, values: Mapping[str, str]) -> Iterator[None]:
    """Write down what is read while the part is drawn; `values` is the selection itself, as it comes to be."""
    before, within = _READ.set(set()), _WITHIN.set(_WITHIN.get() + 1)
    is_whole = True
    try:
        yield
    except RerunException:  # cut off by what the person did meanwhile: what it would have read is not known
        is_whole = False
        raise
    finally:
        _drawn()[part] = _with(_READ.get() or (), values) if is_whole else _CUT_OFF
        if is_whole:
            _waiting().discard(part)
        _READ.reset(before)
        _WITHIN.reset(within)


def outdated(values: Mapping[str, str]) -> list[str] | None:
    """The parts that were drawn with another selection, the page among them; None while that is not known."""
    if PAGE not in _drawn():
        return None
    return [part for part, drawn in _drawn().items() if drawn != _with(drawn, values)]


def has_read(part: str, names: Collection[str]) -> bool:
    """Whether the part has read all these choices."""
    return _drawn().get(part, {}).keys() >= set(names)


def wait_for(parts: list[str]) -> None:
    """These are going to be drawn next."""
    st.session_state[_WAITING] = set(parts)


def is_alone() -> bool:
    """Whether parts run now, and the page does not."""
    run = get_script_run_ctx(suppress_warning=True)
    return run is not None and bool(run.fragment_ids_this_run)


def is_last() -> bool:
    """Whether the part that was just drawn, by itself, is the last of those that run now."""
    return is_alone() and not _waiting() and not _WITHIN.get()


def _drawn() -> dict[str, dict[str, str | None]]:
    return st.session_state.setdefault(_DRAWN, {})


def _waiting() -> set[str]:
    return st.session_state.setdefault(_WAITING, set())


def _with(names: Any, values: Mapping[str, str]) -> dict[str, str | None]:
    return {name: values.get(name) for name in names}
