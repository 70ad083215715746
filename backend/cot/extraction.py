r"""Where in a response its answer stands.

1. What comes after the end of thinking leads; the thought is looked at only where nothing is stated behind it.
2. An answer is stated by a box (`boxes`), by GSM8K's last line `#### 18`, by <answer>…</answer>, or in words ("the
   answer is …", in many languages: `statements`). The last statement counts; one that is taken back at once, or only
   supposed, counts where there is no other.
3. Said in words, it ends with its sentence or where a reason begins.
4. Behind a closed thought, a short text that states nothing in words may still conclude: by its last bold value, or by
   its only number.

Every pattern has bounded repetitions, so time is linear in the text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from backend.cot.boxes import all_boxes
from backend.cot.statements import (
    CHOSEN,
    COPULA_BEHIND,
    CUE,
    HYPOTHETICAL,
    IS_ANSWER,
    NOUNS,
    REASON,
    REJECTED,
    TITLE,
    TITLE_CUE,
    WORDS,
)
from backend.cot.thoughts import TAGS

# The closing tags of the registry; what stands in texts of which a part of a tag was lost; and home-made ones that no
# template has.
_THOUGHT_ENDS = re.compile(
    "|".join(re.escape(tags.close) for tags in TAGS)
    + r"|<\|channel\|>final<\|message\|>|assistantfinal(?=\W)|</(?:thoughts|reason)>|<\|end_of_thinking\|>",
    re.IGNORECASE,
)
# What models write where their turn ends; it stands in texts that were decoded with their special tokens. What follows
# is another turn.
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end_of_text|end_of_turn|end_of_solution|return|endofassistant)\|>|<\|end\|>(?!\s*<\|(?:start\|>assistant|channel\|>))"
    r"|<｜end▁of▁sentence｜>|<(?:end_of_turn|eos|turn\|)>|\[/?INST\]|</s>(?=\s*(?:</s>|<pad>|\Z|\n))"
)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]{1,200})")
_TAGGED = re.compile(
    r"<(answer|final_answer)>((?:[^<]|<(?!/)){1,400})</\1>|\[ANSWER\]([^\[]{1,400})\[/ANSWER\]", re.IGNORECASE
)
_VALUE_ALONE = re.compile(
    r"(?:[$€£¥₹]|\\\$)?\s*[-+−]?(?:\d[\d,.\s/:]{0,40}|\.\d+|\$[^$]{1,150}\$|\\[(\[].{1,150}\\[)\]]|\\d?frac\{[^{}]{1,40}\}\{[^{}]{1,40}\}|\\[a-z]+[^.]{0,80}|"
    r"[A-Za-z]\s*=\s*-?\d[\d,./]{0,20}|\(?[A-J]\)?|True|False|Yes|No|true|false|yes|no)\s*%?\s*[.。]?"
)
_HEADING_NUMBER = re.compile(
    r"\d+\s*[.):]\s*\S*[^\W\d_]|(?:step|part|case|method|solution|example|section|option)\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(
    r"[.!?](?=[\s*_\"'”»)]|$|</)|[。！？｡।॥؟．]|\n|</(?:answer|final_answer|solution|response|output|result)>|\[/ANSWER\]",
    re.IGNORECASE,
)
_ABBREVIATION = re.compile(r"(?:\b(?:[ap]\.m|approx|ca|i\.e|e\.g|Rs|vs|sq|cu|ft|in|z\.B))\.$", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$.{1,400}?\$\$|\$[^$\n]{1,300}\$|\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]", re.DOTALL)
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")
_NUMBER = re.compile(r"(?:[$€£¥₹]|\\\$)?(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?\s?(?:%|\\%)?")
_RESULT = re.compile(
    rf"{_NUMBER.pattern}(?:\s?[^\W\d_]{{1,20}}){{0,3}}|\\d?frac\{{[^{{}}]{{1,40}}\}}\{{[^{{}}]{{1,40}}\}}"
)
_MATHEMATICAL = re.compile(r"\d|\\[a-zA-Z]|[½⅓⅔¼¾⅕⅛πθ√∞∅±]|[A-Za-z)]\s*[-+*/^=]\s*[A-Za-z(\d]")
_PROSE_FIRST = re.compile(
    r"(?!(?:approximately|approx|about|around|roughly|exactly|nearly|almost|equal|a total|only|just|"
    r"etwa|environ|aproximadamente|circa|около|"
    r"sin|cos|tan|log|ln|sqrt|pi|infinity|all real|no (?:real )?solutions?|true|false|yes|no|none|"
    r"both|option|choice|between|at least|at most|"
    r"more than|less than|US|Rs)\b)[^\W\d_]{2,}(?:\s|$|,)"
)
_AGAIN = re.compile(r"[^\W\d_]{0,12}(?: [^\W\d_]{1,12}){0,3} ?")
_LONGEST = 400
_NEAR = 3_000  # characters
_MOST = 1_000  # words for "answer" that are looked at, the last ones: a text that goes round in circles has more


@dataclass(frozen=True)
class Statement:
    """An answer as it was written, and the characters [start, end) that it takes; of several boxes, from the first to
    the last.
    """

    text: str
    start: int
    end: int
    firm: bool = True


def extract_answer(text: str) -> str | None:
    """The answer a response gives, as written; None where it gives none."""
    found = find_answer(text)
    return None if found is None else found.text


def answer_place(text: str) -> tuple[int, int] | None:
    """Where in the response that answer stands, as characters [start, end)."""
    found = find_answer(text)
    return None if found is None else (found.start, found.end)


def find_answer(text: str) -> Statement | None:
    turn = next((end.start() for end in _TURN_ENDS.finditer(text) if text[: end.start()].strip()), len(text))
    text = text[:turn]
    ends = [end.span() for end in _THOUGHT_ENDS.finditer(text)][-20:]
    starts = [0, *(end for _, end in ends)]
    stops = [*(start for start, _ in ends), len(text)]
    for part, (start, stop) in reversed(list(enumerate(zip(starts, stops, strict=True)))):
        found = _stated_last(text, start, stop) or (_concluded(text, start, stop) if part else None)
        if found is not None:
            return found
    return None


def _stated_last(text: str, start: int, stop: int) -> Statement | None:
    """What text[start:stop] states last. Nearly always it stands near the end, so that is looked at first."""
    line = text.find("\n", max(start, stop - _NEAR), stop) + 1
    for begin in (line, start) if stop - start > _NEAR and line else (start,):
        found = _stated(text[begin:stop])
        if found is not None and (found.firm or begin == start):
            return Statement(found.text, found.start + begin, found.end + begin, found.firm)
    return None


def _stated(text: str) -> Statement | None:
    """The last firm statement of the text, else the last one."""
    statements = sorted(_statements(text), key=lambda statement: statement.start)
    return next((one for one in reversed(statements) if one.firm), statements[-1] if statements else None)


def _statements(text: str) -> Iterator[Statement]:
    boxes = all_boxes(text)
    for box in boxes:
        doubted = REJECTED.match(text, box.end) or HYPOTHETICAL.search(text[max(0, box.start - 40) : box.start])
        yield Statement(box.text, box.start, box.end, not doubted)
    for place in (*_after_hashes(text), *_in_tags(text), *_in_words(text), *_chosen(text)):
        before = bisect_right(boxes, place.start, key=lambda box: box.start) - 1
        if (before < 0 or boxes[before].end <= place.start) and "\\box" not in place.text:
            yield place


def _after_hashes(text: str) -> Iterator[Statement]:
    r"""GSM8K's mark. A Markdown heading of level 4 is none: "#### Step 2", "#### 2. Adding"."""
    written = len(text.rstrip())
    for found in _HASHES.finditer(text):
        start, end = _bare(text, *found.span(1))
        line = text[start:end]
        last = found.end() >= written
        if _VALUE_ALONE.fullmatch(line) or (
            last and re.match(r"[-$€£\\]*\d", line) and not _HEADING_NUMBER.match(line) and len(line.split()) <= 4
        ):
            yield Statement(line, start, end)


