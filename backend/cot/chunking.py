"""Cuts a chain of thought into chunks (sentences) as character spans that tile it, and maps those spans onto tokens.

How a text is cut (Bogdan et al. 2025, "Thought Anchors", with nothing dropped):
1. A boundary follows `.`, `?` or `!` when a space or a newline comes next, and follows a blank line.
2. Other scripts end their sentences with signs of their own (`。`, `？`, `।`, `؟`, `።` …: the property Sentence_Break =
   STerm of Unicode's annex 29), and many put no space behind them: a boundary follows such a sign wherever it stands,
   and the closing quotes and brackets behind it, unless a comma or its like, or と behind a quotation, goes on with the
   sentence. `．` ends one when no digit follows. Behind a Chinese or Japanese character `.`, `?` and `!` need no space
   either, unless a small letter or a digit follows: models write them so. Behind a Greek letter `;` before white space
   is a question mark.
3. White space at a boundary: if the run holds a newline, everything up to its last newline closes the chunk before,
   because tokenizers glue newlines to the sentence they end (".\\n\\n" is one token in Llama 3 and Qwen); what is left
   of the run, and a run of plain spaces, opens the next chunk, because " Then" is one token.
4. A chunk of fewer than 10 characters, white space around it not counted, merges into the next one; the last into the
   one before.

The published splitters strip the chunks, re-join them with a space, and drop a trailing fragment; here joining gives
the text back.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex

from backend.errors import AnchorscopeError

MIN_CHUNK_CHARS = 10

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"  # scripts without spaces between sentences
_SIGNS = (
    rf"(?:[\p{{SB=STerm}}--[?!]]|[\p{{SB=ATerm}}--[.]](?!\p{{Nd}})|(?<={_UNSPACED})[.?!]++(?=[\p{{Lo}}\p{{Lu}}\p{{Ps}}\p{{Pi}}])"
    r"|(?<=\p{Greek})[;\u037e](?=\s))"
)
_OF_OTHER_SCRIPTS = rf"(?:{_SIGNS}[?!]*+)++[\p{{Pe}}\p{{Pf}}]*+(?!\p{{SB=SContinue}}|(?<=[」』])(?:と|って))"
_BOUNDARY = regex.compile(rf"(?:[.?!](?=[ \n]|\r\n)|{_OF_OTHER_SCRIPTS})(?:\s*\n)?|\n\s*\n", regex.V1)
_SECOND_RULE = regex.compile(_SIGNS, regex.V1)


class TokenSpanError(AnchorscopeError):
    """Token offsets that cannot belong to the text they are said to belong to."""


def chunk_spans(text: str) -> list[tuple[int, int]]:
    """Character spans [start, end) of the chunks, in reading order. They tile `text`; empty text gives no chunk."""
    if not text:
        return []
    cuts = [match.end() for match in _BOUNDARY.finditer(text)]
    if not cuts or cuts[-1] != len(text):
        cuts.append(len(text))
    spans: list[tuple[int, int]] = []
    start = 0
    for cut in cuts:
        if len(text[start:cut].strip()) >= MIN_CHUNK_CHARS:
            spans.append((start, cut))
            start = cut
    if start < len(text):  # what is left is too short to stand alone
        begin = spans.pop()[0] if spans else 0
        spans.append((begin, len(text)))
    return spans


def newest_rule(text: str) -> int:
    """Which version of the rules above has a say in where `text` is cut: 2 where it holds a sign of step 2, else 1,
    which had no such step. A change of the rules gets the next number here, so that only what it can cut differently is
    made anew.
    """
    return 2 if _SECOND_RULE.search(text) else 1


def token_spans(
    spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]], text_start: int = 0
) -> list[tuple[int, int]]:
    """Token spans [s, e) of the chunks in the full token sequence (prompt + CoT).

    `spans` tile the CoT; `offsets` holds the (start, end) character of every token of prompt + CoT, from one
    tokenisation of the whole text; `text_start` is where the CoT begins in it (`len(prompt)`). A token belongs to the
    chunk in which it starts, so a token that begins in the prompt is the prompt's. The spans tile the tokens that start
    within the CoT; a chunk in which no token starts gets an empty span (s == e). Special tokens without text, at either
    end, belong to no chunk. Takes linear time.
    """
    extents = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    with_text = np.flatnonzero(extents[:, 1] > extents[:, 0])
    first, last = (int(with_text[0]), int(with_text[-1]) + 1) if len(with_text) else (0, 0)
    starts = extents[first:last, 0]
    if np.any(np.diff(starts) < 0):
        where = first + 1 + int(np.flatnonzero(np.diff(starts) < 0)[0])
        raise TokenSpanError(
            f"token {where} starts at character {int(extents[where, 0])}, before the token in front of it; expected the"
            " offsets of one tokenisation of the whole text, in order. Tokenise prompt + CoT once, with"
            " return_offsets_mapping=True."
        )
    edges = [start for start, _ in spans] + [end for _, end in spans[-1:]]
    cuts = np.searchsorted(starts, np.asarray(edges, dtype=np.int64) + text_start, side="left") + first
    return [(int(s), int(e)) for s, e in pairwise(cuts)]
