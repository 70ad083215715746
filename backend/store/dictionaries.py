"""The folders of a study's dictionaries: where they are, and how they come there whole. What is in them is not known
here (`backend.crosscoder.stored` knows).

A dictionary is a folder named by its id, `dictionaries/ID/` in the study's own, or `NAME.dictionaries/ID/` beside a
portable NAME.duckdb (move the two together). The id follows from the weights, so that a file can be told from another,
and is never changed.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from backend.errors import AnchorscopeError
from backend.store.unit_files import _sync_folder

FOLDER = "dictionaries"


class DictionaryLost(AnchorscopeError):
    """The files of a dictionary that the study has rows of are missing, or are another's."""


def folder_of(study: Path) -> Path:
    """Where the dictionaries of a study, a folder or a portable file, are; it need not exist."""
    return beside(study) if study.is_file() else study / FOLDER


def beside(file: Path) -> Path:
    """The folder for the dictionaries of a portable file."""
    return file.with_suffix(".dictionaries")


def null_folder(study: Path, null_id: str) -> Path:
    """Where the weights of a null lie that was trained there: no part of the study, they travel with no pack."""
    return study / "scratch" / f"null-{null_id}"


def folder_with(study: Path, dictionary_id: str) -> Path:
    """The folder of one dictionary. Raises DictionaryLost where it is missing."""
    folder = folder_of(study) / dictionary_id
    if not folder.is_dir():
        raise DictionaryLost(
            f"{folder} is missing: it has the weights of the dictionary and travels with the study. Copy it from where"
            " the study came, or delete the files in the study's units/crosscoder, publish the study and run it again:"
            " then they are made anew."
        )
    return folder


def folders_in(study: Path) -> list[Path]:
    """The folders of all dictionaries whose files are there, whether the study has rows of them or not."""
    folder = beside(study) if study.suffix == ".duckdb" else study / FOLDER
    return sorted(one for one in folder.glob("[!.]*") if one.is_dir()) if folder.is_dir() else []


def copy(dictionary_ids: Iterable[str], study: Path, folder: Path) -> list[Path]:
    """Copy dictionaries of the study to `folder`/ID, each whole, as they are; returns their folders.

    Raises DictionaryLost where one is missing, and then copies none.
    """
    sources = [folder_with(study, name) for name in dictionary_ids]
    return [copy_files(source, folder) for source in sources]


def copy_files(source: Path, folder: Path) -> Path:
    """Copy one dictionary's folder, named by its id, into `folder`, as it is."""
    put_whole(target := folder / source.name, lambda made: shutil.copytree(source, made))
    return target


def put_whole(target: Path, write: Callable[[Path], object]) -> None:
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
