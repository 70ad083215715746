r"""One way of writing for the many in which models and data sets write the same answer.

`plain("**Approximately** $4,2 \times 10^{⁻³}$.")` and the like: Markdown, delimiters of formulas, LaTeX that only
spaces or decorates, Unicode signs, digits of other scripts and words of caution go; what carries value stays. Nothing
here knows mathematics.
"""

import re
import unicodedata

AND = (
    r"and|as well"
    r" as|und|sowie|et|y|e|ed|и|і|i|oraz|en|och|og|ve|và|dan|和|与|與|及|以及|と|及び|および|와"
    r"|과|및|그리고|और|و|এবং|และ"
)
OR = r"or|oder|ou|o|u|или|або|lub|eller|veya|hoặc|atau|或者?|または|또는|या|أو|หรือ"

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "0123456789+-()ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖ", "0123456789+-()nk")
_SIGNS = {
    "×": r"\times ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "∙": r"\cdot ",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "−": "-",
    "–": "-",
    "‐": "-",
    "‑": "-",
    "±": r"\pm ",
    "∞": r"\infty ",
    "π": r"\pi ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "⩽": r"\le ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≡": r"\equiv ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "°": r"^{\circ}",
    "º": r"^{\circ}",
    "℃": r"^{\circ}C",
    "℉": r"^{\circ}F",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}",
    "µ": "μ",
    "∠": r"\angle ",
    "∨": " or ",
    "∧": " and ",
    "，": ", ",
    "、": ", ",
    "；": "; ",
    "：": ":",
    "。": ".",
    "．": ".",
    "٫": ".",
    "٬": ",",
    "⁄": "/",
    "％": "%",
    "′": "'",
    "’": "'",
    "‘": "'",
    "ʹ": "'",
    "″": '"',
    "“": '"',
    "”": '"',
    "„": '"',
    "«": '"',
    "»": '"',
    "…": "...",
    "（": "(",
    "）": ")",
    "［": "[",
    "］": "]",
    "｛": "{",
    "｝": "}",
    "＋": "+",
    "－": "-",
    "＝": "=",
    "＜": "<",
    "＞": ">",
    "／": "/",
    "⟨": "(",
    "⟩": ")",
    "〈": "(",
    "〉": ")",
    "＊": "*",
    "｜": "|",
    "⁠": "",
    "​": "",
    "\ufeff": "",
    "‌": "",
    "⇒": r"\to ",
    "→": r"\to ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "θ": r"\theta ",
    "λ": r"\lambda ",
    "φ": r"\phi ",
    "ω": r"\omega ",
    "σ": r"\sigma ",
    "δ": r"\delta ",
    "ε": r"\epsilon ",
    "ρ": r"\rho ",
    "τ": r"\tau ",
    "Δ": r"\Delta ",
    "Ω": r"\Omega ",
}
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_RANGE = re.compile(r"\(?[$€£]?\d[\d.,]*\s?–\s?[$€£]?\d[\d.,]*(?:\s?%|\s[^\W\d_]+)?\)?")
_SPACES = re.compile(
    r"[\u00a0\u2000-\u200a\u202f\u205f\u3000\t\n\r ]+|(?<!\\)\\[,;:>"
    r" ]|~|\\(?:quad|qquad|thinspace|enspace|hfill)(?![A-Za-z])"
)
_SILENT = re.compile(
    r"\\!|\\(?:left|right|m?left|bigg?[lr]?|Bigg?[lr]?|displaystyle|textstyle|scriptstyle|limits|nolimits|strut|rm|bf|it|cal|sf|tt|"
    r"mathstrut|noindent|centering|large|Large|huge|small|normalsize|relax|negthinspace|nonumber|allowbreak)(?![A-Za-z])\.?(?!\d)"
    r"|\\(?:[hv]space|[hv]?phantom|label|tag|color|vphantom|enclose)\*?\{[^{}]*\}"
)
_WRAPPER = re.compile(
    r"\\(?:text(?:rm|bf|it|sf|tt|normal|up|sc|superscript)?|math(?:rm|bf|it|sf|tt|normal|bb(?=\{[^RZNQC]))|mbox|hbox|fbox|boxed|framebox|"
    r"operatorname\*?|boldsymbol|bm|pmb|underline|emph|textcolor\{[^{}]*\}|colorbox\{[^{}]*\}|mathop|mathord|bold|ensuremath|cancel)\s*"
    r"\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:([A-Za-z\d])\s*([A-Za-z\d])|([A-Za-z\d])\s*(?=\{)|(?=\{))")
