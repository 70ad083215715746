"""The parts of a question that attention is summed over, in more than one way. Nothing here imports a model.

A part has one name in all problems; where a question does not have it, nothing can look there. The first token is a
part of its own: many models attend to it for want of anything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.latent.kinds import LatentError
from backend.registry import Registry

FIRST, START = "first token", "start"
_CLOSING = frozenset(",.;:?!")
_MOST = 12  # clauses with a number of their own; the last one has the rest of a longer question


@dataclass(frozen=True)
class Split:
    name: str
    label: str  # in a picker
    words: str
    parts: Callable[[Sequence[str]], list[str]]  # of each token of a question, by its text


def _kinds(tokens: Sequence[str]) -> list[str]:
    return ["numbers" if any(letter.isdecimal() for letter in token) else "words" for token in tokens]


def _clauses(tokens: Sequence[str]) -> list[str]:
    found, number = [], 1
    for token in tokens:
        found.append(f"clause {min(number, _MOST)}")
        number += token.strip() in _CLOSING
    return found


SPLITS: Registry[Split] = Registry(
    "split of a question",
    Split(
        "clause",
        "clauses",
        "Clauses end with a comma or another sign, which is part of them; where a question names one step after the"
        " other, a clause is a step.",
        _clauses,
    ),
    Split("kind", "words and numbers", "Numbers are tokens with a digit.", _kinds),
    error=LatentError,
)


def parts_of(split: Split, question: Sequence[str], n_before: int, n_latents: int) -> list[str]:
    """The part that each token is of: of the question, by its tokens' texts, of the `n_before` tokens that start the
    thinking, and of the latents, each of which is a part.
    """
    latents = [str(step) for step in range(1, n_latents + 1)]
    return [FIRST, *split.parts(question)[1:], *[START] * n_before, *latents]


def in_order(parts: set[str], n_latents: int) -> list[str]:
    """As they stand in a text."""
    latents = [str(step) for step in range(1, n_latents + 1)]
    asked = parts - {FIRST, START, *latents}
    by_number = sorted(asked, key=lambda part: (int(part.split()[1]) if part.startswith("clause") else 0, part))
    return [FIRST, *by_number, START, *latents]
