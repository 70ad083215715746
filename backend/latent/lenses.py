"""By which lenses latents are read, in words. Nothing here imports a model."""

from dataclasses import dataclass

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
