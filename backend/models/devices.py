"""Where a model computes: `cpu`, `cuda`, `cuda:1` or `mps`, and whether this machine can."""

import re

from backend.errors import AnchorscopeError

DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?")


class NoDevice(AnchorscopeError):
    """A device that is not on this machine, or that cannot compute what is needed."""


def require_device(name: str) -> None:
    """Raises NoDevice where nothing can be computed on `name` in float64, in which probabilities are summed here."""
    if name == "cpu":
        return
    import torch

    try:
        torch.zeros(1, dtype=torch.float64, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:  # each has its own way to say so
        why = (
            "it has no float64, in which probabilities are summed here"
            if isinstance(error, TypeError)
            else f"torch says: {str(error).strip().splitlines()[0][:200]}"
        )
        raise NoDevice(
            f"engine.device is {name!r}, on which nothing can be computed on this machine ({why}). Here there is"
            f" {', '.join(_here())}: set engine.device to that in the study file, or for the live pages alone the"
            " environment variable ANCHORSCOPE_DEVICE."
        ) from error


def _here() -> list[str]:
    import torch

    return ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
