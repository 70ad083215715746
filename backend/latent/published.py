"""A published study of difference steering, remade and taken apart.

The study adds differences of mean latents to a model that thinks in latents, and reads an accuracy in each cell (pair,
column). Its public code departs in six ways from what its text says; each is a defect here that is switched alone. None
needs an experiment of its own: a set of defects is a move (what is added where), a sign, a shift of labels, and what
counts as an answer. So every subset of defects is a view of the same stored cells.

Its labels count hidden states: h_i is what becomes latent i + 1. Where it adds "h_B − h_A at step t", the latent that
moves is t + 1, and the two means are those of latents A + 1 and B + 1 (`one_more`). Its last row and column would need
one latent more than the model was trained with; they are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from backend.latent.kinds import SPACES, LatentError
from backend.registry import Registry


@dataclass(frozen=True)
class Defect:
    """One way in which the published code departs from its text."""

    name: str
    label: str
    words: str  # what was done
    mended: str  # what is right
    spaces: tuple[str, ...]  # in which it can be switched


_HIDDEN, _KEYS = ("h",), ("kv", "k")
_ALL = ("z", "h", "kv", "k", "v")

DEFECTS: Registry[Defect] = Registry(
    "defect of the published steering",
    Defect(
        "wrong_space",
        "wrong space",
        "The difference of hidden states before the projection is added to the embedding after it.",
        "It is added to the hidden state, which is then projected.",
        _HIDDEN,
    ),
    Defect(
        "flipped",
        "flipped sign",
        "The direction called A − B is mean[B] − mean[A].",
        "It is mean[A] − mean[B].",
        _ALL,
    ),
    Defect(
        "rotated",
        "rotated keys",
        "Keys are averaged and added as they are stored, turned by their positions.",
        "They are turned back before they are averaged, and turned for the position that they are added at.",
        _KEYS,
    ),
    Defect(
        "one_more",
        "one more latent",
        "Rows and columns count hidden states: the latent that moves, and is run, is one more than the label says.",
        "They count latents.",
        _HIDDEN,
    ),
    Defect(
        "one_token",
        "one-token accuracy",
        "An answer is right where the number in its first token is.",
        "It is right where the whole answer is.",
        _ALL,
    ),
    Defect(
        "scored_means",
        "means on scored problems",
        "The means are taken on the problems that are scored.",
        "They are taken on other problems.",
        _ALL,
    ),
    error=LatentError,
)
PUBLISHED = {
    "h": frozenset({"wrong_space", "flipped", "one_more", "one_token", "scored_means"}),
    "kv": frozenset({"rotated", "flipped", "one_token", "scored_means"}),
}


@dataclass(frozen=True)
class Move:
    """What is added, and where: the runs that maps are views of."""

    space: str  # in which it is added
    vectors: str  # of which the vectors are
    rotated: bool = False  # keys as they are stored
    scored_means: bool = False

    def __post_init__(self) -> None:
        if self.vectors != self.space and (self.vectors, self.space) != ("h", "z"):
            raise LatentError(
                f"Vectors of {SPACES[self.vectors].label} are not added in {SPACES[self.space].label}: no study did so."
            )

    @property
    def name(self) -> str:
        """A word for ids."""
        own = self.space if self.space == self.vectors else f"{self.vectors}-in-{self.space}"
        return own + "-rotated" * self.rotated + "-scored" * self.scored_means


@dataclass(frozen=True)
class Arm:
    """One way to draw a map: a space, and the defects that are switched on."""

    space: str  # of the vectors
    defects: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _ = SPACES[self.space]
        for name in self.defects:
            if self.space not in DEFECTS[name].spaces:
                raise LatentError(f"{DEFECTS[name].label} cannot be switched in {SPACES[self.space].label}.")

    @property
    def move(self) -> Move:
        return Move(
            "z" if "wrong_space" in self.defects else self.space,
            self.space,
            rotated="rotated" in self.defects,
            scored_means="scored_means" in self.defects,
        )

    @property
    def sign(self) -> int:
        """Of the stored coefficient over the one on the label."""
        return -1 if "flipped" in self.defects else 1

    @property
    def shift(self) -> int:
        """Of the stored latents over those on the labels."""
        return 1 if "one_more" in self.defects else 0

    @property
    def is_one_token(self) -> bool:
        return "one_token" in self.defects

    @property
    def label(self) -> str:
        """In words: ours, as published, or what is switched."""
        published = PUBLISHED.get(self.space)
        if not self.defects:
            return "ours"
        if published is not None and self.defects == published:
            return "as published"
        if published is not None and len(published - self.defects) == 1 and self.defects < published:
            (mended,) = published - self.defects
            return f"published, {DEFECTS[mended].label} mended"
        return "ours with " + ", ".join(DEFECTS[name].label for name in DEFECTS if name in self.defects)


def defects_of(space: str) -> tuple[str, ...]:
    """Names of those that can be switched in a space."""
    return tuple(name for name, defect in DEFECTS.items() if space in defect.spaces)


def taken_apart(space: str) -> tuple[Arm, ...]:
    """As published; with one defect mended at a time; ours with one at a time; ours."""
    published = PUBLISHED[space]
    names = [name for name in DEFECTS if name in published]
    mended = [Arm(space, published - {name}) for name in names]
    return (Arm(space, published), *mended, *(Arm(space, frozenset({name})) for name in names), Arm(space))


def moves_of(spaces: Iterable[str], *, published: bool) -> tuple[Move, ...]:
    """What must be run for the maps of these spaces; where `published`, also for every subset of the defects that were
    published of them.
    """
    found: dict[Move, None] = {Arm(space).move: None for space in spaces}
    if published:
        for space in spaces:
            names = sorted(PUBLISHED.get(space, ()))
            for n in range(len(names) + 1):
                found |= {Arm(space, frozenset(some)).move: None for some in combinations(names, n)}
    return tuple(found)
