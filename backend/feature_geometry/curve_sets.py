"""Words whose order is known: integers, weekdays, months, each said in a small context, one entry each.

The residual stream is read at the last token of the word. Where a tokenizer splits words of a set into different
numbers of tokens, what is read differs in kind: of an open set the largest group that is split alike and has no gap
takes part, the others are named; of a cyclic set, which is nothing without all of its words, none does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class CurveSet:
    label: str
    words: tuple[str, ...]  # in their order
    context: str  # what stands before a word, and the space
    periods: tuple[int, ...]  # of the Fourier fit; the first is the one that is drawn
    has_line: bool  # the number itself is one more regressor: a helix, not a circle
    is_cyclic: bool
    block: int  # words that the interval leaves out together
    literature: str


SETS = {
    "weekdays": CurveSet(
        "weekdays",
        _WEEKDAYS,
        "Today is",
        (7,),
        has_line=False,
        is_cyclic=True,
        block=1,
        literature="Engels et al. (2024) report that GPT-2, Mistral 7B and Llama 3 8B have the days of the week on a"
        " circle, found by clusters of SAE features, and that the two larger ones compute with it.",
    ),
    "months": CurveSet(
        "months",
        _MONTHS,
        "The month is",
        (12,),
        has_line=False,
        is_cyclic=True,
        block=1,
        literature="Engels et al. (2024) report a circle of the months in GPT-2, Mistral 7B and Llama 3 8B.",
    ),
    "integers": CurveSet(
        "integers",
        tuple(map(str, range(100))),
        "The number is",
        (10, 100, 5, 2),
        has_line=True,
        is_cyclic=False,
        block=10,
        literature="Kantamneni and Tegmark (2025) report that GPT-J, Pythia 6.9B and Llama 3.1 8B, in whose"
        " vocabularies these integers are single tokens, have them on a helix of the number and its circles at periods"
        " 2, 5, 10 and 100, which fits better than a polynomial of as many parameters.",
    ),
}


@dataclass(frozen=True)
class Read:
    """Which words of a set take part: their places in its order, tokens of each, and why none does (None: some do)."""

    places: tuple[int, ...]
    n_tokens: int | None
    dropped: tuple[str, ...]
    reason: str | None


def read_alike(of: CurveSet, n_tokens: Sequence[int]) -> Read:
    """`n_tokens` are those of each word in its context, in order."""
    usual = Counter(n_tokens).most_common(1)[0][0]
    places = [place for place, n in enumerate(n_tokens) if n == usual]
    dropped = tuple(word for word, n in zip(of.words, n_tokens, strict=True) if n != usual)
    if of.is_cyclic and dropped:
        return Read((), None, dropped, f"{', '.join(dropped)} have another number of tokens than the other {of.label}")
    if places[-1] - places[0] + 1 != len(places):
        return Read((), None, dropped, f"the {of.label} of {usual} tokens have gaps between them")
    return Read(tuple(places), usual, dropped, None)
