r"""Chains of thought written by rule: correct by construction, with slips that the chain itself notices and repairs.

For a problem whose solution is a list of calculations (`problems.generate`), a trace is told step by step:
1. an opening, and the facts of the question again;
2. each calculation, with now and then a slip first: a wrong result, or the wrong operation, that the next sentence
   doubts ("Wait, …") and puts right before anything is built on it;
3. where the numbers are long, mostly the parts that the result is put together from ("In parts: …");
4. now and then another route to the same value ("Alternatively, …"), or a check by the inverse operation ("But is that
   right? …");
5. a conclusion ("Therefore, …"), and after the thinking the answer in \boxed{}.

Every equation in a trace is true but those of its slips, which are listed beside it; a value that a slip got wrong is
never used. The wording is drawn from a generator of its own for each trace, and no sentence stands in a trace twice.
"""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from backend.cot.problems import Problem, ProblemError
from backend.cot.word_problems import exact_value
from backend.ids import seed_for

_SIMPLE = re.compile(r"(\d+) ([-+*/]) (\d+)")
_SHARE = re.compile(r"(?:(\d+) - )?(\d+) \* (\d+) / (\d+)")
_FRACTIONS = re.compile(r"\(?(\d+(?:/\d+)?)\)? ([-+*/]) \(?(\d+(?:/\d+)?)\)?")
_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

_OPENINGS = (
    "Okay, let me work this out.",
    "Alright, what do I know here?",
    "Let me start with what is given.",
    "Hmm, let me read this carefully.",
    "So I have to find one number in the end.",
    "Okay, so step by step.",
    "Let me think about what happens in this story.",
    "First I want to be sure what is asked.",
    "Let me write down the facts.",
    "Right, this should take {n} calculation{s}.",
)
_FACTS = (
    "The problem says: {fact}",
    "Here is the story: {fact}",
    "I know this much: {fact}",
    "Given: {fact}",
    "What I know: {fact}",
)
_ASKED = (
    "And the question is: {question}",
    "What I need: {question}",
    "So I am asked: {question}",
    "The goal: {question}",
)
_FIRST = (
    "First, {e} = {v}.",
    "To begin, {e} = {v}.",
    "So I start with {e} = {v}.",
    "The first thing to compute is {e}, which is {v}.",
    "I begin with {e} = {v}.",
    "That first part is {e} = {v}.",
)
_NEXT = (
    "Next, {e} = {v}.",
    "Then {e} = {v}.",
    "Now I need {e} = {v}.",
    "With that, {e} = {v}.",
    "After that comes {e} = {v}.",
    "Going on, {e} = {v}.",
    "From there, {e} = {v}.",
    "So now {e} = {v}.",
)
_ANY = (
    "So {e} = {v}.",
    "I get {e} = {v}.",
    "That gives {e} = {v}.",
    "Then {e} = {v}.",
    "This is {e} = {v}.",
    "Now {e} = {v}.",
)
_NOTICED = (
    "Wait, that is not right: {e} = {v}.",
    "Wait, let me redo that. {E} is {v}, not {w}.",
    "Hmm, wait. {e} = {v}, so {w} was a slip.",
    "Wait, I should check that. No, {e} = {v}.",
    "Hold on, {w} cannot be right, because {e} = {v}.",
    "Wait, I made a mistake there; {e} = {v}.",
    "Actually, no. {E} gives {v} and not {w}.",
)
_PARTS = ("In parts: {p}.", "Piece by piece: {p}.", "Let me split this: {p}.", "Slowly: {p}.")
_OTHER_WAY = ("So I take {e} = {w}.", "Perhaps {e} = {w} is what I need.", "I could compute {e} = {w} here.")
_TURNED = (
    "Wait, that is the wrong operation for this. It has to be {e} = {v}.",
    "But wait, that is not what the story says; I need {e} = {v}.",
    "Hmm, no, reading it again I see it must be {e} = {v}.",
    "Wait, going back to the question, it asks for {e} = {v}.",
)
_CHECKS = (
    "Wait, is that right? {c}, so yes.",
    "Let me check: {c}. Good.",
    "However, I want to verify it: {c}, which fits.",
    "Checking backwards, {c}, as it should be.",
    "But let me make sure. {c}, fine.",
    "To verify, {c}. That agrees.",
    "Wait, let me double-check: {c}, so it holds.",
)
_ROUTES = (
    "Alternatively, {r}, which is the same.",
    "Alternatively, I can see it like this: {r}.",
    "Another way: {r}, so it agrees.",
    "Alternatively, {r}. Both ways match.",
)
_ENDS = (
    "Therefore, the answer is {a}.",
    "Thus the result is {a}.",
    "Therefore {a} is what was asked for.",
    "So, in the end, I have {a}.",
    "Therefore, putting it together, the answer is {a}.",
    "Thus I am confident that it is {a}.",
)
_AFTER = ("The answer is \\boxed{{{a}}}.", "The final answer is \\boxed{{{a}}}.", "So the answer is \\boxed{{{a}}}.")


