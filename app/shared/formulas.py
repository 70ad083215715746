r"""Formulas in a text, for who wants to see them set: what stands between $...$, $$...$$, \(...\), \[...\], and
\boxed{...}. Everything else stays the text that it is.

A formula becomes a tree of the few MathML elements below, and a browser makes those elements and puts strings into
them as text. So nothing of a text can become Markdown, HTML, an attribute that does anything, or an address. A formula
with a command that is not among ours stays text, all of it.
"""

import re
from typing import Any

Node = str | list[Any]  # a text, or [element, *children]

ELEMENTS = ("boxed", "mrow", "mi", "mn", "mo", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "mover", "mtext")
LONGEST, DEEPEST = 2000, 30  # characters of a formula; groups in groups
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>[^$]{1,2000})\$\$|(?<!\\)\$(?!\s)(?P<inline>[^$\n]{1,2000})(?<![\s\\])\$(?!\d)"
    r"|\\\[(?P<square>.{1,2000}?)\\\]|\\\((?P<round>.{1,2000}?)\\\)|\\boxed\s*(?=\{)",
    re.DOTALL,
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:[.,]\d+)*|\s+|.", re.DOTALL)
_FRACTIONS = {r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"}
_WORDS = {r"\text", r"\textbf", r"\textit", r"\textrm", r"\mathrm", r"\mathbf", r"\mathit", r"\mbox", r"\operatorname"}
_ABOVE = {r"\overline": "‾", r"\bar": "‾", r"\hat": "^", r"\vec": "→", r"\widehat": "^"}
_BOXES = {r"\boxed", r"\fbox"}
_SIZES = {r"\left", r"\right", r"\big", r"\Big", r"\bigl", r"\bigr", r"\Bigl", r"\Bigr", r"\displaystyle"}
_SPACES = {r"\,", r"\;", r"\:", r"\!", "\\ ", r"\quad", r"\qquad"}
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "lg", "exp"}
    | {"max", "min", "gcd", "lcm", "lim", "det", "mod", "deg"}
)


def _pairs(words: str) -> dict[str, str]:
    """A command's name and what it shows, in turn."""
    said = words.split()
    return dict(zip(said[::2], said[1::2], strict=True))


_LETTERS = _pairs(
    "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ"
    " pi π rho ρ sigma σ tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π"
    " Sigma Σ Phi Φ Psi Ψ Omega Ω ell ℓ infty ∞ emptyset ∅ angle ∠"
)
_OPERATORS = _pairs(
    "cdot · times × div ÷ pm ± mp ∓ ast ∗ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ lt < gt > approx ≈ equiv ≡ sim ∼ cong ≅"
    " propto ∝ to → rightarrow → leftarrow ← Rightarrow ⇒ Leftarrow ⇐ implies ⟹ iff ⟺ mapsto ↦ in ∈ notin ∉ subset ⊂"
    " subseteq ⊆ cup ∪ cap ∩ forall ∀ exists ∃ neg ¬ land ∧ lor ∨ sum ∑ prod ∏ int ∫ partial ∂ nabla ∇ ldots … cdots ⋯"
    " dots … mid ∣ parallel ∥ perp ⊥ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ rangle ⟩ circ ∘ therefore ∴ because ∵"
    " lbrace { rbrace } colon :"
)
_BEFORE, _CLOSING = "−+±∓", ")]}|!′‖⌋⌉⟩"
_SIGNS = {rf"\{sign}": sign for sign in "{}%$#&_|"}


class _NoFormula(Exception):
    """Something in it is not ours to set."""


def parts(text: str) -> list[str | dict[str, Any]]:
    """The text in pieces, in order: strings, and for each formula its `tex` (as it stands; all pieces together are the
    text), its `math` (a Node), and whether it is a `display`.
    """
    found: list[str | dict[str, Any]] = []
    at = start = 0  # what is before `at` is in `found`; formulas are looked for from `start` on
    while (match := _FORMULA.search(text, start)) is not None:
        end, source = match.end(), match[match.lastgroup] if match.lastgroup else ""
        if match.lastgroup is None:
            end = _closing(text, match.end())
            source = text[match.start() : end]
        tree = _math(source) if end else None
        if tree is None:
            start = match.start() + 1
            continue
        found += [text[at : match.start()]] if match.start() > at else []
        display = match.lastgroup in ("display", "square")
        found.append({"tex": text[match.start() : end], "math": tree, "display": display})
        at = start = end
    return [*found, text[at:]] if at < len(text) or not found else found


