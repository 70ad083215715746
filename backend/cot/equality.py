r"""When two answers are equal: both are read as what they state, and that is compared exactly.

1. `plain` brings both to one way of writing.
2. `_read` tells what is stated: a number with its unit, a choice, a list or set or tuple or interval or matrix, an
   equation or inequality, a time, a ratio, words. Formulas are parsed by math-verify's parser (latex2sympy2_extended);
   decimals become fractions before that.
3. `_same` compares what is of one kind, or of two kinds that can state the same (an inequality and an interval).
   Numbers are compared as rational or symbolic numbers, never within a tolerance.

True is said only of what is proved, or of formulas in letters that simplify to each other. What cannot be decided is
None.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from sympy import Expr, Integer, Rational, Symbol

from backend.cot.notation import AND, OR, pieces, plain
from backend.cot.quantities import CURRENCY_SIGNS, Tail, Unit, tail

Verdict = bool | None
MAX_CHARS = 500  # longer "answers" are prose or loops; they are kept as written but not judged


class _Ambiguous(Exception):
    """The text can be read in two ways that differ."""


# ---- What an answer can state
# ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """A number or formula, of one of the `units` (none: a bare one), or in percent."""

    number: Expr
    units: tuple[Unit, ...] = ()
    percent: bool = False
    letter: bool = False  # "5m": metres, or five times m


@dataclass(frozen=True)
class Choice:
    """A letter of a multiple choice, perhaps with what that choice says."""

    letter: str
    content: str | None


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Several:
    """Answers in a row. `brackets` are "" (a bare list), "{}", "()", "[]", "(]", "[)", or "matrix" (of rows)."""

    items: tuple[Any, ...]
    brackets: str


@dataclass(frozen=True)
class Equation:
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Named:
    """`name = value`: what is stated is the value."""

    name: str
    value: Any


@dataclass(frozen=True)
class Region:
    """A set of real numbers, or of solutions for `symbol`."""

    symbol: str | None
    numbers: sympy.Set


@dataclass(frozen=True)
class Inequality:
    """`formula` < 0 (or <= 0) in several letters."""

    formula: Expr
    strict: bool


@dataclass(frozen=True)
class Colon:
    """3:30, a time or a ratio; `half` is "am" or "pm" where it is said."""

    parts: tuple[Fraction, ...]
    half: str | None


# ---- Numbers and formulas
# ----------------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])|(?<![\d.])(\d+)\.(?![\d.])")
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\overline\s*\{(\d+)\}|\\bar\s*\{(\d+)\}|\\dot\s*\{(\d)\}|\((\d+)\)(?![\d(]))")
_SIMPLE = re.compile(r"([+-]?)\s*(?:\\frac\{\s*([+-]?\d+)\s*\}\{\s*(\d+)\s*\}|(\d*\.\d+|\d+\.?)\s*(?:/\s*(\d+))?)")
_MIXED = re.compile(
    r"(?<![\d.}^_])(\d+)\s*(?:\\frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}|(?:\s+|-|\s*\\?&\s*|\s+and\s+)(\d+)\s*/\s*(\d+)(?![\d.]))"
)
_GROUPED = re.compile(
    r"(?<![\d.,_])(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?: \d{3})+|"
    r"\d{1,3}(?:_\d{3})+|\d{1,3}(?:'\d{3})+)(?![\d,_'])(?=\.\d|[^.]|\.?$)"
)
_EUROPEAN = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d{1,3}(?: \d{3})+(?=,\d))(?:,(\d+))?(?![\d.,])")
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\\\d.])(\d+(?:\.\d*)?|\.\d+)[eE]\s*([+-]?\d{1,6})(?![\d.A-Za-z])")
_BASED = re.compile(
    r"([+-]?)\s*\(?\s*([0-9A-Fa-f][0-9A-Fa-f ]*?)\s*\)?\s*(?:_\s*(?:\{\s*(?:base\s*)?(\w+)\s*\}|"
    r"(\d{1,2}))|\s*\(?(?:in\s+)?base[\s-]+(\w+)\)?)|([+-]?)0([xXbBoO])([0-9A-Fa-f]+)"
)
_BASE_NAMES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "sixteen": 16,
}
_UNCLEAR = re.compile(r"\d\s*/\s*\d+\s*[A-Za-z(\\]|[A-Za-z]\s*/\s*\d*[A-Za-z]\s*[A-Za-z(]|\d\s*/\s*\d+\s*/")
_UNREADABLE = re.compile(r"\d\s+\d|[\"'?#@&!]{2}|'|\"|\?|\.\.|\\\\|^[*/^]|[-+*/^=<]$|[a-z]{4}|,")
_COMMANDS = re.compile(r"\\[A-Za-z]+")
_KNOWN_COMMANDS = re.compile(
    r"\\(?:frac|sqrt|cdot|times|div|pi|infty|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|lg|exp|binom|dbinom|tbinom|"
    r"gcd|lcm|max|min|lfloor|rfloor|lceil|rceil|sum|prod|int|lim|to|circ|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|"
    r"lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega|[{}|])(?![A-Za-z])|\\(?![A-Za-z])"
)
_TRIGONOMETRIC = re.compile(r"(\\(?:sin|cos|tan|cot|sec|csc)[^+=]{0,40}?\d(?:\.\d+)?)\^\{\\circ\}")
_READING = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)


def number(text: str) -> Expr | None:
    """The number or formula that a text without unit states; None where it states none. Raises _Ambiguous for 1/2x."""
    text = text.strip()
    if not text:
        return None
    if _INTEGER.fullmatch(text):
        return Integer(int(text)) if len(text) < 400 else None
    if based := _BASED.fullmatch(text):
        return _in_base(based)
    text = _ungrouped(text)
    if simple := _SIMPLE.fullmatch(text):
        sign, over, under, decimal, divisor = simple.groups()
        below = int(under or divisor or 1)
        if below:
            value = Fraction(over or decimal.rstrip(".")) / below
            return _rational(-value if sign == "-" else value)
    return _formula(text)


def _rational(value: Fraction) -> Expr:
    return Rational(value.numerator, value.denominator)


def _ungrouped(text: str) -> str:
    """Digits without separators of thousands, and with a decimal point: 1,234.5 and 1 234,5 and 1.234,5; 1.234 stays a
    decimal.
    """

    def european(found: re.Match[str]) -> str:
        if found[1].count(".") == 1 and not found[2]:
            return found[0]
        return re.sub(r"[. ]", "", found[1]) + (f".{found[2]}" if found[2] else "")

    return _GROUPED.sub(lambda digits: re.sub(r"[ ,_']", "", digits[0]), _EUROPEAN.sub(european, text))


def _in_base(found: re.Match[str]) -> Expr | None:
    sign, digits, braced, bare, said, sign_of_prefix, prefix, prefixed = found.groups()
    name = {"x": "16", "b": "2", "o": "8"}.get((prefix or "").lower()) or (braced or bare or said)
    base = _BASE_NAMES.get(name.lower()) or (int(name) if name.isdecimal() else 0)
    try:
        value = int((prefixed or digits).replace(" ", ""), base) if 2 <= base <= 36 else None
    except ValueError:
        return None
    return None if value is None else Integer(-value if "-" in ((sign or "") + (sign_of_prefix or "")) else value)


@lru_cache(maxsize=20_000)
def _formula(text: str) -> Expr | None:
    text = _SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", text)
    text = _REPEATING.sub(_repeated, text)
    text = _MIXED.sub(lambda m: rf"({m[1]}+\frac{{{m[2] or m[4]}}}{{{m[3] or m[5]}}})", text)
    text = _DECIMAL.sub(lambda d: rf"\frac{{{(d[1] or '') + d[2]}}}{{1{'0' * len(d[2])}}}" if d[2] else d[3], text)
    text = _TRIGONOMETRIC.sub(r"\1 \\cdot \\frac{\\pi}{180}", text)
    text = (
        re.sub(r"\^\{\\circ\}", r" \\cdot \\frac{\\pi}{180}", text) if re.search(r"\\(?:sin|cos|tan)", text) else text
    )
    bare = _COMMANDS.sub("§", text)
    if "\\" in _KNOWN_COMMANDS.sub("", text):  # \angle ABC is no product of letters
        return None
    if (
        _UNREADABLE.search(
            re.sub(r"\\(?:gcd|max|min|binom|operatorname)[^+]*", "", bare) if "," in bare and "\\" in text else bare
        )
        or "^{\\circ}" in text
    ):
        return None
    if _UNCLEAR.search(text):
        raise _Ambiguous(text)
    if bare.count("(") != bare.count(")") or text.count("{") != text.count("}"):
        return None
    try:
        found = latex2sympy(text, normalization_config=None, conversion_config=_READING)
        found = found.doit() if isinstance(found, Expr) else found
    except Exception:  # the parser raises plain Exception for what it cannot read, and sympy whatever evaluation meets
        return None
    if not isinstance(found, Expr) or found.has(sympy.nan, sympy.zoo) or isinstance(found, sympy.MatrixBase):
        return None
    return found.subs({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"}).subs(
        {symbol: sympy.E for symbol in found.free_symbols if symbol.name == "e"}
    )


def _repeated(found: re.Match[str]) -> str:
    whole, before, *periods = found.groups()
    period = next(one for one in periods if one)
    value = Fraction(
        int((whole or "0") + before + period) - int((whole or "0") + before or "0"),
        10 ** len(before) * (10 ** len(period) - 1),
    )
    return rf"(\frac{{{value.numerator}}}{{{value.denominator}}})"


def _same_number(one: Expr, other: Expr) -> Verdict:
    """Exactly; None where neither equality nor difference can be shown."""
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        return False
    if one.free_symbols != other.free_symbols:
        free = one.free_symbols ^ other.free_symbols
        if not any(sympy.simplify(side).has(*free) for side in (one, other)):
            return _same_number(sympy.simplify(one), sympy.simplify(other))
        return False
    if one.has(sympy.oo, -sympy.oo) or other.has(sympy.oo, -sympy.oo):
        return False
    difference = one - other
    if one.free_symbols:
        return _same_formula(one, other, difference)
    size = max(abs(sympy.N(one, 30)), abs(sympy.N(other, 30)))
    apart = abs(sympy.N(difference, 60, maxn=400))
    if not (apart.is_number and size.is_number):
        return None
    if apart > size * sympy.Float("1e-40"):
        return False
    if sympy.simplify(difference) == 0 or difference.equals(0):
        return True
    return None


def _same_formula(one: Expr, other: Expr, difference: Expr) -> Verdict:
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    tried = 0
    for shift in range(6):  # at numbers without pattern, of either sign
        at = {
            symbol: Rational((-1) ** (place + shift) * (7919 * (place + 1) + 104729 * shift + 13), 3571)
            for place, symbol in enumerate(symbols)
        }
        try:
            left, right = (sympy.N(side.subs(at), 40) for side in (one, other))
            if (
                not (left.is_number and right.is_number)
                or left.has(sympy.nan, sympy.zoo)
                or right.has(sympy.nan, sympy.zoo)
            ):
                continue
            if abs(left - right) > sympy.Float("1e-25") * (abs(left) + abs(right)):
                return False
            tried += 1
        except (TypeError, ValueError, ArithmeticError):
            continue
    rest = sympy.expand(difference)
    if rest == 0 or sympy.simplify(difference) == 0:
        return True
    return False if rest.is_number or rest.is_polynomial(*symbols) else None


# ---- Reading
# ----------------------------------------------------------------------------------------------------------------------

_NOTHING = frozenset(
    {
        "no solution",
        "no solutions",
        "no real solution",
        "no real solutions",
        "empty set",
        "no such number exists",
        "there is no solution",
        "there are no solutions",
        "has no solution",
        "\\emptyset",
        "{}",
        "\\{\\}",
        "\\{ \\}",
    }
)
_ALL_REALS = frozenset(
    {
        "\\mathbb{r}",
        "all real numbers",
        "all reals",
        "any real number",
        "every real number",
        "real numbers",
        "\\mathbb r",
        "x \\in \\mathbb{r}",
        "(-\\infty ,\\infty )",
    }
)
_CHOICE = re.compile(r"\(\s*([A-Ja-j])\s*\)|([A-J])\s*[.):]?|([a-j])\s*[.)]|\[\s*([A-J])\s*\]")
_CHOICE_WITH_CONTENT = re.compile(r"(?:\(\s*([A-Ja-j])\s*\)|([A-J])\s*[.):])\s*(?!(?:and|or|,|;|&)(?![A-Za-z]))(\S.*)")
_CLOCK = re.compile(
    r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?\s*([ap])\.?\s*m\.?|(\d{1,2}):([0-5]\d)(?::([0-5]\d))?", re.IGNORECASE
)
_RATIO = re.compile(r"(\d+(?:\.\d+)?(?:\s*(?::|to)\s*\d+(?:\.\d+)?)+)")
_RELATION = re.compile(r"(\\(?:le|ge|ne|equiv|approx|to)(?![A-Za-z])|<|>|=)\s*")
_MEMBER = re.compile(r"^\(?([A-Za-z](?:_\{?\w\}?)?)\)?\s*\\in(?![A-Za-z])\s*(.+)$")
_BUILDER = re.compile(
    r"^\\\{\s*([A-Za-z])(?:\s*\\in(?![A-Za-z])\s*(?:\\mathbb\{?R\}?|R))?\s*(?:\||:|\\mid)\s*(.+?)\s*\\\}$"
)
_JOINTS = f"{AND}|{OR}".split("|")
_LONG_JOINT = "|".join(word for word in _JOINTS if len(word) > 1)
_LETTER_JOINT = "|".join(word for word in _JOINTS if len(word) == 1 and word < "\u0900")
_TIGHT_JOINT = "|".join(word for word in _JOINTS if word >= "\u2e80")
_JOINED = rf"(?:(?:{_LONG_JOINT})(?=[\s\\(])|{_TIGHT_JOINT})?\s*"
_COMMA, _COMMA_AND_SPACE = re.compile(rf"[,;]\s*{_JOINED}"), re.compile(rf"(?:;\s*|,\s+){_JOINED}")
_AND_OR = re.compile(
    rf"(?:(?<=[\s)}}\]])(?:{_LONG_JOINT})(?=[\s\\(])|(?<=[\d)}}\]]\s)(?:{_LETTER_JOINT})(?=\s+-?(?:\d|\\|[A-Za-z]\s*=))"
    rf"|(?:{_TIGHT_JOINT})|\\(?:lor|vee|land|wedge)(?![A-Za-z]))\s*"
)
_ALL_BUT = re.compile(r"(?:\\mathbb\{?R\}?)\s*(?:\\(?:setminus|backslash)(?![A-Za-z])|-|\\)\s*(\\\{.+\\\})")
_CUP = re.compile(r"\\cup(?![A-Za-z])\s*|(?<=[)\]\s])U(?=[\s(\[])\s*")
_NAME = re.compile(
    r"m?\s*\\(?:angle|triangle|overline|widehat|arc|vec|sin|cos|tan)\s*\{?\s*(?:\\angle\s*)?(?:[A-Z]{1,4}|\\[a-z]+)\s*\}?|"
    r"(?:[A-Za-z]|\\[a-z]+)(?:_\{?\w+\}?|')?(?:\([^()]*\))?|[A-Za-z][A-Za-z"
    r" ]{1,30}|\|[A-Za-z]{1,3}\||\([A-Za-z](?:\s*,\s*[A-Za-z])+\)"
)
_WORD = re.compile(r"(?<![\\A-Za-z{_])[^\W\d_]{2,}")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[^{}]*\})?(.*?)\\end\{\1\}", re.DOTALL)
_SYMBOL = r"[mshgLlNJWVAKCFBdt](?:\^\{-?\d\})?"
_IN_SYMBOLS = re.compile(
    rf"(?P<head>.*[\d}})])(?:(?P<space>\s+)|(?={_SYMBOL}\s*(?:/|\\cdot)|[mshgLlNJWVAKCFBdt]$))(?P<unit>{_SYMBOL}(?:\s*(?:/|\\cdot|\\times|\s)\s*{_SYMBOL})*)"
)
_PREFIXED = re.compile(rf"^([+-]?)\s*({CURRENCY_SIGNS})\s*([+-]?)\s*(.+)$")
_COMPOUND = re.compile(r"(\d+(?:\.\d+)?)\s*([^\W\d_]+\.?|'|\")\s*(?:,|and|und|et|y)?\s*")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_WORD_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMERAL = "|".join((*_NUMBER_WORDS, "hundred", *_WORD_SCALES))
_IN_WORDS = re.compile(
    rf"(?P<sign>(?:minus|negative)\s+)?(?P<words>(?:{_NUMERAL})(?:(?:[\s-]+(?:and\s+)?)(?:{_NUMERAL})(?![a-z]))*)(?![A-Za-z])"
    rf"(?P<part>-(?=half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth))?(?:\s+and\s+an?\s+(?P<more>half|third|quarter)\b)?",
    re.IGNORECASE,
)
_HAN_DIGITS = "零〇 一壹 二两兩贰 三叁 四 五 六 七 八 九"
_HAN = {sign: value for value, signs in enumerate(_HAN_DIGITS.split()) for sign in signs}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN_RUN = rf"[{''.join((*_HAN, *_HAN_SCALES))}]+"
_IN_HAN = re.compile(  # alone, or before what is counted or measured: 一样 is no number
    rf"(?P<under>{_HAN_RUN})分之(?P<over>{_HAN_RUN}|\d+(?:\.\d+)?)$|(?P<sign>负|負)?(?P<run>{_HAN_RUN})(?:点|點)?"
    r"(?=$|\s|[个個只隻本张張条條人名位元块塊角岁歲天年月日小分秒米厘公克斤升度倍次页頁颗顆棵辆輛朵件瓶盒枚支枝つ円本匹杯袋箱平立种種步層层])"
)


def _read(text: str) -> Any:
    """What the plain text states. Words where it is nothing else. Raises _Ambiguous."""
    text = _with_digits(text)
    if not text.startswith(("(", "[", "{", "\\{", "]")) or ", " in text:
        text = _ungrouped(text)
    lowered = text.casefold()
    if lowered.removeprefix("the ") in _NOTHING:
        return Region(None, sympy.S.EmptySet)
    if lowered in _ALL_REALS:
        return Region(None, sympy.S.Reals)
    for reader in _READERS:
        if (found := reader(text)) is not None:
            return found
    return Words(text)


def _with_digits(text: str) -> str:
    """The text with a number that it begins with in digits: "twenty-five apples", "two thirds", 七个苹果,
    百分之二十."""
    if found := _IN_WORDS.match(text):
        value = _number_in_words(found["words"])
        more = {"half": " 1/2", "third": " 1/3", "quarter": " 1/4"}.get((found["more"] or "").casefold(), "")
        space = " " if found["part"] else ""
        return text if value is None else f"{'-' if found['sign'] else ''}{value}{more}{space}{text[found.end() :]}"
    if found := _IN_HAN.match(text):
        if found["run"]:
            value = _number_in_han(found["run"])
            return text if value is None else f"{'-' if found['sign'] else ''}{value} {text[found.end() :]}".strip()
        under = _number_in_han(found["under"])
        over = found["over"] if found["over"][0].isascii() else _number_in_han(found["over"])
        if under and over is not None:
            return f"{over}%" if found["under"] == "百" else rf"\frac{{{over}}}{{{under}}}"
    return text


def _number_in_words(text: str) -> int | None:
    """One number: "two hundred and five", but not "five six"."""
    total = part = 0
    before, last_scale = "", 10**15
    for word in re.split(r"[\s-]+", text.casefold()):
        if word == "and":
            if before != "hundred" and before not in _WORD_SCALES:
                return None  # two and three
        elif word in _NUMBER_WORDS:
            value = _NUMBER_WORDS[word]
            free = part % 100 == 0 and (before in ("", "and", "hundred") or before in _WORD_SCALES)
            if not free and not (0 < value < 10 and before in _TENS.split()):
                return None
            part += value
        elif word == "hundred":
            if part not in range(1, 100):
                return None
            part *= 100
        else:
            if not part or (scale := _WORD_SCALES[word]) >= last_scale:
                return None
            total, part, last_scale = total + part * scale, 0, scale
        before = word
    return None if before == "and" else total + part


def _number_in_han(text: str) -> int | None:
    """一百二十 is 120; digits in a row, as 二〇二四, are themselves."""
    if all(sign in _HAN for sign in text):
        return int("".join(str(_HAN[sign]) for sign in text))
    total = part = digit = 0
    for sign in text:
        if sign in _HAN:
            digit = _HAN[sign]
        elif (scale := _HAN_SCALES[sign]) < 10**4:
            part, digit = part + (digit or 1) * scale, 0
        else:
            total, part, digit = (total + part + digit) * scale, 0, 0
    return total + part + digit


def _choice(text: str) -> Choice | None:
    if found := _CHOICE.fullmatch(text):
        return Choice(next(group for group in found.groups() if group).upper(), None)
    if ((found := _CHOICE_WITH_CONTENT.fullmatch(text)) and not text.startswith("(")) or (
        found and found[1] and not re.match(r"[-+*/^=]", found[3])
    ):
        return Choice((found[1] or found[2]).upper(), found[3])
    return None


def _colon(text: str) -> Colon | None:
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds, half, *plain_parts = clock.groups()
        if half:
            return Colon(tuple(Fraction(part or 0) for part in (hours, minutes, seconds)), half.lower() + "m")
        return Colon(tuple(Fraction(part or 0) for part in plain_parts), None)
    if _RATIO.fullmatch(text):
        return Colon(tuple(Fraction(part) for part in re.split(r"\s*(?::|to)\s*", text)), "ratio")
    return None


def _matrix(text: str) -> Several | None:
    if (found := _MATRIX.fullmatch(text)) is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", found[2].replace("\\hline", "")) if row.strip()]
    return Several(
        tuple(Several(tuple(_read(cell.strip()) for cell in row.split("&")), "()") for row in rows), "matrix"
    )


def _builder(text: str) -> Any:
    if found := _BUILDER.match(text):
        return _read(found[2])
    if found := _MEMBER.match(text):
        inside = _read(found[2])
        if isinstance(inside, Region):
            return Region(found[1], inside.numbers)
        return inside if isinstance(inside, Several) and inside.brackets == "{}" else _as_region(inside, found[1])
    return None


def _union(text: str) -> Region | None:
    if found := _ALL_BUT.fullmatch(text):
        but = _as_region(_read(found[1]))
        return None if but is None else Region(None, sympy.Complement(sympy.S.Reals, but.numbers))
    parts = pieces(text, _CUP)
    if len(parts) < 2:
        return None
    read = [_as_region(_read(part)) for _, part in parts]
    regions = [region for region in read if region is not None]
    return None if len(regions) < len(read) else Region(None, sympy.Union(*(region.numbers for region in regions)))


def _plus_minus(text: str) -> Several | None:
    if len(re.findall(r"\\pm(?![A-Za-z])", text)) != 1 or "," in text:
        return None
    name, sign, rest = text.rpartition("=")
    if sign and not _NAME.fullmatch(name.strip()):
        return None
    found = [
        _read(re.sub(r"\\pm(?![A-Za-z])\s*", change, rest).strip().removeprefix("+").strip()) for change in ("+", "-")
    ]
    return Several(tuple(found), "") if all(isinstance(one, Value) for one in found) else None


def _related(text: str) -> Any:
    """An equation, a definition or an inequality."""
    parts = pieces(text, _RELATION)
    if len(parts) < 2 or any(not part for _, part in parts):
        return None
    signs = {sign for sign, _ in parts[1:]}
    if signs <= {"=", "\\approx", "\\to"}:
        return _equation([part for _, part in parts])
    if signs & {"\\equiv", "\\approx", "\\to"}:
        return None
    return _inequality(parts)


def _equation(sides: Sequence[str]) -> Any:
    if _NAME.fullmatch(sides[0]):
        value = _read(sides[-1])
        return None if isinstance(value, Words) and len(value.text.split()) > 3 else Named(_squeezed(sides[0]), value)
    values = [_read(side) for side in sides]
    if all(isinstance(value, Value) and not value.units for value in values):
        if not any(value.number.free_symbols for value in values):
            return values[-1]  # 3 + 4 = 7
        if len(values) == 2:
            if _NAME.fullmatch(sides[1]) and not values[0].number.free_symbols:
                return Named(_squeezed(sides[1]), values[0])
            return Equation(values[0].number, values[1].number)
    return None


def _inequality(parts: Sequence[tuple[str, str]]) -> Any:
    sides: list[Any] = [number(part) for _, part in parts]
    if any(side is None for side in sides):
        return None
    symbols = set().union(*(side.free_symbols for side in sides))
    relations = [(sign, left, right) for (sign, _), left, right in zip(parts[1:], sides, sides[1:], strict=False)]
    if len(symbols) == 1:
        (symbol,) = symbols
        real = Symbol(symbol.name, real=True)
        numbers = sympy.S.Reals
        for sign, left, right in relations:
            left, right = left.subs(symbol, real), right.subs(symbol, real)
            relation = {
                "<": sympy.Lt,
                ">": sympy.Gt,
                "\\le": sympy.Le,
                "\\ge": sympy.Ge,
                "\\ne": sympy.Ne,
                "=": sympy.Eq,
            }[sign](left, right)
            try:
                numbers = numbers.intersect(relation.as_set())
            except (NotImplementedError, TypeError, ValueError, AttributeError):
                return None
        return Region(symbol.name, numbers)
    if len(relations) == 1 and symbols and relations[0][0] in ("<", ">", "\\le", "\\ge"):
        sign, left, right = relations[0]
        return Inequality(left - right if sign in ("<", "\\le") else right - left, sign in ("<", ">"))
    return None


def _enclosed(text: str) -> Any:
    """A set, tuple, list or interval in brackets around the whole text."""
    opening = next((sign for sign in ("\\{", "(", "[", "]", "{") if text.startswith(sign)), None)
    closing = next((sign for sign in ("\\}", ")", "]", "[", "}") if text.endswith(sign)), None)
    if opening is None or closing is None or len(text) <= len(opening) + len(closing):
        return None
    inside = text[len(opening) : len(text) - len(closing)]
    if not _balanced(inside) or ((opening == "]") != (closing == "[") and opening == "]"):
        return None
    brackets = {"\\{": "{", "{": "{", "]": "("}.get(opening, opening) + {"\\}": "}", "}": "}", "[": ")"}.get(
        closing, closing
    )
    if brackets not in ("{}", "()", "[]", "(]", "[)"):
        return None
    parts = [
        part
        for _, part in pieces(inside, re.compile(r";\s*" if ";" in inside else r",\s+" if ", " in inside else r",\s*"))
    ]
    if len(parts) == 1:
        if brackets == "()":
            return _read(inside.strip())
        if opening == "{":
            return _read(inside.strip())
        return Several((_read(parts[0]),), brackets) if brackets in ("{}", "[]") else None
    if not all(parts):
        return None
    return Several(tuple(_read(part) for part in parts), brackets)


def _balanced(text: str) -> bool:
    depth = 0
    for sign in re.findall(r"\\[{}]|[()\[\]{}]", text):
        depth += 1 if sign[-1] in "([{" else -1
        if depth < 0:
            return False
    return depth == 0


def _listed(text: str) -> Any:
    """Answers with commas, "and" or "or" between them."""
    if _GROUPED.fullmatch(text) or _COMPOUND_WHOLE.fullmatch(text):
        return None
    parts = pieces(text, _COMMA_AND_SPACE if re.search(r",\s|;", text) else _COMMA)
    parts = [(before or joint, part) for before, whole in parts for joint, part in pieces(whole, _AND_OR)]
    if len(parts) < 2 or any(not part for _, part in parts):
        return None
    if len(parts) == 2 and re.search(r"(?:^|[\s\d])(?:and|&)$", parts[1][0]) and _MIXED.fullmatch(text):
        return None
    items = [_read(part) for _, part in parts]
    if any(isinstance(item, Region) for item in items):
        return _combined(items, [joint for joint, _ in parts[1:]])
    if all(isinstance(item, Words) for item in items) and any(len(item.text.split()) > 4 for item in items):
        return None
    if all(isinstance(item, Named) for item in items):
        names = [item.name for item in items]
        if len(set(names)) == 1:
            return Several(tuple(item.value for item in items), "{}")  # solutions: no point
        if len(set(names)) == len(names):
            return Several(tuple(sorted(items, key=lambda item: item.name)), "names")
        return None
    if isinstance(items[0], Named) and all(isinstance(item, Value) for item in items[1:]):  # x = 2, 3
        items[0] = items[0].value
    if all(re.fullmatch(OR, joint) for joint, _ in parts[1:]) and all(_same(items[0], item) for item in items[1:]):
        return items[0]  # 0.5 or 1/2
    flat = [
        inner
        for item in items
        for inner in (item.items if isinstance(item, Several) and item.brackets == "" else (item,))
    ]
    return Several(tuple(flat), "")


def _combined(items: Sequence[Any], joints: Sequence[str]) -> Region | None:
    read = [
        _as_region(item.value if isinstance(item, Named) else item, item.name if isinstance(item, Named) else None)
        for item in items
    ]
    regions = [region for region in read if region is not None]
    symbols = {region.symbol for region in regions if region.symbol}
    if len(regions) < len(read) or len(symbols) > 1:
        return None
    words = {joint.strip(" ,;") for joint in joints}
    if all(re.fullmatch(OR + r"|\\lor|\\vee", word) for word in words):
        numbers = sympy.Union(*(region.numbers for region in regions))
    elif all(re.fullmatch(AND + r"|\\land|\\wedge", word) for word in words):
        numbers = sympy.Intersection(*(region.numbers for region in regions))
    else:
        return None
    return Region(next(iter(symbols), None), numbers)


def _as_region(read: Any, symbol: str | None = None) -> Region | None:
    if isinstance(read, Region):
        return read
    if isinstance(read, Value) and not read.units and not read.percent and not read.number.free_symbols:
        return Region(symbol, sympy.FiniteSet(read.number))
    if isinstance(read, Several) and all(
        isinstance(item, Value) and not item.units and not item.number.free_symbols for item in read.items
    ):
        values = [item.number for item in read.items]
        if read.brackets == "{}":
            return Region(symbol, sympy.FiniteSet(*values))
        if len(values) == 2 and len(read.brackets) == 2 and (values[0] < values[1]) == True:  # noqa: E712 - a sympy truth; (3, 2) is a point
            return Region(
                symbol, sympy.Interval(*values, left_open=read.brackets[0] == "(", right_open=read.brackets[1] == ")")
            )
    return None


_ONE = r"\d+(?:\.\d+)?\s*(?:[^\W\d_]+\.?|'|\")"
_COMPOUND_WHOLE = re.compile(rf"{_ONE}(?:\s*(?:,|and|und|et|y)?\s*{_ONE})+")
_HOURS = re.compile(r"(\d+)\s*(?:h|hours?|heures?)\s*([0-5]\d)")


def _compound(text: str) -> Value | None:
    """5 feet 6 inches, 1 h 30 min, 5'6": the sum, where all parts measure the same."""
    text = _HOURS.sub(r"\1 h \2 min", text) if _HOURS.fullmatch(text) else text
    if not _COMPOUND_WHOLE.fullmatch(text):
        return None
    short = {"'": "feet", '"': "inches"} | (
        {"m": "min"} if re.search(r"\d\s*(?:h|hr|hrs|hours?)(?![a-z])", text) else {}
    )
    parts = [(found[1], short.get(found[2], found[2])) for found in _COMPOUND.finditer(text)]
    read = [tail(unit) for _, unit in parts]
    tails = [one for one in read if one is not None]
    if len(tails) < len(read) or any(
        one.percent or any(unit.things or not unit.dimensions for unit in one.units) for one in tails
    ):
        return None
    for units in itertools.product(*(one.units for one in tails)):
        if all(a.dimensions == b.dimensions and a.scale > b.scale for a, b in itertools.pairwise(units)):
            total = sum(
                (_rational(Fraction(value)) * unit.scale for (value, _), unit in zip(parts, units, strict=True)),
                Integer(0),
            )
            return Value(total / units[0].scale, (units[0],))
    return None


