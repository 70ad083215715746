"""The files of a study's dictionaries: where they are, and how they come there whole.

A dictionary is a folder named by its id, `dictionaries/ID/` in the study's own, or `NAME.dictionaries/ID/` beside a
portable NAME.duckdb (move the two together). The id follows from the weights, so that a file can be told from another,
and is never changed.
"""

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import AnchorscopeError
from backend.store.unit_files import _sync_folder

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary

FOLDER = "dictionaries"


class DictionaryLost(AnchorscopeError):
    """The files of a dictionary that the study has rows of are missing, or are another's."""


def folder_of(study: Path) -> Path:
    """Where the dictionaries of a study, a folder or a portable file, are; it need not exist."""
    return beside(study) if study.is_file() else study / FOLDER


def beside(file: Path) -> Path:
    """The folder for the dictionaries of a portable file."""
    return file.with_suffix(".dictionaries")


def keep(dictionary: "Dictionary", study: Path) -> str:
    """Write the dictionary among those of the study; when this returns it survives a kill and a power cut.

    Returns its weights' sha256.
    """
    from backend.crosscoder.files import WEIGHTS, save

    folder = folder_of(study) / dictionary.dictionary_id
    _place(folder, lambda made: save(dictionary, made))
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(study: Path, dictionary_id: str) -> "Dictionary":
    """The dictionary, its weights checked against their sha256 and the id.

    Raises DictionaryLost, and DictionaryError for damaged files.
    """
    from backend.crosscoder.files import load

    folder = folder_of(study) / dictionary_id
    if not folder.is_dir():
        raise DictionaryLost(
            f"{folder} is missing: it has the weights of the dictionary and travels with the study. Copy it from where"
            " the study came, or delete the files in the study's units/crosscoder, publish the study and run it again:"
            " then they are made anew."
        )
    found = load(folder)
    if found.dictionary_id != dictionary_id:
        raise DictionaryLost(
            f"{folder} holds dictionary {found.dictionary_id}, not its own. Copy it again from where the study came."
        )
    return found


def decoder_row(study: Path, dictionary_id: str, *, sha256: str, place: int, feature: int) -> np.ndarray:
    """(d_model,) float32: one feature's decoder row of one model, as it is stored, in units of scaled activations; read
    without torch.

    `sha256` is that of the weights, by their row. Raises DictionaryLost for files that are missing or another's.
    """
    from safetensors import safe_open

    file = folder_of(study) / dictionary_id / "dictionary.safetensors"
    try:
        found = file.stat()
        if _sha256_of(file, found.st_mtime_ns, found.st_size) != sha256:
            raise DictionaryLost(
                f"{file} is not what the study was made with. Copy it again from where the study came."
            )
        with safe_open(file, framework="np") as weights:
            return weights.get_slice("decoder")[place, feature].astype(np.float32)
    except FileNotFoundError as error:
        raise DictionaryLost(
            f"{file} cannot be read ({error.strerror}): it travels with the study. Copy it from where it came."
        ) from error


@functools.lru_cache(maxsize=8)
def _sha256_of(file: Path, changed: int, size: int) -> str:
    """Hashed once, while time of change and size stay."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def copy(dictionary_ids: Iterable[str], study: Path, folder: Path) -> list[Path]:
    """Copy dictionaries of the study to `folder`/ID, each whole; returns their folders.

    Raises as `read` does, and then copies none.
    """
    names = list(dictionary_ids)
    for name in names:
        read(study, name)
    return [copy_files(folder_of(study) / name, folder) for name in names]


def copy_files(source: Path, folder: Path) -> Path:
    """Copy one dictionary's folder, named by its id, into `folder`, as it is."""
    _place(target := folder / source.name, lambda made: shutil.copytree(source, made))
    return target


def _place(target: Path, write: Callable[[Path], object]) -> None:
    """A folder that `write` fills, at `target` whole or not at all; what was there is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        write(made := Path(scratch, "made"))
        for path in made.iterdir():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        _sync_folder(made)
        if target.exists():
            target.rename(Path(scratch, "replaced"))
        made.rename(target)
    _sync_folder(target.parent)
