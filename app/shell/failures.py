"""Errors that are meant for people, said where they were met."""

import contextlib
from collections.abc import Iterator

import streamlit as st

from app.shell import selection
from app.shell.missing import PageEnds
from app.shell.untrusted import show
from backend import faults
from backend.errors import AnchorscopeError
from backend.store.store import DamagedGeneration


@contextlib.contextmanager
def said(place: str) -> Iterator[None]:
    """Our own errors, and faults of the machine, stand in a box of that name instead of what is drawn inside; every
    other one is raised again.
    """
    try:
        yield
    except PageEnds:
        pass
    except (
        DamagedGeneration
    ):  # met in the middle of a page: opening the study again gives the generation before, or the words for it
        selection.rerun()
    except AnchorscopeError as error:
        _say(str(error), place)
    except Exception as error:  # a fault of the machine, wherever it was met, is said; every other one is raised again
        if (words := faults.in_words(error)) is None:
            raise
        _say(words, place)


def _say(words: str, place: str) -> None:
    with st.container(border=True, key=place):
        show(words)