def _value(text: str) -> Value | None:
    """A number or formula with what stands before and behind it."""
    if prefixed := _PREFIXED.match(text):
        sign, currency, second_sign, rest = prefixed.groups()
        money = tail(currency)
        inner = _value(rest)
        if money is None or inner is None or inner.percent:
            return None
        if inner.units and not any(unit.agrees_with(own) for unit in inner.units for own in money.units):
            units = tuple(
                _joined_unit(own, unit) for own in money.units for unit in inner.units if not _has_money(unit)
            )
            if not units:
                return None
        else:
            units = money.units
        return Value(-inner.number if "-" in (sign or "") + (second_sign or "") else inner.number, units)
    if _BASED.fullmatch(text) or _TRIGONOMETRIC.search(text):
        found = number(text)
        return None if found is None else Value(found)
    if symbolic := _IN_SYMBOLS.fullmatch(text):  # 10 m/s, 5 N \cdot m, 5 m; of 5m nobody knows
        head, unit = number(symbolic["head"]), tail(symbolic["unit"])
        if head is not None and unit is not None and not head.free_symbols:
            return Value(head, unit.units, letter=not symbolic["space"] and len(symbolic["unit"]) == 1)
    if (
        not _WORD.search(text)
        and "%" not in text
        and not text.endswith("^{\\circ}")
        and (found := number(text)) is not None
    ):
        return Value(found)
    for head_text, space, rest in _splits(text):
        if (unit := tail(rest, tight=not space)) is None:
            continue
        head = number(head_text)
        if head is None or (head.free_symbols and any(one.things for one in unit.units)):
            continue
        return Value(head * unit.scale, () if _bare(unit) else unit.units, percent=unit.percent)
    if "%" in text or not re.search(r"[\d+*/^(\\]", text) or re.search(r"(?<!\\)\b[^\W\d_]{4}", text):
        return None
    found = number(text)
    return None if found is None else Value(found)


