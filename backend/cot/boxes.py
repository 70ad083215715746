r"""The boxes a text puts its answer in: \boxed{2}, \boxed 2, \fbox{2}, and several of them that are stated together.

One pass from left to right: time is linear in the text, also for thousands of braces that never close.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from backend.cot.notation import AND, OR

# JSON reads the \b of "\boxed" as a backspace and the \f of "\fbox" as a form feed: both stand in files that people
# publish.
_COMMAND = r"(?:\\(?:boxed|framebox|fbox)|\x08oxed|\x0cbox|(?<![A-Za-z])boxed(?=\{))(?![A-Za-z])"
_BRACES = re.compile(
    rf"{_COMMAND}(?:(?:\[[^\]\n]{{0,20}}\]){{0,2}}\s*(?P<brace>\{{))?|\\.|[{{}}]", re.DOTALL
)  # an escaped brace is text
_BARE = re.compile(r"[ \t]*([^\n$]*?)[ \t]*(?:\\[)\]]|[\n$]|\Z)")
_FIRST_TOKEN = re.compile(r"(?:\\[A-Za-z]+(?:\{[^{}]*\})*|[^\s\\{}$])+")
_PROSE = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}|=|\.\s")
_PLACEHOLDER = re.compile(
    r"(?:\\(?:text|mathrm|textbf)\{)?[\s\[<_]*(?:(?:your|the|final|numerical?|correct)[\s_]*)*(?:answer|result|number|value)?[\s\]>_]*\}?"
    r"|\.{2,}|…|\\[lc]?dots|\\ldots|\?+|(?:\\_|_)+|\\(?:square|Box|cdots|quad|,)+|\\phantom\{[^{}]*\}",
    re.IGNORECASE,
)

_AND_OR = f"{AND}|{OR}"
_JOINT = (
    r"[,;、，"
    rf"；]|\\\\|\b(?:{_AND_OR})\b|\\text(?:rm|bf)?\{{\s*,?\s*(?:{_AND_OR})\s*\}}|\(?\b(?:[a-h1-9]|[ivx]{{1,4}})\)"
)
_FILLER = r"\s|[$&~*:.]|\\(?:[()\[\],;:! ]|q?quad\b)|[A-Za-z](?:_\{?\w\}?|')?\s*&?\s*(?:=|\\in\b)"
_TOGETHER = re.compile(rf"(?:{_FILLER}|{_JOINT})*+")
_HAS_JOINT = re.compile(_JOINT)
_SAME_SENTENCE = re.compile(
    r"[\s$.]*(?:\bis\s+(?:one|a|the\s+first)\s+[a-z]{1,12}\s*)?,?\s*\b(?:and|or)\b(?:\s+(?!(?:now|not|then|so|hence|thus|therefore|wait|actually|instead|but|which|gives?|get)\b)[A-Za-z]+){0,6}"
    r"[\s:$]*(?:[A-Za-z]\s*=\s*)?"
)
_LONGEST_GAP = 120  # characters between two boxes that are one answer


@dataclass(frozen=True)
class Boxed:
    """An answer in one box or in several: its text, and the characters [start,
    end) from the first content to the last."""

    text: str
    start: int
    end: int


def last_boxed(text: str) -> str | None:
    r"""What the last box says, "2, 3" for "\boxed{2} and \boxed{3}"; None where no box that holds anything closes."""
    found = last_box(text)
    return None if found is None else found.text


def last_box(text: str) -> Boxed | None:
    """The last box with the boxes before it that are stated together with it."""
    return next(reversed(all_boxes(text)), None)


def all_boxes(text: str) -> list[Boxed]:
    """Every box of the text in its order, those stated together as one. Of nested boxes the innermost counts."""
    answers: list[list[tuple[int, int]]] = []
    for box in _boxes(text):
        if answers and _joined(text, answers[-1][-1][1], box[0]):
            answers[-1].append(box)
        else:
            answers.append([box])
    return [_answer(text, spans) for spans in answers]


def _answer(text: str, spans: Sequence[tuple[int, int]]) -> Boxed:
    said = list(dict.fromkeys(text[start:end] for start, end in spans))
    first = spans[0] if len(said) > 1 else spans[-1]
    return Boxed(", ".join(said), first[0], spans[-1][1])


def _boxes(text: str) -> list[tuple[int, int]]:
    open_braces: list[int | None] = []  # for each: where a box's content starts, None for an ordinary one
    found: list[tuple[int, int]] = []
    for brace in _BRACES.finditer(text):
        written = brace[0]
        if brace["brace"]:
            open_braces.append(brace.end())
        elif written == "{":
            open_braces.append(None)
        elif written == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None and (not found or start > found[-1][0]):
                _add(found, text, start, brace.start())
        elif len(written) > 2:  # a box without braces
            _add(found, text, *_bare(text, brace.end()))
    return found


def _add(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    inside = text[start:end]
    if not _PLACEHOLDER.fullmatch(inside.strip()[:60]):
        found.append((start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())))


def _bare(text: str, start: int) -> tuple[int, int]:
    r"""Content of a box without braces: to the end of its formula, or, where prose follows, what stands up to the next
    space.
    """
    rest = _BARE.match(text, start, start + 200)
    if rest is None or rest[1].startswith(("\\boxed", "\\fbox")):
        return start, start
    begin, end = rest.span(1)
    if _PROSE.search(text, begin, end):
        token = _FIRST_TOKEN.match(text, begin, end)
        end = token.end() if token else begin
    return begin, begin + len(text[begin:end].rstrip(".,;:!?* "))


def _joined(text: str, end: int, start: int) -> bool:
    gap = text[end:start]
    command = gap.rfind("\\") if "\\" in gap else max(gap.rfind("\x08"), gap.rfind("\x0c"), gap.rfind("boxed"))
    between = gap[:command].lstrip().removeprefix("}")
    if not 0 <= command <= _LONGEST_GAP or "\n\n" in between:
        return False
    if _TOGETHER.fullmatch(between):
        return "\n" not in between or _HAS_JOINT.search(between) is not None
    return _SAME_SENTENCE.fullmatch(between) is not None