def _in_tags(text: str) -> Iterator[Statement]:
    for found in _TAGGED.finditer(text):
        start, end = _bare(text, *found.span(2 if found[2] else 3))
        inside = text[start:end]
        if re.search(r"\w", inside) and "\\box" not in inside and next(_in_words(inside), None) is None:
            yield Statement(text[start:end], start, end)


def _chosen(text: str) -> Iterator[Statement]:
    for found in CHOSEN.finditer(text):
        start, end = found.span(1 if found[1] else 2)
        yield Statement(text[start:end], start, end)
    for found in IS_ANSWER.finditer(text):
        start, end = _bare(text, *found.span(1))
        doubted = HYPOTHETICAL.search(text[max(0, start - 40) : start]) or REJECTED.match(text, found.end())
        yield Statement(text[start:end], start, end, not doubted)


def _in_words(text: str) -> Iterator[Statement]:
    position, places = 0, _nouns(text)
    for number, place in enumerate(places):
        if place < position or (cue := CUE.match(text, place) or _title(text, place)) is None:
            continue
        if any(
            _AGAIN.fullmatch(text, cue.end(), later) and CUE.match(text, later)
            for later in places[number + 1 : number + 3]
        ):
            continue  # "Final Answer: The final answer is 5"
        start, end, asked = _said(text, cue.end())
        said = text[start:end]
        labelled = cue[0].rstrip(" *_\"'`“«\n\t").endswith((":", "：", "=")) or "\n" in cue[0]
        if not said or (worth := _worth(said, labelled=labelled)) is None:
            continue
        supposed = HYPOTHETICAL.search(text[max(0, place - 40) : place]) or REJECTED.match(text, end) or asked
        position = max(cue.end(), end)
        yield Statement(said, start, end, worth and not supposed)


