"""How many of a continuation's tokens think, and how many answer.

1. The response is the CoT so far and what was written after it; what closes its thought is found as for CoTs
   (`thoughts.closing_tag`): by the prompt that opens one, else by the first tag.
2. Thinking tokens are those that begin before the closing tag, answer tokens those that begin after it; the tag's own
   are neither. Where the thought had ended before the continuation, all of it answers; where it does not end, all of
   it thinks, and the length is a lower bound.
3. A model without tags thinks to the end: then how many tokens answer is unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backend.cot.thoughts import closing_tag

CLOSED, OPEN, UNTAGGED = "closed", "open", "untagged"


@dataclass(frozen=True)
class Spent:
    """Where the tokens of one continuation went."""

    thinking: int
    answer: int | None  # None where there is no tag that says where the answer begins
    thought: str  # closed, open (it never ended) or untagged

    def row(self) -> dict[str, int | str | None]:
        return {"n_thinking": self.thinking, "n_answer": self.answer, "thought": self.thought}


def spent(written: Callable[[int], str], n_tokens: int, *, prompt: str, before: str) -> Spent:
    """Of a continuation of `n_tokens`; `written(k)` is what its first k add to `before`, the CoT after `prompt`."""
    text = written(n_tokens)
    closing = closing_tag(before + text, prompt)
    if closing is None:
        return Spent(n_tokens, None, UNTAGGED)
    at = (before + text).find(closing)
    if at < 0:
        return Spent(n_tokens, 0, OPEN)
    begin, end = at - len(before), at + len(closing) - len(before)
    if end <= 0:
        return Spent(0, n_tokens, CLOSED)
    thinking = _needed(written, n_tokens, text[: max(begin, 0)])
    return Spent(thinking, n_tokens - _needed(written, n_tokens, text[:end]), CLOSED)


def _needed(written: Callable[[int], str], n_tokens: int, beginning: str) -> int:
    """How many tokens it takes until `beginning` is written: a character of several tokens is there with its last."""
    low, high = 0, n_tokens
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if written(middle).startswith(beginning) else (middle + 1, high)
    return low
