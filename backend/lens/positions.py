"""Kinds of position: what the token is that a residual stream stands on.

A lens that is right on one kind may be wrong on another, so its quality is told by kind, and it can be fitted on some
kinds alone. A position has one kind: a digit of the answer before the first token of a chunk, that before the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.lens.kinds import LensError
from backend.registry import Registry

ALL = "all"  # every kind: of a variant, and of a row of quality


@dataclass(frozen=True)
class PositionKind:
    name: str
    label: str  # in a picker
    words: str


POSITION_KINDS: Registry[PositionKind] = Registry(
    "kind of position",
    PositionKind("prompt", "prompt", "a token before the chain of thought"),
    PositionKind("cot", "chain of thought", "a token of the chain of thought that is none of the kinds below"),
    PositionKind("chunk_first", "first token of a chunk", "the token with which a chunk begins"),
    PositionKind("answer_digit", "digit of the answer", "a token with a digit of the final answer, where it is stated"),
    PositionKind("after", "after the thought", "a token that the model wrote after it closed its thought"),
    PositionKind("text", "other text", "a token of a text that is no chain of thought"),
    error=LensError,
)


@dataclass(frozen=True)
class Places:
    """Where the parts of prompt + response stand, in characters [start, end)."""

    cot: tuple[int, int]
    chunks: tuple[tuple[int, int], ...]
    answer: tuple[int, int] | None  # None where none is stated


def kinds_of(text: str, offsets: Sequence[tuple[int, int]], places: Places) -> list[str]:
    """The kind of each token of `text`, tokens given as characters [start, end)."""
    begun = {start for start, end in places.chunks if start < end}
    kinds = []
    for start, end in offsets:
        begins = {place for place in begun if start <= place < end}
        begun -= begins
        kinds.append(_kind(text, (start, end), places, first=bool(begins)))
    return kinds


def _kind(text: str, token: tuple[int, int], places: Places, *, first: bool) -> str:
    start, end = token
    if places.answer is not None:
        shared = text[max(start, places.answer[0]) : min(end, places.answer[1])]
        if any(character.isdecimal() for character in shared):
            return "answer_digit"
    if first:
        return "chunk_first"
    if start < places.cot[0]:
        return "prompt"
    return "cot" if start < places.cot[1] else "after"


def known_variant(variant: str) -> str:
    """The variant with its kinds in the registry's order. Raises ValueError for a name that is no kind."""
    if variant == ALL:
        return variant
    names = variant.split("+")
    if strangers := [name for name in names if name not in POSITION_KINDS]:
        raise ValueError(
            f"there is no kind of position {strangers[0]!r}; allowed are {ALL}, or some of {', '.join(POSITION_KINDS)}"
            " joined by +"
        )
    return "+".join(name for name in POSITION_KINDS if name in names)


def kinds_in(variant: str) -> frozenset[str]:
    """The kinds that a variant is fitted on."""
    return frozenset(POSITION_KINDS if variant == ALL else variant.split("+"))