def _nouns(text: str) -> list[int]:
    """Where a word for "answer" begins, in any language: searched for word by word, which is far faster than by one
    pattern.
    """
    small = text.lower()
    if len(small) != len(text):  # a few letters have longer small forms
        small = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    places = set()
    for noun in NOUNS if not small.isascii() else filter(str.isascii, NOUNS):
        place = small.find(noun)
        while place >= 0:
            places.add(place)
            place = small.find(noun, place + len(noun))
    return sorted(places)[-_MOST:]


def _title(text: str, place: int) -> re.Match[str] | None:
    line = max(text.rfind("\n", max(0, place - 60), place) + 1, place - 60)
    return (
        TITLE_CUE.match(text, place)
        if line >= 0 and (line == 0 or text[line - 1] == "\n") and TITLE.fullmatch(text, line, place)
        else None
    )


def _said(text: str, start: int) -> tuple[int, int, bool]:
    """From `start` to where the answer said there ends, and whether a question mark ends it."""
    limit = min(len(text), start + _LONGEST)
    formula = _FORMULA.match(text, start, limit)
    begin = formula.end() if formula else start
    end, asked = limit, False
    for stop in _SENTENCE_END.finditer(text, begin, limit):
        if stop[0] == "." and _ABBREVIATION.search(text, max(start, stop.start() - 8), stop.end()):
            continue
        if _inside_formula(text, start, stop.start()):
            continue
        end, asked = stop.start(), stop[0] in "?？؟"
        break
    else:
        if limit < len(text):
            end = begin if formula else start
    if (
        text[start - 1 : start] in ('"', "“", "`", "«")
        and start
        and (close := text.find({"“": "”", "«": "»"}.get(text[start - 1], text[start - 1]), start, end)) > 0
    ):
        return *_bare(text, start, close), asked
    if reason := REASON.search(text, begin, end):
        end = reason.start()
    begin, end = _bare(text, start, end)
    if behind := COPULA_BEHIND.search(text, begin, end):
        begin, end = _bare(text, begin, behind.start())
    return begin, end, asked


def _inside_formula(text: str, start: int, place: int) -> bool:
    before = text[start:place]
    return (
        (before.count("$") % 2 == 1 and "$" in text[place : place + 200])
        or before.count("\\(") > before.count("\\)")
        or before.count("\\[") > before.count("\\]")
    )


