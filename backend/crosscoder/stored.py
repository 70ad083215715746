"""The weights of a study's dictionaries: kept among its files, read back, and checked against its rows.

Where their folders are is the store's business (`backend.store.dictionaries`). Importing this costs no torch.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.crosscoder.null_kinds import TWIN
from backend.crosscoder.trials import Twin
from backend.store.dictionaries import DictionaryLost, folder_of, folder_with, null_folder, put_whole
from backend.store.store import NoStore, Store

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary


def keep(dictionary: "Dictionary", study: Path) -> str:
    """Write the dictionary among those of the study; when this returns it survives a kill and a power cut.

    Returns its weights' sha256.
    """
    from backend.crosscoder.files import WEIGHTS, save

    folder = folder_of(study) / dictionary.dictionary_id
    put_whole(folder, lambda made: save(dictionary, made))
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(study: Path, dictionary_id: str) -> "Dictionary":
    """The dictionary, its weights checked against their sha256 and the id.

    Raises DictionaryLost, and DictionaryError for damaged files.
    """
    from backend.crosscoder.files import load

    folder = folder_with(study, dictionary_id)
    found = load(folder)
    if found.dictionary_id != dictionary_id:
        raise DictionaryLost(
            f"{folder} holds dictionary {found.dictionary_id}, not its own. Copy it again from where the study came."
        )
    return found


def read_from(store: Store, dictionary_id: str) -> "Dictionary":
    """The dictionary that the store has a row of. Raises NoStore where it has none, and as `read` does."""
    if dictionary_id not in store.dictionary_ids():
        raise NoStore(f"{store.path} has no dictionary {dictionary_id!r}.")
    return read(store.path, dictionary_id)


def check(store: Store) -> None:
    """Raises, as `read` does, where the weights of any dictionary of the study are missing, damaged or another's: a
    study whose files leave for elsewhere is looked at first.
    """
    for dictionary_id in store.dictionary_ids():
        read(store.path, dictionary_id)


def twin_of(store: Store, dictionary_id: str) -> Twin | None:
    """The dictionary's frozen decoder; None where none was trained, or its weights are not here."""
    nulls = store.null_features(dictionary_id)
    nulls = nulls[nulls["null"] == TWIN]
    if nulls.empty or not null_folder(store.path, null_id := str(nulls["null_id"].iloc[0])).is_dir():
        return None
    return Twin(null_id, nulls.loc[nulls["null_id"] == null_id, "frequency"].to_numpy(np.float64))


def decoder_row(study: Path, dictionary_id: str, *, sha256: str, model: int, feature: int) -> np.ndarray:
    """(d_model,) float32: one feature's decoder row of one model, in that model's width, as it is stored, in units of
    scaled activations; read without torch.

    `sha256` is that of the weights, by their row. Raises DictionaryLost for files that are missing or another's.
    """
    with _weights(study, dictionary_id, sha256) as (weights, widths):
        row: np.ndarray = weights.get_slice("decoder")[model, feature].astype(np.float32)
        return row if widths is None else row[: widths[model]]


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Rows of some features in each model, (models, features, width), as they are stored, in units of scaled
    activations; beyond a model's own width they are zero.
    """

    decoder: np.ndarray
    encoder: np.ndarray

    @property
    def d_model(self) -> int:
        return self.decoder.shape[-1]


def feature_rows(study: Path, dictionary_id: str, features: Sequence[int], *, sha256: str) -> FeatureRows:
    """Both rows of each of `features`, float32; read without torch. `sha256` and refusals as in `decoder_row`."""
    with _weights(study, dictionary_id, sha256) as (weights, _):
        decoder, encoder = weights.get_slice("decoder"), weights.get_slice("encoder")
        return FeatureRows(
            np.stack([decoder[:, feature].astype(np.float32) for feature in features], axis=1),
            np.stack([encoder[:, :, feature].astype(np.float32) for feature in features], axis=1),
        )


@contextlib.contextmanager
def _weights(study: Path, dictionary_id: str, sha256: str) -> Iterator[tuple[Any, list[int] | None]]:
    """The open file of weights, and the widths of its models where they differ."""
    from safetensors import safe_open

    file = folder_of(study) / dictionary_id / "dictionary.safetensors"
    try:
        found = file.stat()
        if _sha256_of(file, found.st_mtime_ns, found.st_size) != sha256:
            raise DictionaryLost(
                f"{file} is not what the study was made with. Copy it again from where the study came."
            )
        described = json.loads(file.with_name("dictionary.json").read_text(encoding="utf-8"))
        with safe_open(file, framework="np") as weights:
            yield weights, described.get("widths")
    except FileNotFoundError as error:
        raise DictionaryLost(
            f"{file} cannot be read ({error.strerror}): it travels with the study. Copy it from where it came."
        ) from error


@functools.lru_cache(maxsize=8)
def _sha256_of(file: Path, changed: int, size: int) -> str:
    """Hashed once, while time of change and size stay."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