_BRACED_THEN_DIGIT = re.compile(r"(\\frac\{[^{}]*\})\s*([A-Za-z\d])")
_ROOT = re.compile(r"\\sqrt\s*(?=\d|[A-Za-z])([A-Za-z\d])")
_UNICODE_ROOT = re.compile(r"([√∛∜])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]|\\[a-z]+))")
_CALLED_ROOT = re.compile(r"(?<![\\A-Za-z])(sqrt|cbrt)\s*(?:\(((?:[^()]|\([^()]*\))*)\)|\{([^{}]*)\}|(\d+))")
_EMPHASIS = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<![\w\\])__(?=\S)(.+?)(?<=\S)__(?!\w)|`+([^`]+)`+", re.DOTALL)
_ITALICS = re.compile(r"^([*_])(?=[^\s*_])([^*_]+)(?<=\S)\1$")
_FORMULA = re.compile(r"\$\$([^$]*)\$\$|(?<!\\)\$([^$]*?)(?<!\\)\$")
_STRAY = re.compile(r"^(?:\\\\\s*)+|(?:\s*\\\\)+$|</?(?:b|i|em|strong|p|u|code|span)>|<br ?/?>|^\*\*\s*|\s*\*\*$")
_QUOTED = re.compile(r"^([\"'])(.*)\1$", re.DOTALL)
_HEDGE = re.compile(
    r"^(?:(?:is\s+)?(?:approximately|approx\.?|about|around|roughly|nearly|almost|circa|ca\.|exactly|precisely|simply|just|only|"
    r"a total of|in total|either|equal to|equals|is equal to|is|are|therefore|thus|so|"
    r"etwa|ungefähr|rund|genau|insgesamt|environ|exactement|approximativement|aproximadamente|cerca"
    r" de|exactamente|exatamente|circa|"
    r"esattamente|примерно|около|приблизительно|ровно|khoảng|लगभग|تقريبا|حوالي)\s+|\\(?:approx|sim|simeq|thickapprox|therefore|implies)\s*"
    r"|~\s*|=\s*|(?:大约|大約|约为?|約|恰好|刚好|一共|总共|およそ|ちょうど|약)\s*)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"^(?:the\s+)?(?:(?:final|correct|right)\s+)?(?:answer|option|choice|result|solutions?)(?:\s+(?:is|are)\s+|\s*:\s*|\s+(?=\(?[A-Za-z]\)?\W*$))",
    re.IGNORECASE,
)
_CAUTIOUS_END = re.compile(
    r"\s*(?:\(?\s*(?:approximately|approx\.?|rounded[^()]*|exactly|in total|total|altogether)\s*\)?)$", re.IGNORECASE
)
_FUNCTIONS = re.compile(
    r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|csc|log|ln|(?:sec|exp|lim|max|min|gcd|lcm)(?=\s*[({_\\])|pi|infinity|infty|inf|"
    r"theta|alpha|beta|gamma|lambda|phi|omega|sigma|delta)(?![A-Za-z])"
)
_POWER = re.compile(r"\*\*(?=[\d({\-+A-Za-z])")
_EXPONENT = re.compile(r"\^\s*(?:\(([^()]*)\)|([+-]?\d+(?:/\d+)?(?![\d.]))|([+-]\s*(?:[A-Za-z]|\\[a-z]+)))")


def plain(answer: str) -> str:
    """The answer without what carries no value."""
    text, before = _unified(answer), None
    while text != before:
        before = text
        text = _uncovered(text)
    return " ".join(_mathematics(text).split())


def _unified(text: str) -> str:
    """Signs and digits of Unicode as LaTeX and ASCII have them."""
    text = re.sub(
        r"([⁰¹²³⁴-⁹]+)[⁄/]([₀-₉]+)",
        lambda f: rf"\frac{{{f[1].translate(_SUPERSCRIPTS)}}}{{{f[2].translate(_SUBSCRIPTS)}}}",
        text,
    )
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻⁽⁾ⁿⁱ]+", lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub(r"[₀-₉₊₋₍₎ₙₖ]+", lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
    text = "".join(_sign_of(letter) for letter in text) if not text.isascii() else text
    if _RANGE.fullmatch(text.strip()):  # 5–6 is from 5 to 6, not 5 less 6
        text = text.replace("–", " up to ")
    text = _SIGN.sub(lambda sign: _SIGNS[sign[0]], text)
    text = re.sub(r"(?<=[\s\d])—|—(?=\d)|^—", "-", text)
    return _UNICODE_ROOT.sub(_root, text)


def _sign_of(letter: str) -> str:
    if letter.isascii() or letter in _SIGNS:
        return letter
    if (value := unicodedata.decimal(letter, None)) is not None:  # ١٥, १५, １５
        return str(value)
    kept = unicodedata.normalize("NFKC", letter)
    if "⁄" in kept:  # ½
        over, under = kept.split("⁄")
        return rf"\frac{{{over}}}{{{under or 1}}}"
    return kept if "\uff00" <= letter <= "\uffef" else letter


def _root(found: re.Match[str]) -> str:
    inside = next(group for group in found.groups()[1:] if group is not None)
    degree = {"∛": "[3]", "∜": "[4]", "cbrt": "[3]"}.get(found[1], "")
    return rf"\sqrt{degree}{{{inside}}}"


def _uncovered(text: str) -> str:
    """The text with one more layer of wrapping off. Called until nothing changes."""
    text = text.strip()
    text = re.sub(r"\\[lr]angle(?![A-Za-z])", lambda name: "(" if name[0][1] == "l" else ")", text)
    text = re.sub(r"\\(?:lbrace|lvert)(?![A-Za-z])", lambda name: r"\{" if "brace" in name[0] else "|", text)
    text = re.sub(r"\\(?:rbrace|rvert|vert|mid)(?![A-Za-z])", lambda name: r"\}" if "brace" in name[0] else "|", text)
    text = _SILENT.sub("", text)
    text = _WRAPPER.sub(r" \1 ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)
    text = (
        text.replace("{,}", ",")
        .replace("{.}", ".")
        .replace("{:}", ":")
        .replace("\\%", "%")
        .replace("\\#", "#")
        .replace("\\&", "&")
    )
    text = _EMPHASIS.sub(lambda found: next(group for group in found.groups() if group is not None), text)
    text = _STRAY.sub("", text)
    text = _ITALICS.sub(r"\2", text.strip())
    text = _QUOTED.sub(r"\2", text)
    text = _FORMULA.sub(lambda found: f" {found[1] if found[1] is not None else found[2]} ", text).strip()
    if text.count("$") - text.count("\\$") == 1 and text.endswith("$") and not text.endswith("\\$"):
        text = text[:-1]
    text = _SPACES.sub(" ", text).strip()
    if not text.endswith(("..", "\\.", "\\,", "\\;", "\\!", ".m.")):
        text = re.sub(r"[.,;]+$|(?<=[^\W\d_]{3})!+$", "", text).strip()  # 5! is 120
    text = re.sub(r"^(?:negative|minus)\s+(?=[\d.\\])", "-", text, flags=re.IGNORECASE)
    text = _NAMED.sub("", text)
    text = _HEDGE.sub("", text)
    return _CAUTIOUS_END.sub("", text).strip()


def _mathematics(text: str) -> str:
    r"""Formulas typed as plain text, and LaTeX's shorthands, in full: sqrt(2), 2**3, 10^-3, \frac12."""
    text = (
        text.replace("\\$", "$")
        .replace(r"\lt ", "<")
        .replace(r"\gt ", ">")
        .replace(r"\leqslant", r"\le ")
        .replace(r"\geqslant", r"\ge ")
    )
    text = re.sub(r"\\leq?q?(?![A-Za-z])|<=|=<", r"\\le ", text)
    text = re.sub(r"\\geq?q?(?![A-Za-z])|>=", r"\\ge ", text)
    text = re.sub(r"\\neq?(?![A-Za-z])|!=|<>", r"\\ne ", text)
    text = re.sub(r"\\(?:infin|infty)(?![A-Za-z])", r"\\infty ", text)
    text = re.sub(r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset ", text)
    text = re.sub(r"\\degrees?(?![A-Za-z])|\^\s*\\circ(?![A-Za-z])|\^\{\s*\\circ\s*\}", r"^{\\circ}", text)
    text = re.sub(r"\+\s*/\s*-|\+-(?=[\d\\])", r"\\pm ", text)
    text = re.sub(
        r"\(\s*(?:\\?mod(?![A-Za-z]))\s*(\w+)\s*\)|\\pmod\s*(\w)", lambda m: rf"\pmod{{{m[1] or m[2]}}}", text
    )
    text = _CALLED_ROOT.sub(_root, text)
    text = _FUNCTIONS.sub(lambda name: "\\" + {"infinity": "infty ", "inf": "infty "}.get(name[1], name[1] + " "), text)
    text = _FRACTION.sub(
        lambda f: rf"\frac{{{f[1]}}}{{{f[2]}}}" if f[1] else rf"\frac{{{f[3]}}}" if f[3] else r"\frac", text
    )
    text = _BRACED_THEN_DIGIT.sub(r"\1{\2}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = re.sub(r"(?<=\\log)_(\d)(?!\d)", r"_{\1}", text)
    text = re.sub(r"(?<!\\log)_\{\s*(\w)\s*\}", r"_\1", text)
    text = _POWER.sub("^", text)
    text = _EXPONENT.sub(lambda power: f"^{{{next(group for group in power.groups() if group is not None)}}}", text)
    return re.sub(r"(?<=[\d}])\s*[xX*]\s*(?=10(?:\^|\s*$))", r"\\cdot ", text)


def pieces(text: str, separator: re.Pattern[str]) -> list[tuple[str, str]]:
    """The parts of the text between separators that stand outside all brackets, each with the separator before it (""
    for the first).
    """
    parts, depth, start, before = [], 0, 0, ""
    place = 0
    while place < len(text):
        if text[place] == "\\" and text[place + 1 : place + 2] in ("{", "}"):
            depth += 1 if text[place + 1] == "{" else -1
            place += 2
            continue
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth -= 1
        elif depth <= 0 and (found := separator.match(text, place)) and found[0]:
            parts.append((before, text[start:place].strip()))
            before, start = found[0].strip(), found.end()
            place = found.end()
            continue
        place += 1
    return [*parts, (before, text[start:].strip())]