def _worth(said: str, *, labelled: bool) -> bool | None:
    """Whether what was said is surely an answer (True), perhaps one (False), or none."""
    if len(said) > 200 or (re.fullmatch(r"[\W_]+", said) and not re.search(r"[√∞∅½¼¾]", said)):
        return None
    word = said.casefold().strip(".()*\"' ")
    if "[/" in said or "</" in said:
        return None
    if re.match(r"\([A-J]\)\s|[A-J][.):]\s", said):
        return True
    if re.fullmatch(r"[(\[]?[A-Ja-j][)\].]?", said) and said not in ("a", "i"):
        return True
    if word in WORDS:
        return True
    if _MATHEMATICAL.search(said):
        if not _PROSE_FIRST.match(said) or (said[0].isupper() and len(said.split()) <= 6) or not said[0].isascii():
            return True
        return False if labelled and len(said.split()) <= 6 else None
    words = said.split()
    if len(words) > 4 or re.match(
        r"(?:what|how|in|on|below|above|as follows|given|not|correct|wrong|right|incorrect|the following|"
        r"obtained|found|clear|simple|unique|to|we|there|a|an|the|obvious|trivial|easy|straightforward|"
        r"known|unknown|same|different|still|already|now|always|never|unclear|likely|probably)\b",
        word,
    ):
        return None
    return labelled or said[0].isupper()


def _concluded(text: str, start: int, stop: int) -> Statement | None:
    """What a text behind a closed thought comes to, where it does not say so."""
    start, end = _bare(text, start, stop)
    if start < end and end - start <= 60:
        said = text[start:end]
        if (
            _VALUE_ALONE.fullmatch(said)
            or re.fullmatch(r"[\d\s.,+*/×÷=()-]+", said)
            or (" " not in said and _worth(said, labelled=True))
        ):
            return Statement(said, start, end)
    bold = [found.span(1) for found in _BOLD.finditer(text, max(start, end - 4_000), end) if _is_value(found[1])]
    if bold:
        begin, stop = _bare(text, *bold[-1])
        return Statement(text[begin:stop], begin, stop, firm=False)
    result = text.rfind("=", start, end) + 1
    if result and end - start <= 300:
        begin, stop = _bare(text, result, end)
        if _RESULT.fullmatch(text, begin, stop):
            return Statement(text[begin:stop], begin, stop, firm=False)
        if (number := _NUMBER.match(text, begin, stop)) and not re.search(r"[\d=\\]", text[number.end() : stop]):
            begin, stop = _stripped(text, *number.span())
            return Statement(text[begin:stop], begin, stop, firm=False)
    numbers = list(_NUMBER.finditer(text, start, end)) if end - start <= 300 else []
    if len({number[0].strip() for number in numbers}) == 1 and not re.search(r"\\[A-Za-z]", text[start:end]):
        begin, stop = _stripped(text, *numbers[-1].span())
        return Statement(text[begin:stop], begin, stop, firm=False)
    return None


def _is_value(said: str) -> bool:
    return bool(_MATHEMATICAL.search(said)) and not _PROSE_FIRST.match(said) and not _HEADING_NUMBER.match(said)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its ends."""
    inside = text[start:end]
    return (
        (start, start)
        if not inside.strip()
        else (start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip()))
    )


_WRAPPING = (
    ("**", "**"),
    ("*", "*"),
    ("__", "__"),
    ("`", "`"),
    ('"', '"'),
    ("“", "”"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("$$", "$$"),
    ("$", "$"),
)


def _closes_more(text: str) -> bool:
    return sum(text.count(sign) for sign in ")]}") > sum(text.count(sign) for sign in "([{")


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space, emphasis, quotation marks, delimiters of formulas and the last punctuation around
    it.
    """
    before = None
    while before != (start, end):
        before = start, end = _stripped(text, start, end)
        while (
            end > start
            and text[end - 1] in ".,;:*_，。、✅✓✔☑\ufe0f🎉"
            and not (text[end - 1] == "." and _ABBREVIATION.search(text, max(start, end - 8), end))
        ):
            end -= 1
        start, end = _stripped(text, start, end)
        while end > start and text[end - 1] in ")]}" and _closes_more(text[start:end]):  # what opened before the answer
            end -= 1
        while start < end and text[start] in "*:，：、,":
            start += 1
        for opening, closing in _WRAPPING:
            if (
                text.startswith(opening, start, end)
                and text.endswith(closing, start, end)
                and end - start > len(opening) + len(closing)
            ):
                inside = text[start + len(opening) : end - len(closing)]
                if opening not in inside and closing not in inside:
                    start, end = start + len(opening), end - len(closing)
                    break
    return start, end
