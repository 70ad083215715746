"""Which lenses there are, in words. Nothing here imports a model: pages offer them."""

from dataclasses import dataclass

from backend.errors import AnchorscopeError
from backend.registry import Registry


class LensError(AnchorscopeError):
    """A lens that does not fit the model, or a layer that it does not read."""


@dataclass(frozen=True)
class LensKind:
    """What there is to say of a kind of lens."""

    name: str
    label: str  # in a picker
    formula: str
    words: str  # what it shows, and what it cannot
    is_fitted: bool  # on a corpus, so that it needs a fit and has a quality of its own


LENSES: Registry[LensKind] = Registry(
    "lens",
    LensKind(
        "logit",
        "logit lens",
        "unembed(norm(h))",
        "The stream read as if it were the last one. Early layers write in other coordinates, so that what it says of"
        " them is poor.",
        False,
    ),
    LensKind(
        "tuned",
        "tuned lens",
        "unembed(norm(h + W h + b))",
        "An affine map a layer, fitted so that the reading comes near to what the model says in the end. It may know"
        " more of the text than the layer does.",
        True,
    ),
    LensKind(
        "jacobian",
        "Jacobian lens",
        "unembed(norm(J h))",
        "What a small move of the stream does to the last streams of this and all later positions, on average: what"
        " will be said, not only what is said next.",
        True,
    ),
    error=LensError,
)
