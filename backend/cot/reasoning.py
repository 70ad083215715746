"""The four reasoning categories by their target words ("Towards Understanding Distilled Reasoning Models", section 5)."""

import re

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