def _bare(unit: Tail) -> bool:
    return all(not one.dimensions and not one.things for one in unit.units)


def _has_money(unit: Unit) -> bool:
    return any(
        name in ("dollar", "euro", "sterling", "yen", "yuan", "rupee", "won", "ruble") for name, _ in unit.dimensions
    )


def _joined_unit(money: Unit, other: Unit) -> Unit:
    return Unit(money.scale * other.scale, Integer(0), money.dimensions | other.dimensions, money.things | other.things)


def _splits(text: str) -> Iterator[tuple[str, str, str]]:
    """Where a number may end and its unit begin: at words outside braces, from the left."""
    depth = 0
    for place, sign in enumerate(text):
        if sign in "{(":
            depth += 1
        elif sign in "})":
            depth -= 1
        starts = (
            text.startswith("^{\\circ}", place)
            or sign in "%¢$€£¥₹₩₽₺₫/"
            or (sign.isalpha() and (place == 0 or not text[place - 1].isalpha()))
        )
        if place and starts and depth == 0 + (text.startswith("{", place)):
            before = text[:place]
            if before.endswith("\\") or re.search(r"\\[A-Za-z]*$", before) or re.search(r"[_^]$", before):
                continue
            head = before.rstrip().removesuffix("-")
            if head and (head[-1] in "0123456789})!" or head.endswith(("\\pi", "\\infty"))):
                yield head, before[len(head) :], text[place:]


