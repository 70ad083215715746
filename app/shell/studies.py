"""Which studies there are, and the one that is open.

Studies are looked for under `stores/` (of the working directory and of the repository) and at the paths in
ANCHORSCOPE_STORES. Besides them there are those that are shipped as packs (`assets/demo` and others, or the folders in
ANCHORSCOPE_DEMO; empty means none). Once in the life of the process each pack, one in ANCHORSCOPE_STORES too, is
unpacked to `stores/NAME.duckdb`, where that is not its content already.

The pointer is resolved at every rerun, so that a generation published a moment ago is the one that is read; the
connection to a generation, and what it answered so far, is shared by all open browsers.
"""

import pickle
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from backend.errors import AnchorscopeError
from backend.root import own_stores
from backend.store.beside import ADDED
from backend.store.known import by_name, packs, unpacked_at
from backend.store.packed import unpack
from backend.store.store import NoStore, Store, generation_of
from backend.store.unit_files import StudyFolder

STORES = own_stores()
_SMALL, _KEPT = 2**18, 256  # bytes of an answer that is kept, and how many of them are
_MOST_OPEN = 8  # stores that stay open, each with its threads and buffers: those that were opened last


class _Answering(Store):
    """A generation does not change: a small answer is the same whenever the question is asked again."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._answers: dict[bytes, pd.DataFrame] = {}

    def frame(self, sql: str, **values: Any) -> pd.DataFrame:
        asked = pickle.dumps((sql, values))
        answer = self._answers.get(asked)
        if answer is None:
            answer = super().frame(sql, **values)
            if ADDED not in sql and answer.memory_usage().sum() <= _SMALL:  # what is added lies beside the generation
                self._answers[asked] = answer
                for oldest in list(self._answers)[:-_KEPT]:
                    self._answers.pop(oldest, None)
        return answer.copy(deep=False)  # pandas copies what is written to


def found() -> dict[str, Path]:
    """Studies by name, in the order of `by_name`."""
    return by_name(STORES, {path: fault is None for path, fault in shipped().items()})


def shipped() -> dict[Path, str | None]:
    """The file that each pack is unpacked to, and why it could not be, in words for the person."""
    files = {unpacked_at(pack, STORES.resolve()): pack for pack in packs()}
    return {file: _unpacked(str(pack), str(file)) for file, pack in files.items()}


def open_store(path: Path) -> Store:
    """The store's newest generation. Raises NoStore or WrongSchema, which say what to do."""
    if fault := shipped().get(path):
        raise NoStore(fault)
    with _door():
        generation = generation_of(path)
        try:
            stamp = (generation, generation.stat().st_mtime_ns, generation.stat().st_ino)
        except OSError as error:
            raise NoStore(
                f"{generation} is gone: the study was deleted, moved, or published anew just now. Reload the page."
            ) from error
        held = _open().get(path)
        if held is None or held[0] != stamp:
            _open().pop(
                path, None
            )  # a file replaced under its old name is only seen anew once nobody holds the old one
            del held
            held = (stamp, _Answering(path))
        _open().pop(path, None)
        _open()[path] = held  # the last of them
        for oldest in list(_open())[:-_MOST_OPEN]:
            del _open()[oldest]  # it closes when the last run that reads it has ended
        return held[1]


def stamp_of(path: Path) -> str | None:
    """Changes whenever something new is published at `path`; None while nothing is."""
    try:
        if path.is_file():
            return str(path.stat().st_mtime_ns)
        pointer = StudyFolder(path).pointer
        return f"{pointer.read_bytes()[:100]!r} {pointer.stat().st_mtime_ns}"
    except OSError:
        return None


def ask(question: Any, **values: Any) -> pd.DataFrame:
    """The answer of a store's method, remembered for the generation it was asked of:
    for answers of thousands of rows, or that are worked on before they are given."""
    store: Store = question.__self__
    known = _remembered(
        store, str(store.generation), store.published_at, question.__name__, tuple(sorted(values.items()))
    )
    return known.copy(deep=False)


@st.cache_resource(max_entries=64, show_spinner=False)
def _remembered(
    _store: Store, generation: str, published_at: str, question: str, values: tuple[tuple[str, Any], ...]
) -> pd.DataFrame:
    return getattr(_store, question)(**dict(values))


@st.cache_resource(show_spinner=False)
def _open() -> dict[Path, tuple[Any, Store]]:
    return {}


@st.cache_resource(show_spinner=False)
def _door() -> threading.Lock:
    return threading.Lock()


@st.cache_resource(show_spinner="Unpacking the shipped studies, once …")
def _unpacked(pack: str, file: str) -> str | None:
    """What is wrong with the pack, or None once `file` is its content.

    One thread does it, and none of this process again.
    """
    try:
        unpack(Path(pack), Path(file))
    except AnchorscopeError as error:
        return str(error)
    return None