@dataclass(frozen=True)
class Manner:
    """How often a calculation has what, and the opening repeats what, as probabilities."""

    slip: float = 0.25
    check: float = 0.3
    route: float = 0.25
    facts: float = 0.5
    question: float = 0.6
    parts: float = 0.9  # of the calculations that have parts
    fine: bool = False  # parts down to single digits, and fractions by their common denominator


@dataclass(frozen=True)
class Trace:
    """One chain of thought. `slips` are the false equations in it, as "7 * 6 = 43"."""

    problem_id: str
    thinking: str  # between the think tags
    response: str  # after the closing tag
    slips: tuple[str, ...]
    n_checks: int
    n_routes: int


def trace(problem: Problem, *, seed: int, number: int = 0, manner: Manner | None = None) -> Trace:
    """The trace of this problem, seed and number; the same again for the same three.

    Raises ProblemError without calculations to tell.
    """
    calculations = [line.partition(" = ")[::2] for line in (problem.solution or "").splitlines() if " = " in line]
    if not calculations or any(exact_value(expression) != Fraction(value) for expression, value in calculations):
        raise ProblemError(
            f"Problem {problem.source_key} has no solution of true calculations, one a line; only a problem of our"
            " generator can be told."
        )
    return _Teller(
        problem, calculations, random.Random(seed_for("trace", seed, problem.problem_id, number)), manner or Manner()
    ).told()


