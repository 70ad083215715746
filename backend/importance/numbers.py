r"""Which numbers and operators a sentence has, so that two sentences can be told to say the same of different numbers.

Sentence embeddings hardly see a digit: "31 + 9 = 40" and "31 + 9 = 41" have a cosine of 0.93. The rule `numbers` calls
two sentences alike where their embeddings are and the numbers and operators of one are those of the other, each as
often; in which order they stand does not matter ("9 + 31 = 40" is like "31 + 9 = 40", and so "40 - 9" is like "9 - 40",
if their embeddings are).

A number is what it is worth: 1,000 is 1000, five is 5, 0.5 is 1/2, and a quotient is two numbers and a division, so
that 20/4 is not 40/8. LaTeX and typographic signs are read as the plain ones (\frac, \times, −, ×, ²); an x between two
numbers is a multiplication, a hyphen that joins words or begins a list is none. Letters of formulas are not looked at.
"""

import re
from collections import Counter
from fractions import Fraction

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_UNITS = {word: value for value, word in enumerate(_SMALL.split())}
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1000000}
_WORD = "|".join((*_UNITS, *_TENS, *_SCALES))
_IN_WORDS = re.compile(rf"\b(?:{_WORD})(?:[- ](?:{_WORD}))*\b")
_PLAIN = tuple(
    (re.compile(pattern), becomes)
    for pattern, becomes in (
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1 / \2 "),  # \frac12
        (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1 / \2 "),
        (r"\\(?:times|cdot|ast)\b|[×·⋅∙]", " * "),
        (r"(?<=[\w)])\s*\*\*\s*(?=[\d(])", " ^ "),
        (r"\*\*", " "),  # bold
        (r"\\div\b|÷|⁄|\bdivided by\b", " / "),
        (r"\\(?:leq?|leqslant)\b|<=", " ≤ "),
        (r"\\(?:geq?|geqslant)\b|>=", " ≥ "),
        (r"\\(?:neq?)\b|!=", " ≠ "),
        (r"\\approx\b", " ≈ "),
        (r"\\sqrt\b", " √ "),
        (r"\\pm\b", " ± "),
        (r"==|\bequals\b|\bis equal to\b", " = "),
        (r"\bplus\b", " + "),
        (r"(?<=[\d)}])\s*\bminus\b", " - "),
        (r"(?<=[\d)}])\s*\btimes\b", " * "),
        (r"\\%|\bpercent\b|\bper cent\b", "%"),
        (r"[−–—]", "-"),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"(?<=\d)(?:\{,\}|\\,|,)(?=\d{3}(?!\d))", ""),  # thousands
        (r"(?<=\d)\s*[x]\s*(?=\d)", " * "),
        (r"[{}$]|\\[a-z]+", " "),
    )
)
_TOKEN = re.compile(r"\d+\.\d+|(?<!\d)\.\d+|\d+|[+*/^=<>≤≥≠≈√±%]|-")
_AFTER_VALUE = re.compile(r"(?:[\d)\]%!]|(?<![a-z'’])[a-z])\s*$")  # a value: a number, a bracket, a single letter
_LONGEST = 40  # digits of what is read as a number


def numbers_and_operators(text: str) -> Counter[str]:
    """How often each number and operator occurs. A number that is not whole is a numerator, a division and a
    denominator.
    """
    found: Counter[str] = Counter()
    text = _plain(text)
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if sign == "-":
            found.update("-" if _is_minus(text, *token.span()) else ())
        elif sign == "*" and not _is_after_value(text, token.start()):
            continue  # of a list, or for stress
        elif sign[0].isdigit() or sign[0] == ".":
            found.update(_parts(sign))
        else:
            found[sign] += 1
    return found


def same_numbers(one: str, other: str) -> bool:
    return numbers_and_operators(one) == numbers_and_operators(other)


def _plain(text: str) -> str:
    text = _IN_WORDS.sub(lambda words: str(_worth(re.split(r"[- ]", words.group()))), text.lower())
    for pattern, becomes in _PLAIN[:2]:
        while (simpler := pattern.sub(becomes, text)) != text:  # the innermost first
            text = simpler
    for pattern, becomes in _PLAIN[2:]:
        text = pattern.sub(becomes, text)
    return text


def _worth(words: list[str]) -> str:
    """Two hundred five is 205, two five are two numbers."""
    numbers, total, begun = [], 0, 0
    last = ""
    for word in words:
        if word in _SCALES:
            begun = max(begun, 1) * _SCALES[word]
            if word != "hundred":
                total, begun = total + begun, 0
        elif word in _TENS or last in _UNITS or (last in _TENS and _UNITS[word] in (0, *range(10, 20))):
            if last in _UNITS or last in _TENS:
                numbers.append(total + begun)
                total, begun = 0, 0
            begun += {**_UNITS, **_TENS}[word]
        else:
            begun += _UNITS[word]
        last = word
    return " ".join(map(str, (*numbers, total + begun)))


def _parts(digits: str) -> tuple[str, ...]:
    if len(digits) > _LONGEST:
        return (digits,)
    value = Fraction(digits)
    return (str(value),) if value.denominator == 1 else (str(value.numerator), "/", str(value.denominator))


def _is_minus(text: str, start: int, end: int) -> bool:
    """Whether a hyphen takes away: after a value and before one, or joined to the number that it is the sign of."""
    after = text[end : end + 8]
    if not re.match(r"\s*[\d.(\[√\\]|\s*[a-z](?![a-z])", after):
        return False
    return _is_after_value(text, start) or (after[:1].isdigit() and not text[:start][-1:].isalpha())


def _is_after_value(text: str, start: int) -> bool:
    return bool(_AFTER_VALUE.search(text[max(0, start - 8) : start]))