_READERS: tuple[Callable[[str], Any], ...] = (
    _choice,
    _colon,
    _matrix,
    _builder,
    _union,
    _plus_minus,
    _compound,
    _enclosed,
    _listed,
    _related,
    _value,
)


# ---- Comparing
# ---------------------------------------------------------------------------------------------------------------------


def equal(answer: str, truth: str) -> Verdict:
    """Whether the two state the same. May run for ever, so only judging processes call it."""
    if len(answer) > MAX_CHARS or len(truth) > MAX_CHARS:
        return None
    one, other = plain(answer), plain(truth)
    if one == other or _squeezed(one) == _squeezed(other):
        return True
    try:
        left, right = _read(one), _read(other)
        verdict = _same(left, right)
        if verdict is False and (again := _with_decimal_comma(one, right) or _with_decimal_comma(other, left)):
            verdict = again
        if verdict is False and any(re.search(r"\.\.\.|\\[lc]?dots(?![A-Za-z])", side) for side in (one, other)):
            return None  # 3.14...: of how it goes on nothing is said
        return verdict
    except (_Ambiguous, RecursionError):
        return None


def _squeezed(text: str) -> str:
    """Without spaces, but those between digits or letters."""
    return re.sub(r"(?<![\dA-Za-z])\s+|\s+(?![\dA-Za-z])", "", text)


