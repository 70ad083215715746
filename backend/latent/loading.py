"""A latent model by name: `embedded:Anchorscope-Latent/latent-0`, or a folder in one of the layouts known here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.ids import stable_id
from backend.latent import files
from backend.latent.fresh import LAYOUT
from backend.latent.kinds import LatentError
from backend.latent.loop import LatentModel
from backend.models.loading import weights_sha256
from backend.registry import Registry
from backend.root import ROOT

EMBEDDED = "embedded:Anchorscope-Latent/"  # then sibling-seed
ASSETS = ROOT / "assets" / "latent"


@dataclass(frozen=True)
class Layout:
    """How some latent models lie in their folder."""

    name: str
    words: str  # which files
    is_one: Callable[[Path], bool]
    identity: Callable[[Path], str]  # of the weights, where the hub names no commit
    read: Callable[[Path, str, str], LatentModel]  # folder, name, revision


LAYOUTS: Registry[Layout] = Registry(
    "layout of a latent model",
    Layout(LAYOUT, f"a folder with {files.NOTE}", files.is_one, weights_sha256, files.load),
    error=LatentError,
)


def load_latent(name: str, revision: str | None = None) -> LatentModel:
    """The latent model called `name`, in float32. Raises LatentError for an unknown name and for files that do not fit
    together.
    """
    folder, identity, layout = _found(name, revision)
    return layout.read(folder, name, identity)


def identify(name: str, revision: str | None = None) -> str:
    """The model's id, without loading its weights."""
    return stable_id("m", name, _found(name, revision)[1], "float32")


def embedded_names() -> list[str]:
    """Those that are shipped."""
    return [EMBEDDED + folder.name for folder in sorted(ASSETS.glob("*")) if files.is_one(folder)]


def layout_of(folder: Path) -> Layout:
    for layout in LAYOUTS.values():
        if layout.is_one(folder):
            return layout
    known = "; or ".join(layout.words for layout in LAYOUTS.values())
    raise LatentError(f"{folder} is no latent model in a layout that is known here: {known}.")


def _found(name: str, revision: str | None) -> tuple[Path, str, Layout]:
    """Folder, identity of the weights, layout."""
    if revision is not None:
        raise LatentError(f"{name} is no hub id, and a revision ({revision!r}) can only be asked of one.")
    folder = ASSETS / name.removeprefix(EMBEDDED) if name.startswith(EMBEDDED) else Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join(embedded_names()) or "none"
        raise LatentError(f"There is no latent model {name!r}: no such folder. Embedded ones: {known}.")
    layout = layout_of(folder)
    return folder, layout.identity(folder), layout
