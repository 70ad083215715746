"""PyTorch files of somebody else's lens: read without running what is in them."""

import pickle
from pathlib import Path
from typing import Any

import torch

from backend.errors import stands_for_another, words_of
from backend.lens.kinds import LensError
from backend.models.pickles import refused_object


def dictionary_in(file: Path, expected: str) -> dict[Any, Any]:
    """What `torch.save` wrote of a dictionary, on the CPU. Raises LensError, which says what was `expected`, for a file
    that holds anything else or code, or cannot be read.
    """
    try:
        with file.open("rb") as opened:
            if (other := stands_for_another(opened.read(64))) is not None:
                raise LensError(f"{file} {other}")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LensError(f"{file} is refused: it holds {refused_object(error)}.") from error
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise LensError(f"{file} cannot be read as a PyTorch file: {words_of(error)}") from error
    if not isinstance(content, dict):
        raise LensError(f"{file} holds {type(content).__name__}; {expected}.")
    return content