class _Teller:
    def __init__(
        self, problem: Problem, calculations: Sequence[tuple[str, str]], rng: random.Random, manner: Manner
    ) -> None:
        self.problem, self.calculations, self.rng, self.manner = problem, calculations, rng, manner
        self.sentences: list[str] = []
        self.slips: list[str] = []
        self.n_checks = self.n_routes = 0

    def told(self) -> Trace:
        paragraphs = [self._opening()]
        for number, (expression, value) in enumerate(self.calculations):
            self.sentences = []
            self._calculation(number, expression, value)
            paragraphs.append(self.sentences)
        paragraphs.append([self._one_of(_ENDS, a=self.problem.answer)])
        return Trace(
            self.problem.problem_id,
            "\n\n".join(" ".join(paragraph) for paragraph in paragraphs),
            self._one_of(_AFTER, a=self.problem.answer),
            tuple(self.slips),
            self.n_checks,
            self.n_routes,
        )

    def _opening(self) -> list[str]:
        *facts, asked = _SENTENCE.split(self.problem.question.strip())
        n = len(self.calculations)
        told = [self._one_of(_OPENINGS, n=n, s="s" * (n != 1))]
        if facts and self.rng.random() < self.manner.facts:
            told.append(self._one_of(_FACTS, fact=" ".join(facts)))
        if self.rng.random() < self.manner.question:
            told.append(self._one_of(_ASKED, question=asked))
        return told

    def _calculation(self, number: int, expression: str, value: str) -> None:
        said = {"e": expression, "v": value, "E": _spoken(expression)}
        wordings = (_FIRST if number == 0 else _NEXT) + _ANY
        told = (
            parts(expression, fine=self.manner.fine)
            if self.manner.parts and self.rng.random() < self.manner.parts
            else []
        )
        if told:
            self._say(_PARTS, p=", ".join(told))
        if self.rng.random() < self.manner.slip:
            self._slip(wordings, expression, value, said, in_parts=bool(told))
        else:
            self._say(wordings, **said)
        if self.rng.random() < self.manner.route and (route := self._route(expression, value)):
            self._say(_ROUTES, r=route)
            self.n_routes += 1
        if self.rng.random() < self.manner.check and (check := inverse(expression, value)):
            self._say(_CHECKS, c=check)
            self.n_checks += 1

    def _slip(
        self, wordings: Sequence[str], expression: str, value: str, said: dict[str, str], *, in_parts: bool
    ) -> None:
        """A slip is worded like any calculation: what comes before its result does not give it away. After the parts of
        the right calculation nobody takes another one.
        """
        turned = self._wrong_operation(expression) if self.rng.random() < 0.3 else None
        if turned is not None and not in_parts:
            self._say(_OTHER_WAY, e=turned, w=str(exact_value(turned)))
            self._say(_TURNED, **said)
            return
        wrong = self._wrong_value(value)
        self._say(wordings, **(said | {"v": wrong}))
        self._say(_NOTICED, **said, w=wrong)
        self.slips.append(f"{expression} = {wrong}")

    def _wrong_value(self, value: str) -> str:
        right = Fraction(value)
        if right.denominator != 1:
            return str(right + Fraction(1, right.denominator))
        steps = [step for step in (-10, -2, -1, 1, 2, 10) if right + step >= 0]
        return str(int(right) + self.rng.choice(steps))

    def _wrong_operation(self, expression: str) -> str | None:
        """The same numbers under another operation that gives a whole number of 0 or more; None where there is none."""
        if not (found := _SIMPLE.fullmatch(expression)):
            return None
        a, sign, b = found.groups()
        others = [f"{a} {other} {b}" for other in "+-*" if other != sign]
        others = [
            other for other in others if exact_value(other) >= 0 and exact_value(other) != exact_value(expression)
        ]
        return self.rng.choice(others) if others else None

    def _route(self, expression: str, value: str) -> str | None:
        """Another way to the same value, as one or two true equations; None where none is known."""
        if not (found := _SIMPLE.fullmatch(expression)):
            return None
        a, sign, b = int(found[1]), found[2], int(found[3])
        ways: dict[str, Callable[[], str | None]] = {
            "+": lambda: f"{b} + {a} = {a + b}" if a != b else None,
            "*": lambda: _by_parts(max(a, b), min(a, b)),
            "-": lambda: f"from {b} up to {a} it is {a - b}, since {b} + {a - b} = {a}" if a > b else None,
            "/": lambda: f"{b} goes into {a} exactly {value} times" if value.isdigit() and b > 1 else None,
        }
        return ways[sign]()

    def _say(self, wordings: Sequence[str], **said: str) -> None:
        self.sentences.append(self._one_of(wordings, **said))

    def _one_of(self, wordings: Sequence[str], **said: object) -> str:
        sentence = self.rng.choice(wordings).format(**said)
        return sentence[0].upper() + sentence[1:]


def parts(expression: str, *, fine: bool = False) -> list[str]:
    """True equations by which a person with pencil and paper gets the value of an expression; empty where it is plain
    at a glance.

    `fine` splits both factors of a product, takes sums up as it goes, and tells fractions by their common denominator.
    """
    product = _product_by_digits if fine else _product
    if found := _SIMPLE.fullmatch(expression):
        a, b = int(found[1]), int(found[3])
        if fine and found[2] == "/":
            return _reduced(a, b) if a % b else []
        return {"*": product, "+": _sum, "-": _difference}.get(found[2], lambda _a, _b: [])(a, b)
    if fine and (found := _FRACTIONS.fullmatch(expression)):
        return _of_fractions(Fraction(found[1]), found[2], Fraction(found[3]))
    if not (found := _SHARE.fullmatch(expression)):
        return []
    whole = None if found[1] is None else int(found[1])
    a, b, c = (int(part) for part in found.groups()[1:])
    share = Fraction(a * b, c)
    told = [*(product(a, b) or [f"{a} * {b} = {a * b}"])]
    told += _reduced(a * b, c) if fine and share.denominator != 1 else [f"{a * b} / {c} = {share}"]
    if whole is not None and share.denominator == 1:
        told += _difference(whole, int(share))
    return told


def _digits(number: int) -> list[int]:
    """A number by its digits that are not 0, with their places: 305 as 300 and 5."""
    text = str(number)
    return [int(digit) * 10 ** (len(text) - digits) for digits, digit in enumerate(text, start=1) if digit != "0"]