def _with_decimal_comma(text: str, other: Any) -> Verdict:
    """Of "3,14": the verdict if its comma is a decimal one, as far as the other side is a number that is not whole."""
    if not isinstance(other, Value) or not other.number.is_Rational or (other.number.is_integer and not other.percent):
        return None
    if not re.match(r"[-+]?(?:0,\d+|\d+,(?:\d{1,2}|\d{4,}))(?!\d|\s*,)", text):
        return None
    read = _read(text.replace(",", ".", 1))
    return _same(read, other) if isinstance(read, Value) else None


def _same(one: Any, other: Any) -> Verdict:
    if isinstance(one, Several) and len(one.items) == 1 and one.brackets != "matrix" and not isinstance(other, Several):
        one = one.items[0]
    if (
        isinstance(other, Several)
        and len(other.items) == 1
        and other.brackets != "matrix"
        and not isinstance(one, Several)
    ):
        other = other.items[0]
    for left, right in ((one, other), (other, one)):
        if (rule := _RULES.get((type(left), type(right)))) is not None:
            return rule(left, right)
    return _different_kinds(one, other)


def _different_kinds(one: Any, other: Any) -> Verdict:
    """Two kinds that cannot state the same; words that may be anything are unknown only against words."""
    if isinstance(one, Words) and isinstance(other, Words):
        return None
    return False


