"""Which studies there are, and the one that is open.

Studies are looked for under `stores/` (of the working directory and of the repository) and at the paths in
ANCHORSCOPE_STORES. Besides them there is the demo that is shipped as a pack (`assets/demo`, or the folder in
ANCHORSCOPE_DEMO; empty means none): once in the life of the process it is unpacked to `stores/demo.duckdb`, where that
is not its content already.

The pointer is resolved at every rerun, so that a generation published a moment ago is the one that is read; the
connection to a generation is shared by all open browsers.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from backend.errors import AnchorscopeError
from backend.root import ROOT
from backend.store.packed import unpack
from backend.store.progress import read_progress
from backend.store.store import NoStore, Store, generation_of
from backend.store.unit_files import StudyFolder

STORES = ROOT / "stores"


@dataclass(frozen=True)
class Demo:
    """The shipped study."""

    path: Path  # the file it is unpacked to
    fault: str | None  # why it could not be, in words for the person


def found() -> dict[str, Path]:
    """Studies by name, those first that a person most likely came for: of ANCHORSCOPE_STORES, as they are named there;
    own ones whose last run has finished, newest first; the demo; own ones that are still being made. A demo that could
    not be unpacked comes last.
    """
    shipped = demo()
    named = [Path(path) for path in os.environ.get("ANCHORSCOPE_STORES", "").split(os.pathsep) if path]
    own = {_resolved(study) for folder in (Path.cwd() / "stores", STORES) for study in _studies_at(folder)}
    own = sorted(own - ({shipped.path} if shipped else set()), key=lambda path: (-_published(path), path))
    paths = [_resolved(study) for path in named for study in _studies_at(path)] + [
        path for path in own if _has_finished(path)
    ]
    if shipped and not shipped.fault:
        paths.append(shipped.path)
    paths += own
    if shipped:
        paths.append(shipped.path)
    studies: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name = path.stem if path.suffix == ".duckdb" else path.name
        studies[name if name not in studies else f"{name} ({path.parent.name}, {len(studies) + 1})"] = path
    return studies


def demo() -> Demo | None:
    """The shipped study, unpacked; None where none is shipped."""
    pack = os.environ.get("ANCHORSCOPE_DEMO", str(ROOT / "assets" / "demo"))
    if not pack or not Path(pack).is_dir():
        return None
    file = STORES.resolve() / "demo.duckdb"
    return Demo(file, _unpacked(pack, str(file)))


def open_store(path: Path) -> Store:
    """The store's newest generation. Raises NoStore or WrongSchema, which say what to do."""
    if (shipped := demo()) and shipped.fault and path == shipped.path:
        raise NoStore(shipped.fault)
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
            _open()[path] = (stamp, Store(path))
        return _open()[path][1]


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
    for answers of thousands of rows."""
    store: Store = question.__self__
    return _remembered(
        store, str(store.generation), store.published_at, question.__name__, tuple(sorted(values.items()))
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _remembered(_store: Store, generation: str, published_at: str, question: str, values: tuple) -> pd.DataFrame:
    return getattr(_store, question)(**dict(values))


@st.cache_resource(show_spinner=False)
def _open() -> dict[Path, tuple[Any, Store]]:
    return {}


@st.cache_resource(show_spinner=False)
def _door() -> threading.Lock:
    return threading.Lock()


@st.cache_resource(show_spinner="Unpacking the demo study, once …")
def _unpacked(pack: str, file: str) -> str | None:
    """What is wrong with the pack, or None once `file` is its content.

    One thread does it, and none of this process again.
    """
    try:
        unpack(Path(pack), Path(file))
    except AnchorscopeError as error:
        return str(error)
    return None


def _studies_at(path: Path) -> list[Path]:
    """`path` itself when it is a study, else the studies in it; none where it cannot be read."""
    if _is_study(path):
        return [path]
    try:
        return sorted(child for child in path.iterdir() if _is_study(child))
    except OSError:
        return []


def _is_study(path: Path) -> bool:
    try:
        if path.is_file():
            return path.suffix == ".duckdb"
        folder = StudyFolder(path)
        return folder.manifest.exists() or folder.pointer.exists()
    except OSError:
        return False


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return path.absolute()


def _published(path: Path) -> float:
    try:
        return (path if path.is_file() else path / "CURRENT").stat().st_mtime
    except OSError:
        return 0.0


def _has_finished(study: Path) -> bool:
    """Whether its last run has.

    An import says nothing of its progress, and is being made as long as somebody holds the study.
    """
    if study.is_file():
        return True
    progress = read_progress(study)
    return progress.state == "finished" if progress else StudyFolder(study).holder() is None
