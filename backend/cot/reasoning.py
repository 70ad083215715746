"""The four reasoning categories by their target words ("Towards Understanding Distilled Reasoning Models",
section 5)."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

TARGETS: dict[str, tuple[str, ...]] = {
    "self-reflection": ("Wait",),
    "deductive": ("Therefore", "Thus"),
    "alternative": ("Alternatively",),
    "contrastive": ("But", "However"),
}

_PATTERNS = {name: re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) for name, words in TARGETS.items()}


def target_counts(text: str) -> dict[str, int]:
    """How often the target words of each category stand in the text, as whole words in any case."""
    return {name: len(pattern.findall(text)) for name, pattern in _PATTERNS.items()}


def target_starts(text: str) -> dict[str, list[int]]:
    """Where those words begin in the text, as characters, by category."""
    return {name: [word.start() for word in pattern.finditer(text)] for name, pattern in _PATTERNS.items()}


def target_tokens(tokens: Sequence[str], n_prompt_tokens: int, prompt: str, text: str) -> dict[str, list[int]]:
    """The tokens that begin those words in the CoT `text`, as places in `tokens` (joined they are prompt + CoT), by
    category.

    A token begins a word if it holds its first letter, and nothing before it but space.
    """
    starts = list(accumulate((len(token) for token in tokens), initial=0))
    found: dict[str, list[int]] = {name: [] for name in TARGETS}
    for category, words in target_starts(text).items():
        for letter in (len(prompt) + word for word in words):
            token = bisect_right(starts, letter) - 1
            if token >= n_prompt_tokens and not tokens[token][: letter - starts[token]].strip():
                found[category].append(token)
    return found
