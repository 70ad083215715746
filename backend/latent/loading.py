"""A latent model by name: `embedded:Anchorscope-Latent/latent-0`, a folder in one of the layouts known here, or the hub
id of such a folder.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.latent import files, layouts, state_dicts
from backend.latent.fresh import LAYOUT
from backend.latent.kinds import LatentError, Unsaid
from backend.latent.loop import LatentModel
from backend.models.loading import FILES, find_folder, is_hub_id, weights_sha256
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
    identity: Callable[[Path, Unsaid], str]  # of all that the model is made of
    read: Callable[[Path, str, str, Unsaid], LatentModel]  # folder, name, revision
    takes: frozenset[str]  # what of Unsaid may be said of it


_CODI = frozenset({"base", "remove_eos", "lora_alpha", "n_latents"})

LAYOUTS: Registry[Layout] = Registry(
    "layout of a latent model",
    Layout(
        LAYOUT,
        f"a folder with {files.NOTE}",
        files.is_one,
        lambda folder, _: weights_sha256(folder),
        lambda folder, name, revision, _: files.load(folder, name, revision),
        frozenset(),
    ),
    Layout(
        "codi-a",
        f"a state dict with keys {layouts.CODI}…, its tokens unknown to any tokenizer beside it",
        layouts.is_codi_a,
        layouts.identity,
        layouts.read_codi_a,
        _CODI,
    ),
    Layout(
        "codi-b",
        f"a state dict with keys {layouts.CODI}…, and a tokenizer that knows {layouts.BOCOT}",
        layouts.is_codi_b,
        layouts.identity,
        layouts.read_codi_b,
        _CODI,
    ),
    Layout(
        "coconut",
        f"a state dict with keys {layouts.COCONUT}…",
        layouts.is_coconut,
        layouts.identity,
        layouts.read_coconut,
        frozenset({"base", "n_latents"}),
    ),
    error=LatentError,
)
NOTHING_SAID = Unsaid()


def load_latent(name: str, revision: str | None = None, unsaid: Unsaid = NOTHING_SAID) -> LatentModel:
    """The latent model called `name`, in float32; `unsaid` is what its files do not say. Raises LatentError for an
    unknown name and for files that do not fit together.
    """
    folder, identity, layout = _found(name, revision, unsaid)
    return layout.read(folder, name, identity, unsaid)


def identify(name: str, revision: str | None = None, unsaid: Unsaid = NOTHING_SAID) -> str:
    """The model's id, without loading its weights (a hub id is fetched if need be)."""
    return stable_id("m", name, _found(name, revision, unsaid)[1], "float32")


def embedded_names() -> list[str]:
    """Those that are shipped."""
    return [EMBEDDED + folder.name for folder in sorted(ASSETS.glob("*")) if files.is_one(folder)]


def is_ours(name: str) -> bool:
    """Whether it is a small model of our own, by its name or its folder's files."""
    return name.startswith(EMBEDDED) or files.is_one(Path(name).expanduser())


def layout_of(folder: Path) -> Layout:
    for layout in LAYOUTS.values():
        if layout.is_one(folder):
            return layout
    known = "; or ".join(layout.words for layout in LAYOUTS.values())
    file = state_dicts.weights_file(folder)
    found = "" if file is None else f" {file.name} begins with the key {state_dicts.keys(file)[0]}."
    raise LatentError(f"{folder} is no latent model in a layout that is known here: {known}.{found}")


def _found(name: str, revision: str | None, unsaid: Unsaid) -> tuple[Path, str, Layout]:
    """Folder, identity of all that the model is made of, layout."""
    folder = _folder(name, revision)
    layout = layout_of(folder)
    for what, said in asdict(unsaid).items():
        if said is not None and what not in layout.takes:
            raise LatentError(f"{name} is in the layout {layout.name}, of which {what} is not asked. Leave {what} out.")
    return folder, layout.identity(folder, unsaid), layout


def _folder(name: str, revision: str | None) -> Path:
    embedded = name.startswith(EMBEDDED)
    folder = ASSETS / name.removeprefix(EMBEDDED) if embedded else Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise LatentError(f"{name} is no hub id, and a revision ({revision!r}) can only be asked of one.")
        return folder
    if embedded or not is_hub_id(name):
        known = ", ".join(embedded_names()) or "none"
        raise LatentError(f"There is no latent model {name!r}: no such folder. Embedded ones: {known}.")
    try:
        return find_folder(name, revision, files=(*FILES, *state_dicts.FILES, state_dicts.CHECKPOINTS))[0]
    except AnchorscopeError as error:
        raise LatentError(str(error)) from error
