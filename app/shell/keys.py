"""Keys of widgets, told apart by where a view stands: one drawn twice in a run has two sets of them.

On its own page a view's keys are bare. Mounted elsewhere, each begins with the name of the place, so that nothing on
the page can meet them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import streamlit as st

_PLACE: ContextVar[str] = ContextVar("place of the view that is drawn", default="")


@contextmanager
def within(place: str) -> Iterator[None]:
    """Every key that is made inside begins with `place`; none does where it is empty."""
    before = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(before)


@contextmanager
def inside(part: str) -> Iterator[None]:
    """A part of the place where a view is drawn: what it draws a second time there has keys of its own."""
    with within(f"{_PLACE.get()} {part}".lstrip()):
        yield


def of(key: str) -> str:
    """The key as it is here. Made while a view is drawn; a callback, which runs elsewhere, is given it ready-made."""
    place = f"{_PLACE.get()}: " if _PLACE.get() else ""
    return key if key.startswith(place) else place + key


def fragment(draw: Callable[[], None], *, run_every: Any = None, key: str | None = None) -> Callable[[], None]:
    """`st.fragment` that stays in its place when it runs again by itself, outside the view."""
    place = _PLACE.get()

    @wraps(draw)
    def placed() -> None:
        with within(place):
            draw()

    return st.fragment(placed, run_every=run_every, key=key)