def _product(a: int, b: int) -> list[str]:
    """The factor with the fewest digits to split is split; one that is a round number is not."""
    splittable = [(len(_digits(split)), split, other) for split, other in ((b, a), (a, b)) if len(_digits(split)) > 1]
    if not splittable or min(a, b) < 2:
        return []
    _, split, other = min(splittable)
    pieces = _digits(split)
    told = [f"{other} * {piece} = {other * piece}" for piece in pieces]
    so_far = other * pieces[0]
    for piece in pieces[1:]:
        told.append(f"{so_far} + {other * piece} = {so_far + other * piece}")
        so_far += other * piece
    return told


def _product_by_digits(a: int, b: int) -> list[str]:
    """Every digit of one factor times every digit of the other, each product added to what there is so far."""
    pairs = [(one, other) for one in _digits(a) for other in _digits(b)]
    if len(pairs) < 2 or min(a, b) < 2:
        return []
    told, so_far = [], 0
    for one, other in pairs:
        told.append(f"{one} * {other} = {one * other}")
        if so_far:
            told.append(f"{so_far} + {one * other} = {so_far + one * other}")
        so_far += one * other
    return told


def _of_fractions(a: Fraction, sign: str, b: Fraction) -> list[str]:
    """A calculation with a fraction in it by calculations of whole numbers."""
    if sign in "+-":
        below = math.lcm(a.denominator, b.denominator)
        above = [int(part * below) for part in (a, b)]
        told = [
            f"{part} = {top}/{below}" for part, top in zip((a, b), above, strict=True) if str(part) != f"{top}/{below}"
        ]
        total = above[0] + above[1] if sign == "+" else above[0] - above[1]
        return [*told, f"{above[0]} {sign} {above[1]} = {total}", *_reduced(total, below)]
    b = b if sign == "*" else 1 / b
    tops, bottoms = (a.numerator, b.numerator), (a.denominator, b.denominator)
    told = [f"{one} * {other} = {one * other}" for one, other in (tops, bottoms) if min(one, other) > 1]
    return [*told, *_reduced(math.prod(tops), math.prod(bottoms))]


def _reduced(above: int, below: int) -> list[str]:
    """above / below in lowest terms, by their greatest common divisor; empty where it is in lowest terms already."""
    common = math.gcd(above, below)
    if common == 1:
        return []
    if common == below:
        return [f"{above} / {below} = {above // below}"]
    return [f"{above} / {common} = {above // common}", f"{below} / {common} = {below // common}"]


def _sum(a: int, b: int) -> list[str]:
    return _one_digit_at_a_time(max(a, b), min(a, b), 1)


def _difference(a: int, b: int) -> list[str]:
    return _one_digit_at_a_time(a, b, -1) if a >= b else []


def _one_digit_at_a_time(so_far: int, other: int, sign: int) -> list[str]:
    told = []
    for piece in _digits(other):
        told.append(f"{so_far} {'+' if sign > 0 else '-'} {piece} = {so_far + sign * piece}")
        so_far += sign * piece
    return told if len(told) > 1 else []


def inverse(expression: str, value: str) -> str | None:
    """The check of a calculation of two whole numbers by the inverse operation, as a true equation; None for others."""
    if not (found := _SIMPLE.fullmatch(expression)) or not value.isdigit():
        return None
    a, sign, b = int(found[1]), found[2], int(found[3])
    if sign == "*" and b == 0:
        return None
    return {
        "+": f"{value} - {b} = {a}",
        "-": f"{value} + {b} = {a}",
        "*": f"{value} / {b} = {a}",
        "/": f"{value} * {b} = {a}",
    }[sign]


def _by_parts(large: int, small: int) -> str | None:
    """large · small by tens and ones."""
    tens, ones = large // 10 * 10, large % 10
    if tens == 0 or ones == 0 or small < 2:
        return None
    return f"{tens} * {small} = {tens * small} and {ones} * {small} = {ones * small}, together {large * small}"


def _spoken(expression: str) -> str:
    """7 * 12 as “7 times 12”; anything longer stays as it is."""
    found = _SIMPLE.fullmatch(expression)
    return f"{found[1]} {_SPOKEN[found[2]]} {found[3]}" if found else expression
