"""What is put in place of a latent, where, and what comes after, in words. Nothing here imports a model."""

from dataclasses import dataclass

from backend.latent.kinds import LatentError
from backend.registry import Registry


@dataclass(frozen=True)
class Choice:
    """One way to replace a latent."""

    name: str
    label: str  # in a picker
    words: str


ZERO, MEAN, SWAP = "zero", "mean", "swap"
Z, WHOLE = "z", "whole"
RECOMPUTED, KEPT = "recomputed", "kept"
PLAIN, WITHOUT = "plain", "without"  # of runs in which nothing is replaced

REPLACEMENTS: Registry[Choice] = Registry(
    "replacement of latents",
    Choice(ZERO, "zeros", "Zeros."),
    Choice(MEAN, "the mean", "The mean over problems that are not scored."),
    Choice(
        SWAP,
        "another problem's",
        "The same latent of a problem that is not scored, has another answer, and is answered right: the donor.",
    ),
    error=LatentError,
)

PLACES: Registry[Choice] = Registry(
    "place of a replaced latent",
    Choice(
        WHOLE,
        "the whole latent",
        "What every layer keeps of the latent for later positions, and the hidden state that the next one is made of.",
    ),
    Choice(Z, "z alone", "The embedding that is fed as the latent; layers still read the question beside it."),
    error=LatentError,
)

AFTER: Registry[Choice] = Registry(
    "course after a replaced latent",
    Choice(RECOMPUTED, "recomputed", "Later latents are made by the model's own loop out of what was put there."),
    Choice(KEPT, "kept", "Later latents are those of the plain run: what this one does by itself."),
    error=LatentError,
)