def _values(one: Value, other: Value) -> Verdict:
    if one.percent != other.percent:
        percent, bare = (one, other) if one.percent else (other, one)
        if bare.units:
            return False
        return _either(
            _same_number(percent.number, bare.number), lambda: _same_number(percent.number / 100, bare.number)
        )
    if one.letter != other.letter and not (one.units and other.units):
        united, bare = (one, other) if one.letter else (other, one)
        return None if _same_number(united.number, bare.number) is not False else False
    if not one.units or not other.units:
        return _same_number(one.number, other.number)
    if any(_is_angle_and_temperature(a, b) for a in one.units for b in other.units):
        return _same_number(one.number, other.number)  # "20 degrees" and "20 °C"
    verdicts = [
        _same_number(one.number * a.scale + a.offset, other.number * b.scale + b.offset)
        for a in one.units
        for b in other.units
        if a.agrees_with(b)
    ]
    return True if True in verdicts else None if None in verdicts else False


def _is_angle_and_temperature(one: Unit, other: Unit) -> bool:
    measured = {name for unit in (one, other) for name, _ in unit.dimensions}
    return measured == {"radian", "kelvin"} and sympy.pi / 180 in (one.scale, other.scale)


def _either(first: Verdict, second: Callable[[], Verdict]) -> Verdict:
    if first:
        return True
    then = second()
    return True if then else None if first is None or then is None else False


