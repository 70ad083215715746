"""By which lenses latents are read, in words. Nothing here imports a model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backend.latent.kinds import LatentError
from backend.registry import Registry

Z_LAYER = -1  # of a reading of z, which goes into the first block
VARIANT_ALL = "all"  # a tuned lens fitted on all positions together; of one position alone it is that position


@dataclass(frozen=True)
class LatentLens:
    """What there is to say of a lens of latents."""

    name: str
    label: str  # in a picker
    formula: str
    words: str
    first_step: int  # the first position that it reads
    has_probabilities: bool


LATENT_LENSES: Registry[LatentLens] = Registry(
    "lens of latents",
    LatentLens(
        "logit",
        "logit lens",
        "unembed(norm(x))",
        "The stream read as if it were the last one. In the last row it is h itself, and so the model's own next token"
        " there.",
        0,
        True,
    ),
    LatentLens(
        "tuned",
        "tuned lens",
        "unembed(norm(x + W x + b))",
        "An affine map a layer, fitted on latents of problems that are not scored; where validation does not favour it"
        " the stream is read as it stands.",
        0,
        True,
    ),
    LatentLens(
        "tuned_alone",
        "tuned lens of each latent alone",
        "unembed(norm(x + Wᵢ x + bᵢ))",
        "As the tuned lens, with a map of its own for every position, fitted on that position alone.",
        0,
        True,
    ),
    LatentLens(
        "difference",
        "lens of the difference",
        "unembed(norm(xᵢ − xᵢ₋₁))",
        "What a latent adds: the stream less that of the position before it at the same layer, later less earlier, read"
        " by the logit lens.",
        1,
        True,
    ),
    LatentLens(
        "embedding",
        "nearest input embedding",
        "cos(x, E)",
        "The token whose input embedding has the largest cosine with h, before the projection, or with z, after it."
        " Cosines are no probabilities, so that entropy and probability are unknown here.",
        0,
        False,
    ),
    error=LatentError,
)


@dataclass(frozen=True)
class Subset:
    """Some of the scored problems, by whether a model's answer is right with no latents and with all of them."""

    name: str
    label: str  # in a picker
    words: str
    holds: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of both, (n_problems,) bool


SUBSETS: Registry[Subset] = Registry(
    "subset of problems",
    Subset("all", "all problems", "All scored problems.", lambda early, late: np.ones_like(early)),
    Subset(
        "needs_latents",
        "those that need latents",
        "Problems that this model answers right with all latents, and not with none.",
        lambda early, late: late & ~early,
    ),
    Subset(
        "without_latents",
        "those solved with none",
        "Problems that this model answers right with no latents.",
        lambda early, late: early,
    ),
    error=LatentError,
)
