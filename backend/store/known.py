"""Which studies there are on this machine, and opening one by its name.

Studies lie under `stores/` (of the working directory, and of the repository) and at the paths in ANCHORSCOPE_STORES.
Besides them there is the demo that is shipped as a pack (`assets/demo`, or the folder in ANCHORSCOPE_DEMO; empty means
none), which is unpacked once.
"""

import os
from pathlib import Path

from backend.root import PRECOMPUTE, ROOT, own_stores
from backend.store.packed import unpack
from backend.store.progress import read_progress
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder


def open_study(study: str | Path | None = None) -> Store:
    """The study of this name or at this path; the demo where none is named.

    Raises NoStore, which says what studies there are, WrongSchema, and of the demo DamagedPack and NotUnpacked.
    """
    pack, file = demo_pack(), own_stores() / "demo.duckdb"
    shipped = None if pack is None else file
    found = by_name(own_stores(), shipped, shipped)
    if study is None or (str(study) == "demo" and found.get("demo") == shipped):
        if pack is None:
            raise NoStore("No demo study is here: ANCHORSCOPE_DEMO names none.")
        return Store(unpack(pack, file))
    if (path := Path(study) if Path(study).exists() else found.get(str(study))) is not None:
        return Store(path)
    raise NoStore(
        f"There is no study {str(study)!r}, as a name or as a path. Here are: {', '.join(found) or 'none'}. Give the"
        f" path of a study's folder or of a .duckdb file, or build one with `{PRECOMPUTE} run STUDY.toml`."
    )


def by_name(stores: Path, shipped: Path | None, readable: Path | None) -> dict[str, Path]:
    """Studies by name, those first that a person most likely came for: of ANCHORSCOPE_STORES, as they are named there;
    own ones whose last run has finished, newest first; the demo (`shipped`, the file it is unpacked to); own ones that
    are still being made. A demo that could not be unpacked, whose `readable` is None, comes last.
    """
    named = [Path(path) for path in os.environ.get("ANCHORSCOPE_STORES", "").split(os.pathsep) if path]
    lying = {_resolved(study) for folder in (Path.cwd() / "stores", stores) for study in _studies_at(folder)}
    own = sorted(lying - {shipped}, key=lambda path: (-_published(path), path))
    paths = [_resolved(study) for path in named for study in _studies_at(path)]
    paths += [path for path in own if _has_finished(path)]
    paths += [path for path in (readable, *own, shipped) if path is not None]
    studies: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name = path.stem if path.suffix == ".duckdb" else path.name
        studies[name if name not in studies else f"{name} ({path.parent.name}, {len(studies) + 1})"] = path
    return studies


def demo_pack() -> Path | None:
    """The folder of the shipped study; None where none is shipped."""
    pack = os.environ.get("ANCHORSCOPE_DEMO", str(ROOT / "assets" / "demo"))
    return Path(pack) if pack and Path(pack).is_dir() else None


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