def _choices(one: Choice, other: Choice) -> Verdict:
    return one.letter == other.letter


def _choice_and_value(choice: Choice, value: Value) -> Verdict:
    if choice.content is not None:
        return _same(_read(choice.content), value)
    name = str(value.number)
    return len(name) == 1 and name.upper() == choice.letter and not value.units


def _choice_and_other(choice: Choice, other: Any) -> Verdict:
    return False if choice.content is None else _same(_read(choice.content), other)


def _words(one: Words, other: Words) -> Verdict:
    formulas = any(re.search(r"[\d\\=+*/^<>|]", side.text) for side in (one, other))
    left, right = (_squeezed(side.text.casefold()) if formulas else _bare_words(side.text) for side in (one, other))
    if left == right:
        return True
    if "\\" in one.text + other.text or not (_prose(one.text) and _prose(other.text)):
        return None
    if sorted(left.split()) == sorted(right.split()) or (len(left) <= 3 and sorted(left) == sorted(right)):
        return None  # March 5 and 5 March; or products of letters, perhaps
    return False


def _bare_words(text: str) -> str:
    words = re.sub(r"[\"'`.,;:!?()\[\]-]", " ", text.casefold()).split()
    return " ".join(word for word in words if word not in ("the", "a", "an"))


def _prose(text: str) -> bool:
    return re.search(r"[^\W\d_]{2,}|[\u2e80-\uffff]", text) is not None


def _words_and_value(words: Words, value: Value) -> Verdict:
    letters = value.number.free_symbols and words.text.isalpha()
    return None if letters and len(words.text) == len(value.number.free_symbols) else False


def _equations(one: Equation, other: Equation) -> Verdict:
    left, right = (sympy.expand(sympy.together(side.left - side.right).as_numer_denom()[0]) for side in (one, other))
    if left == 0 or right == 0:
        return left == right
    if left.free_symbols != right.free_symbols:
        return False
    ratio = sympy.simplify(left / right)
    if ratio.is_number:
        return bool(ratio != 0)
    return False if left.is_polynomial() and right.is_polynomial() else None


def _named(one: Named, other: Named) -> Verdict:
    first, second = one.name.split("(")[0], other.name.split("(")[0]
    said = len(first) > 2 or len(second) > 2  # "Area = 5" and "A = 5"; and y may stand for f(x)
    if isinstance(one.value, Value) and isinstance(other.value, Value) and first != second and not said:
        names = [number(side.name) for side in (one, other)]
        if None not in names:  # x = 2y and y = x/2; xy = 1 and y = 1/x
            left, right = (Equation(name, side.value.number) for name, side in zip(names, (one, other), strict=True))
            symbols = [side.left.free_symbols | side.right.free_symbols for side in (left, right)]
            if symbols[0] == symbols[1] and len(symbols[0]) > 1:
                return _equations(left, right)
    if first == second or said or ("y" in (one.name, other.name) and "(" in one.name + other.name):
        return _same(one.value, other.value)
    return False


