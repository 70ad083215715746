"""The weights of a published latent model: one state dict in one file, read without running what is in it."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError

from backend.errors import words_of
from backend.latent.kinds import LatentError
from backend.models.model_files import ModelLoadingError, check_weights, refuse_placeholder
from backend.models.pickles import refused_object

FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there counts
CHECKPOINTS = "checkpoint*"  # a folder without either may have one of these
_DAMAGE = (OSError, RuntimeError, EOFError, KeyError, ValueError, SafetensorError)


def weights_file(folder: Path) -> Path | None:
    """The file of the folder that holds its state dict; None where there is none, or nothing says which."""
    if (found := next((folder / name for name in FILES if (folder / name).is_file()), None)) is not None:
        return found
    others = [file for file in folder.glob(CHECKPOINTS) if file.is_file()]
    return others[0] if len(others) == 1 else None


def read(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by key, left in the file until they are used. Raises LatentError, which names the file, for anything
    else.
    """
    try:
        refuse_placeholder(file)
        return _safetensors(file) if file.suffix == ".safetensors" else _pytorch(file)
    except ModelLoadingError as error:
        raise LatentError(str(error)) from error
    except pickle.UnpicklingError as error:
        raise LatentError(
            f"{file} is refused: it holds {refused_object(error)}; a state dict of plain tensors was expected."
        ) from error
    except _DAMAGE as error:
        raise LatentError(
            f"{file} cannot be read ({words_of(error)}): a copy or download broke off, or it is no file of weights."
            " Download it again."
        ) from error


def keys(file: Path) -> list[str]:
    """Of the tensors in the file. Raises as `read` does."""
    return list(read(file))


def _safetensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    check_weights(file)
    return load_file(file)


def _pytorch(file: Path) -> dict[str, torch.Tensor]:
    content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    if not isinstance(content, dict) or not content:
        raise LatentError(f"{file} holds {type(content).__name__}; a state dict, tensors by key, was expected.")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise LatentError(f"{file}: {str(key)[:100]} is {type(value).__name__}; a dense tensor was expected.")
    if (
        sum(value.numel() for value in content.values()) > 2 * file.stat().st_size
    ):  # a tied tensor may stand there twice
        raise LatentError(
            f"{file} says that it holds more values than it has bytes, so it was not written by training."
        )
    return {str(key): value for key, value in content.items()}
