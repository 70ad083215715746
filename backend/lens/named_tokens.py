"""The tokens whose rows of the Jacobian lens are worth having: what ends a thought, the target words of the reasoning
categories ("Wait" is that of self-reflection), and the answers.

A word is known by its first token, written at the beginning of a line and after a space. So an answer of several tokens
(some tokenizers write numbers digit by digit) is known by its first one alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.cot.reasoning import TARGETS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_THINKING, ANSWER, WORD = "end of thinking", "answer", "word"


@dataclass(frozen=True)
class NamedToken:
    token_id: int
    text: str
    roles: tuple[str, ...]  # a reasoning category, or one of the above


def named_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    closings: Sequence[str],
    answers: Sequence[str],
    words: Sequence[str] = (),
    most: int,
) -> tuple[list[NamedToken], int]:
    """At most `most` of them, in this order: of the tags that close a thought, the target words, words of one's own,
    and the answers; and how many were left out for it.
    """
    asked = [
        *((END_OF_THINKING, tag) for tag in closings),
        *((category, word) for category, targets in TARGETS.items() for word in targets),
        *((WORD, word) for word in words),
        *((ANSWER, answer) for answer in answers),
    ]
    roles: dict[int, list[str]] = {}
    for role, text in asked:
        for token in _first_tokens(tokenizer, text):
            if role not in (known := roles.setdefault(token, [])):
                known.append(role)
    found = [NamedToken(token, tokenizer.decode([token]), tuple(own)) for token, own in roles.items()]
    return found[:most], max(len(found) - most, 0)


def by_frequency(answers: Iterable[str]) -> list[str]:
    """Each once, the most frequent first."""
    counts: dict[str, int] = {}
    for answer in answers:
        counts[answer] = counts.get(answer, 0) + 1
    return sorted(counts, key=lambda answer: (-counts[answer], answer))


def _first_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> Iterator[int]:
    """Of `text` and of " text": the first token that is more than space."""
    for written in (text, f" {text}"):
        ids = tokenizer(written, add_special_tokens=False)["input_ids"]
        yield from [token for token in ids if tokenizer.decode([token]).strip()][:1]