def _named_and_other(named: Named, other: Any) -> Verdict:
    return _same(named.value, other)


def _named_and_equation(named: Named, equation: Equation) -> Verdict:
    name = number(named.name) if re.fullmatch(r"[A-Za-z](?:_\{?\w\}?)?", named.name) else None
    if name is None or not isinstance(named.value, Value) or named.value.units:
        return False
    return _equations(Equation(name, named.value.number), equation)


def _several(one: Several, other: Several) -> Verdict:
    brackets = {one.brackets, other.brackets}
    if "names" in brackets:
        return _with_names(one, other)
    if "matrix" in brackets:
        return _matrices(one, other)
    if brackets <= {"", "{}"}:
        if brackets == {"{}"}:
            one, other = (Several(_distinct(side.items), "{}") for side in (one, other))
        return _in_any_order(one.items, other.items)
    if "{}" in brackets:
        return False
    interval = len(one.items) == len(other.items) == 2
    if len(brackets) == 2 and ((interval and brackets != {"", "()"}) or not brackets <= {"", "()", "[]"}):
        return False
    return _in_order(one.items, other.items)


def _with_names(one: Several, other: Several) -> Verdict:
    if one.brackets == other.brackets:
        if [item.name for item in one.items] != [item.name for item in other.items]:
            return False
        return _in_order([item.value for item in one.items], [item.value for item in other.items])
    named, bare = (one, other) if one.brackets == "names" else (other, one)
    return _in_order([item.value for item in named.items], bare.items) if bare.brackets in ("", "()") else False


def _matrices(one: Several, other: Several) -> Verdict:
    def rows(side: Several) -> list[tuple[Any, ...]] | None:
        if side.brackets == "matrix":
            return [row.items for row in side.items]
        if side.brackets in ("[]", "()") and all(isinstance(item, Several) for item in side.items):
            return [item.items for item in side.items]
        return [(item,) for item in side.items] if side.brackets in ("()", "[]") else None  # a vector is a column

    left, right = rows(one), rows(other)
    if left is None or right is None or [len(row) for row in left] != [len(row) for row in right]:
        return False
    return _all(_in_order(a, b) for a, b in zip(left, right, strict=True))


def _in_order(one: Sequence[Any], other: Sequence[Any]) -> Verdict:
    return len(one) == len(other) and _all(_same(a, b) for a, b in zip(one, other, strict=True))


def _all(verdicts: Iterator[Verdict]) -> Verdict:
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _in_any_order(one: Sequence[Any], other: Sequence[Any]) -> Verdict:
    if len(one) != len(other):
        return False
    left, doubtful = list(other), False
    for item in one:
        verdicts = [_same(item, candidate) for candidate in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            doubtful = True
        else:
            return False
    return None if doubtful else True


def _distinct(items: Sequence[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for item in items:
        if not any(_same(item, other) for other in kept):
            kept.append(item)
    return tuple(kept)


def _regions(one: Region, other: Region) -> Verdict:
    if one.symbol and other.symbol and one.symbol != other.symbol:
        return False
    if one.numbers == other.numbers:
        return True
    try:
        rest = one.numbers.symmetric_difference(other.numbers)
        return {True: True, False: False}.get(rest.is_empty)
    except (NotImplementedError, TypeError, ValueError):
        return None


def _region_and_other(region: Region, other: Any) -> Verdict:
    found = _as_region(other)
    return False if found is None else _regions(region, found)


def _inequalities(one: Inequality, other: Inequality) -> Verdict:
    ratio = sympy.simplify(one.formula / other.formula) if other.formula != 0 else sympy.nan
    return bool(one.strict == other.strict and ratio.is_number and ratio.is_positive)


def _colons(one: Colon, other: Colon) -> Verdict:
    if "ratio" in (one.half, other.half) or (len(one.parts) != len(other.parts) and None not in (one.half, other.half)):
        if {one.half, other.half} & {"am", "pm"} or len(one.parts) != len(other.parts):
            return False
        return all(a * other.parts[0] == b * one.parts[0] for a, b in zip(one.parts, other.parts, strict=True))
    if (one.half and other.half) or one.half == other.half:
        return one == other
    half, bare = (one, other) if one.half else (other, one)
    return bare.parts in (half.parts, (half.parts[0] % 12 + (12 if half.half == "pm" else 0), *half.parts[1:]))


def _colon_and_value(colon: Colon, value: Value) -> Verdict:
    """A ratio and a fraction; a full hour and its bare number."""
    if colon.half != "ratio" and not any(colon.parts[1:]) and not value.percent and not value.units:
        return _same_number(_rational(colon.parts[0]), value.number)
    if (
        colon.half in ("am", "pm")
        or len(colon.parts) != 2
        or value.units
        or value.percent
        or not colon.parts[1]
        or value.number.is_integer
    ):
        return False
    return _same_number(_rational(colon.parts[0] / colon.parts[1]), value.number)


_RULES: dict[tuple[type, type], Callable[[Any, Any], Verdict]] = {
    (Value, Value): _values,
    (Choice, Choice): _choices,
    (Choice, Value): _choice_and_value,
    (Choice, Words): _choice_and_other,
    (Choice, Several): _choice_and_other,
    (Words, Words): _words,
    (Words, Value): _words_and_value,
    (Equation, Equation): _equations,
    (Named, Named): _named,
    (Named, Equation): _named_and_equation,
    (Named, Value): _named_and_other,
    (Named, Several): _named_and_other,
    (Named, Words): _named_and_other,
    (Named, Choice): _named_and_other,
    (Named, Colon): _named_and_other,
    (Several, Several): _several,
    (Region, Region): _regions,
    (Region, Several): _region_and_other,
    (Region, Value): _region_and_other,
    (Inequality, Inequality): _inequalities,
    (Colon, Colon): _colons,
    (Colon, Value): _colon_and_value,
}
