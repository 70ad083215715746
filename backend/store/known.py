"""Which studies there are on this machine, and opening one by its name.

Studies lie under `stores/` (of the working directory, and of the repository) and at the paths in ANCHORSCOPE_STORES.
Besides them there are those that are shipped as packs (SHIPPED, or the folders in ANCHORSCOPE_DEMO; empty means none);
the first of them is the demo. Packs, those at paths in ANCHORSCOPE_STORES too, are unpacked once, to
`stores/NAME.duckdb`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from backend.root import PRECOMPUTE, ROOT, own_stores
from backend.store.packed import ABOUT, unpack
from backend.store.progress import read_progress
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder

SHIPPED = ("demo", "latent-study")  # folders of assets; a study bears its folder's name


def open_study(study: str | Path | None = None) -> Store:
    """The study of this name or at this path; the demo where none is named.

    Raises NoStore, which says what studies there are, WrongSchema, and of the demo DamagedPack and NotUnpacked.
    """
    stores = own_stores()
    shipped = {unpacked_at(pack, stores): pack for pack in packs()}
    found = by_name(stores, dict.fromkeys(shipped, True))
    if study is None and not _shipped():
        raise NoStore("No demo study is here: ANCHORSCOPE_DEMO names none.")
    file = next(iter(shipped)) if study is None else found.get(str(study))
    if file is not None and file in shipped:
        return Store(unpack(shipped[file], file))
    if study is not None and (Path(study) / ABOUT).is_file():
        pack = Path(study).resolve()
        return Store(unpack(pack, unpacked_at(pack, stores)))
    if (path := Path(str(study)) if Path(str(study)).exists() else file) is not None:
        return Store(path)
    raise NoStore(
        f"There is no study {str(study)!r}, as a name or as a path. Here are: {', '.join(found) or 'none'}. Give the"
        f" path of a study's folder or of a .duckdb file, or build one with `{PRECOMPUTE} run STUDY.toml`."
    )


def by_name(stores: Path, shipped: Mapping[Path, bool]) -> dict[str, Path]:
    """Studies by name, those first that a person most likely came for: of ANCHORSCOPE_STORES, as they are named there;
    own ones whose last run has finished, newest first; those that are shipped (`shipped` has the file that each pack is
    unpacked to, and whether it could be); own ones that are still being made. One that could not be unpacked is last.
    """
    named, of_pack = _named(), {file.stem: file for file in shipped}
    lying = {_resolved(study) for folder in (Path.cwd() / "stores", stores) for study in _studies_at(folder)}
    own = sorted(lying - set(shipped), key=lambda path: (-_published(path), path))
    paths: list[Path] = []
    for path in named:
        paths += [_resolved(study) for study in _studies_at(path)]
        paths += [of_pack[pack.name] for pack in _packs_at(path) if pack.name in of_pack]
    paths += [path for path in own if _has_finished(path)]
    paths += [*(path for path, readable in shipped.items() if readable), *own, *shipped]
    studies: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name = path.stem if path.suffix == ".duckdb" else path.name
        studies[name if name not in studies else f"{name} ({path.parent.name}, {len(studies) + 1})"] = path
    return studies


def packs() -> list[Path]:
    """The folders of the packs that are there, the shipped ones first."""
    return [*_shipped(), *(pack for path in _named() for pack in _packs_at(path))]


def _shipped() -> list[Path]:
    usual = os.pathsep.join(str(ROOT / "assets" / name) for name in SHIPPED)
    named = os.environ.get("ANCHORSCOPE_DEMO", usual).split(os.pathsep)
    return [Path(pack) for pack in named if pack and Path(pack).is_dir()]


def unpacked_at(pack: Path, stores: Path) -> Path:
    """The file that a shipped study is unpacked to."""
    return stores / f"{pack.name}.duckdb"


def _named() -> list[Path]:
    return [Path(path) for path in os.environ.get("ANCHORSCOPE_STORES", "").split(os.pathsep) if path]


def _packs_at(path: Path) -> list[Path]:
    """`path` itself when it is a pack, else the packs in it; none where it cannot be read."""
    try:
        own = path.resolve()
        return [own] if (own / ABOUT).is_file() else sorted(child.parent for child in own.glob(f"*/{ABOUT}"))
    except (OSError, RuntimeError):
        return []


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
