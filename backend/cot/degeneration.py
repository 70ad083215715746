"""How a continuation reads when steering goes too far or makes the model doubt: self-reflection words, repetition,
compression, loops.

Everything counts what stands in the text; nothing asks a model. A text is *degenerate* when it ends in a loop: steered
generation that falls into one does not leave it, so the end is what tells. Loops are all this finds: fluent nonsense
and random tokens do not repeat, and show as KL and accuracy instead.
"""

import re
import zlib

# The core are the reasoning categories of "Towards Understanding Distilled Reasoning Models" (section 5) in which a
# chain turns back on itself: self-reflection ("Wait"), alternative ("Alternatively") and contrastive ("But",
# "However"); around them the other words by which R1's distillations do the same. The deductive category ("Therefore",
# "Thus") goes forward and is none of them.
REFLECTION_MARKERS = (
    "wait",
    "hmm",
    "hm",
    "but",
    "however",
    "alternatively",
    "actually",
    "hold on",
    "on second thought",
    "double check",
    "recheck",
    "let me check",
    "let me verify",
    "let me confirm",
    "let me reconsider",
    "let me rethink",
    "let me think again",
    "let me try again",
    "let's check",
    "let's verify",
    "let's reconsider",
    "not sure",
    "is that right",
    "is that correct",
    "did i make",
)

# How the rule was found: 529 real chains (traces of five of R1's distillations, and the base solutions of Thought
# Anchors) were cut off at 43,544 places, and none of these texts reads as degenerate; of loops planted in them that
# were gone through six times and filled 200 characters 3,999 of 4,000 do. Repetition alone takes a matrix product of
# zeros and ones for a loop, so it counts where the text compresses too; without words (signs, digits, scripts without
# spaces) only the compression can tell.
TAIL_CHARACTERS = (200, 300, 400, 600, 800)
LOOP_REPETITION, LOOP_COMPRESSION = 0.65, 2.5
WORDLESS_LOOP_COMPRESSION = 5.0

_NGRAM = 4
_WORDS = re.compile(r"\w+(?:['’]\w+)*")
_MARKERS = re.compile(
    r"\b(?:"
    + "|".join(
        re.escape(marker).replace(r"\ ", r"[\s-]+").replace("'", "['’]")
        for marker in sorted(REFLECTION_MARKERS, key=len)[::-1]
    )
    + r")\b",
    re.IGNORECASE,
)


def reflection_words(text: str) -> int:
    """How many self-reflection markers the text holds: whole words in any case, a phrase counting once."""
    return len(_MARKERS.findall(text))


def repetition(text: str) -> float | None:
    """Share of the text's word 4-grams that occurred before in it, in [0, 1); None under 5 words, where there is
    nothing to repeat.

    It grows with length in ordinary text too (half of the real chains, about 4,000 characters each, have 0.09 or more),
    so compare texts of like length.
    """
    words = _WORDS.findall(text.lower())
    if len(words) <= _NGRAM:
        return None
    ngrams = list(zip(*(words[start:] for start in range(_NGRAM)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams)


def compression_ratio(text: str) -> float | None:
    """Bytes of the text in UTF-8 over its bytes after zlib at level 9; None for an empty text.

    Ordinary English reads about 1.1 at 100 characters, 1.9 at 800 and 2.6 at 4,000: zlib's 11 bytes of frame weigh on
    short texts (a single letter gives 0.1), and longer ones have more to refer back to. Compare texts of like length.
    """
    written = text.encode("utf-8", errors="surrogatepass")
    return len(written) / len(zlib.compress(written, 9)) if written else None


def is_degenerate(text: str) -> bool:
    """Whether the text ends in a loop: its last 200, 300, 400, 600 or 800 characters (or all of a shorter text) have a
    compression ratio of at least 5, or one of at least 2.5 and a repetition of at least 0.65. A loop that the text left
    again is not seen, nor one that has only begun.
    """
    return any(_loops(tail) for tail in {text[-length:] for length in TAIL_CHARACTERS})


def _loops(text: str) -> bool:
    compression = compression_ratio(text) or 0
    return compression >= WORDLESS_LOOP_COMPRESSION or (
        compression >= LOOP_COMPRESSION and (repetition(text) or 0) >= LOOP_REPETITION
    )