def _closing(text: str, opening: int) -> int:
    """Behind the brace that closes the one at `opening`; 0 where none does."""
    depth = 0
    for place in range(opening, min(len(text), opening + LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[place], 0) * (text[place - 1] != "\\")
        if depth == 0:
            return place + 1
    return 0


def _math(source: str) -> Node | None:
    """None where there is anything in it that is not set."""
    if len(source) > LONGEST or not source.strip():
        return None
    reading = _Reading(source)
    try:
        tree = reading.row("")
    except _NoFormula:
        return None
    return tree if reading.at == len(reading.tokens) else None


class _Reading:
    def __init__(self, source: str):
        self.tokens, self.at, self.depth = _TOKEN.findall(source), 0, 0

    def row(self, end: str) -> Node:
        """All up to `end`, which is taken too; up to the end of the formula where it is empty."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NoFormula
        found: list[Node] = []
        while (token := self._look()) != end:
            if not token:
                raise _NoFormula
            if (node := self._one()) is not None:
                found.append(node)
        self._take()
        self.depth -= 1
        found = _signed(found)
        return found[0] if len(found) == 1 else ["mrow", *found]

    def _one(self) -> Node | None:
        """What stands next, with what stands above and below it; None for what is not seen."""
        node = self._bare()
        above: Node | None = None
        below: Node | None = None
        while (sign := self._look()) in ("^", "_", "'"):
            self._take()
            if sign == "_" and below is None:
                below = self._argument()
            elif sign != "_" and above is None:
                above = ["mo", "′"] if sign == "'" else self._argument()
            else:
                raise _NoFormula
        if above is None and below is None:
            return node
        base = node or ["mrow"]
        if above is None:
            return ["msub", base, below]
        return ["msup", base, above] if below is None else ["msubsup", base, below, above]

    def _bare(self) -> Node | None:
        token = self._take()
        if token.isspace() or token in _SPACES or token in _SIZES:
            if token in _SIZES and self._look() == ".":  # no bracket on this side
                self._take()
            return None
        if token == "{":
            return self.row("}")
        if token in _FRACTIONS:
            return ["mfrac", self._argument(), self._argument()]
        if token == r"\sqrt":
            if self._look() != "[":
                return ["msqrt", self._argument()]
            self._take()
            root = self.row("]")
            return ["mroot", self._argument(), root]
        if token in _WORDS:
            return ["mtext", self._words()]
        if token in _ABOVE:
            return ["mover", self._argument(), ["mo", _ABOVE[token]]]
        if token in _BOXES:
            return ["boxed", self._argument()]
        return _symbol(token)

    def _argument(self) -> Node:
        """A group, or the one thing that stands next."""
        while self._look().isspace():
            self._take()
        token = self._look()
        if token in ("", "}", "]", "^", "_"):
            raise _NoFormula
        if token[0].isdigit() and len(token) > 1:  # of 12 it is the 1
            self.tokens[self.at] = token[1:]
            return ["mn", token[0]]
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NoFormula
        found = self._bare()
        self.depth -= 1
        if found is None:
            raise _NoFormula
        return found

    def _words(self) -> str:
        """The characters of a group, as they are."""
        if self._take() != "{":
            raise _NoFormula
        said = ""
        while (token := self._take()) != "}":
            if not token or token in "{^_" or (token[0] == "\\" and token not in _SIGNS and token not in _SPACES):
                raise _NoFormula
            said += _SIGNS.get(token, " " if token in _SPACES else token)
        return said

    def _look(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._look()
        self.at = min(self.at + 1, len(self.tokens))
        return token


def _signed(row: list[Node]) -> list[Node]:
    """A sign that stands before a number, and not between two, makes a row with it: browsers then set it close."""
    found: list[Node] = []
    for node in row:
        sign = found[-1] if found else None
        is_sign = isinstance(sign, list) and sign[0] == "mo" and sign[1] in _BEFORE and node[0] != "mo"
        before = found[-2] if len(found) > 1 else None
        follows = isinstance(before, list) and (before[0] != "mo" or before[1] in _CLOSING)
        if is_sign and not follows:
            found[-1] = ["mrow", sign, node]
        else:
            found.append(node)
    return found


def _symbol(token: str) -> Node:
    name = token[1:] if token[0] == "\\" else ""
    if token[0].isdigit():
        return ["mn", token]
    if not name and token.isalpha():
        return ["mi", token]
    if name in _LETTERS:
        return ["mi", _LETTERS[name]]
    if name in _FUNCTIONS:
        return ["mi", name]
    if name in _OPERATORS:
        return ["mo", _OPERATORS[name]]
    if token in _SIGNS:
        return ["mo", _SIGNS[token]]
    if not name and token not in "{}\\&#^_%$~":
        return ["mo", "−" if token == "-" else token]
    raise _NoFormula
