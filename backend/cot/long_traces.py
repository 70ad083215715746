"""Long chains of thought written by rule for problems of levels 1 to 3, in wordings composed by a grammar.

A trace retells the story, plans each calculation in the story's words, does it in small parts, says what the value
means, and doubts itself:
1. A quick guess before the parts may be wrong. Mostly the parts show it, and the next sentence puts it right ("Wait");
   now and then nobody looks, and the wrong value is carried on: either a late look back finds it, and everything after
   it is done again, or the trace ends with the wrong answer.
2. A calculation may be taken for another operation, which the story then contradicts ("But").
3. Another route ("Alternatively") agrees, or has a slip of its own and disagrees, which is settled by the inverse.
4. Checks put the value back into the story, or ask whether it should be larger or smaller ("However", "Wait").

Every equation is true but those listed beside the trace. Wordings are drawn from `expanded` patterns, [a|b] being a
choice; a trace is the same again for the same problem, seed and number.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from backend.cot.problems import Problem, ProblemError
from backend.cot.traces import inverse, parts
from backend.cot.word_problems import GROUPS, NAMES, exact_value
from backend.ids import seed_for

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_COUNTED = re.compile(r"<(\d+)>")
_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_STEP = re.compile(r"(\d+) ([-+*/]) (\d+)")

OPENING = (
    "[Okay|Alright|Right|Hmm|So|Well], [let me|I will|I should|I want to] [work|think|go|reason] [through this|this"
    " through] [step by step|slowly|carefully|one piece at a time|from the start|in order].",
    "[Okay|Alright|Hmm|So], [this is|here is|I have] [a story|a question|a little problem] about [{things}|{who} and"
    " {things}|{unit}|how many {unit} there are].",
    "[Let me|I will|I should] [read|look at|go over] [the story|the question|this] [carefully|slowly|once more|first]"
    " [before I calculate|before any numbers|and see what I know|and keep track of the {things}].",
)
FACT = (
    "[I know|I am told|The story says|It says|The text tells me|I read|What is given is|I should keep in mind|One"
    " thing to note is|It is given] that {fact}.",
    "[First|Also|Then|So|Good|Now], {fact}.",
    "{fact}, [as the story says|that is given|so much is clear|and I keep that|I write that down|that much I know].",
)
ASKED = (
    "[What I need|What is asked|The goal|What they want to know|My task|What I am looking for|The thing to find|What I"
    " must find] [is|here is|in the end is] {label}[| in {unit}|, and it is counted in {unit}].",
    "[In the end|So|Finally|Now] [I have to|I need to|I must|they want me to] [find|work out|say|give|name] {label}.",
    "[The question|The last sentence|The text] [asks for|wants|is about|is after] {label}[|, in {unit}|, nothing"
    " else].",
)
NUMBERS = (
    "[The numbers|The figures|The amounts|The values] [I have|given|in the story|that matter|to work with] are {list}.",
    "[I will|Let me|I should] [use|work with|keep|note|write down] the numbers {list}.",
)
PLAN = {
    "+": (
        "[To get|To find|For|To reach] {label}, [I|I must|I have to|I need to|I should] [add|put together|join]"
        " [{a} and {b}|the {a} and the {b}].",
        "[So|Now|Here|Next], [{b} come on top of {a}|{a} and {b} belong together|{b} are added to {a}|{a} grows by"
        " {b}], [so I add|that is a sum|which means adding].",
    ),
    "-": (
        "[To get|To find|For|To reach] {label}, [I|I must|I have to|I need to|I should] [take|subtract] {b} [from|away"
        " from] {a}.",
        "[So|Now|Here|Next], [{b} go away from {a}|{a} gets smaller by {b}|{b} come off {a}|of {a} I lose {b}], [so I"
        " subtract|that is a difference|which means taking away].",
    ),
    "*": (
        "[To get|To find|For|To reach] {label}, [I|I must|I have to|I need to|I should] [multiply {a} by {b}|take {a}"
        " times {b}|count {a} lots of {b}].",
        "[So|Now|Here|Next], [there are {a} times {b}|it is {a} lots of {b}|{a} goes with {b} each time], [so I"
        " multiply|that is a product|which means multiplying].",
    ),
    "/": (
        "[To get|To find|For|To reach] {label}, [I|I must|I have to|I need to|I should] [divide {a} by {b}|share {a}"
        " into {b} equal parts|split {a} among {b}].",
        "[So|Now|Here|Next], [{a} is split into {b} equal parts|{a} goes to {b} equal shares|{b} shares make up {a}],"
        " [so I divide|that is a quotient|which means dividing].",
    ),
}
PART = (
    "[First|To begin|I start with|One part is|The first part is|Piece by piece,|In small steps,|Slowly,] {q}.",
    "[Then|After that|And then|Next|The next part is|Now|Going on,|From there] {q}.",
)
RESULT = (
    "[So|Then|This gives|That makes|I get|It comes to|Together|Now|Altogether|That is|Here] {q}[| {unit}].",
    "[For {label}|As {label}], [I get|I have|this gives|it is|I find|I obtain|there is] {q}.",
    "[With that|Doing it|Working it out|Calculating], {q}[| {unit}].",
)
GUESS = (
    "[At a glance|Off the top of my head|Quickly|At first sight|My first guess|In my head|Without much thought|By"
    " feel] [it is|I would say|I get|I think|I see|this looks like|I have] {q}.",
    "[A quick|A first|A rough|My fast] [guess|try|count|estimate] [for {label}|here] [is|gives|says] {q}.",
)
FIXED = (
    "Wait, [that|my {n}|the {n}] [is not right|cannot be right|was a slip|was wrong|was too quick|does not hold],"
    " [because|since|as] {q}[| {unit}].",
    "Wait, [I made a slip|I was too quick|I must correct that|I see a mistake]: {q}, [and not {n}|not {n}|so {n} was"
    " wrong].",
    "Wait, [it has to be|it should be|the right one is|careful,] {q} [instead of {n}|and not {n}|rather than {n}].",
)
GUESSED = (
    "[So|Good,|Yes,|Fine,] [the guess|my first number|the quick value|that first try] [of {v}|] [was right|holds|was"
    " fine|is confirmed], {q}.",
)
MISREAD = {
    "+": "[I could|Maybe I should|Perhaps I can|One idea is to|I might] [just add|simply add|put together] {a} and {b},"
    " {q}.",
    "-": "[I could|Maybe I should|Perhaps I can|One idea is to|I might] [just take|simply take|subtract] {b} from {a},"
    " {q}.",
    "*": "[I could|Maybe I should|Perhaps I can|One idea is to|I might] [just multiply|simply multiply|take the product"
    " of] {a} and {b}, {q}.",
}
TURNED = (
    "[But|However,|But wait,|But no,] [that|this|it] [is not what|does not fit what|goes against what] [the"
    " story|the text|the question] [says|tells|means] [about {things}|about {label}|here].",
    "[But|However,] [the story|the text|the question] [asks for|needs|is after] {label}, [so that is the wrong"
    " operation|so that was a wrong turn|which is another thing].",
)
MEANS = (
    "[So|That means|In other words|In the story|With that], {label} [is|must be|comes to|turns out to be|would be] {v}"
    " {unit}.",
    "[The {v}|This {v}|That number {v}] [is|stands for|means|gives|tells me] {label}[|, in {unit}].",
    "[I keep|I note|I remember|I hold on to] {v} {unit} [as|for] {label}.",
)
CHECK = (
    "[But|However,|Wait,|But wait,] [is that right|can that be|does that fit|is {v} right|can it really be {v}|does"
    " {v} make sense][| for {label}| here]?",
    "[But|However,|Wait,] [I|let me|I want to|I should|I had better] [check|verify|test|make sure of] [the"
    " {v}|that|this|{label}] [before I go on|first|by going backwards|by putting it back in|against the story].",
)
CHECKED = (
    "[Going back|Backwards|In reverse|Putting {v} back|The other way round|Undoing it], {q}, [which fits|as it should"
    " be|and that is the {a} from before|so it holds|which matches the story|so it is fine].",
    "[If it is {v}|If {label} is {v}|With {v}|Starting from {v}], then {q}, [and that agrees|and that is what I"
    " had|which is right|so {v} stays|just as given].",
)
SIZE = (
    "[But|However,|Wait,] [it|the value|the result|{label}] [should be|has to be|must be|ought to be]"
    " [{larger} than {a}|{larger} than the {a} before], and {v} is[|, so that fits|, good|, as expected].",
    "[But|However,|Wait,] [could {label}|could it|might it] be {smaller} than {a}? [No|Not here], {v} is {larger},"
    " [as it must be|which makes sense|and that fits the story].",
)
ROUTE = (
    "Alternatively, [I can|I could|let me|one can] [see|count|get|find|reach] [it|this|{label}|the same]"
    " [another way|differently|by a second route|in two steps|from the other side]: {q}.",
    "Alternatively, [by another way|by a second route|to be sure|in other steps|taken differently|for {label}], {q}.",
)
ROUTE_GOES_ON = ("[Then|And then|After that|From there|With that] {q}.",)
AGREE = (
    "[Both|The two|These two|The] [ways|routes|methods|paths] [agree|match|give the same|meet at {v}|lead to {v}][|,"
    " good|, so I trust it|, {v} {unit}].",
    "[That is|It is|I reach|This is] [the same {v}|{v} again|{v} as before], [so I trust it|which is good|as hoped|so"
    " both ways agree].",
)
DISAGREE = (
    "[But|However,] [that gives {n}|now I have {n}|this says {n}], [and before it was {v}|not {v}|against {v} before],"
    " [so one is wrong|so they do not agree|and only one can hold].",
    "[But|However,] [the two ways|both routes|the two results] [disagree|do not match|differ], {n} [against|and] {v}.",
)
SETTLED = (
    "[Let me see|To decide|To settle it|Looking again], {q}, so [{v} is right|it is {v}|{v} holds|I stay with {v}] and"
    " [the second way had a slip|the other route was wrong|{n} was a slip].",
)
LOOK_BACK = (
    "Wait, [before I finish|before I answer|to be safe|one more time], [let me|I should|I want to] [go over|look"
    " at|redo|check] [the steps|everything|what I did|the earlier numbers] [again|once more].",
)
REDONE = (
    "[So|Then|Now|This means|With the right number] [the next step|what follows|the rest] [becomes|is now|changes to]"
    " {q}.",
)
UNIT = (
    "[The answer|It|The result|{label}] [is counted|is measured|has to be|must be said] in {unit}, [and|so] {v} [is"
    " that|counts them|is such a number|fits].",
    "[The question|The story] [asks|wanted to know|was] about {unit}, [and|so] {v} {unit} [answers it|is an answer|fits"
    " that].",
)
END = (
    "[Therefore|Thus|Therefore|Thus|So], [the answer|the result|the number asked for|what was asked|{label}]"
    " [is|must be|comes out as|has to be] {v}[| {unit}].",
    "[Therefore|Thus|Therefore|Thus|In the end] [I have|I get|I find|there is|I am left with|I arrive at] {v} {unit}"
    " [for {label}|as the answer|in the end|, and that is {label}].",
)
DEDUCED = (
    "[Therefore|Thus], [with that|knowing this|from here], [I can go on to|the next thing is|I still need|what remains"
    " is] {label}.",
)
AFTER = ("[The|So the|The final|My] answer is \\boxed{{{v}}}.",)

# Of each kind of story, by the order in `word_problems.TEMPLATES`: what each calculation gives, and its unit (None:
# what is asked for).
_LABELS: dict[int, tuple[tuple[tuple[str, str | None], ...], ...]] = {
    1: (
        (("the number of all the {things}", None),),
        (("the number of {things} that stay", None),),
        (("the number of {things} together", None),),
        (("the number of {things} in all the groups", None),),
        (("the number of {things} in one share", None),),
        (("the age of {two}", "years"),),
    ),
    2: (
        (("the number of {things} before any leave", None), ("the number of {things} at the end", None)),
        (("the number of {things} in the {groups}", None), ("the number of all the {things}", None)),
        (("the larger number of {things}", None), ("the number of {things} of both", None)),
        (("the price of everything", "dollars"), ("the money that is left", "dollars")),
        (("the number of {things} after the first part is gone", None), ("the number of {things} at the end", None)),
    ),
    3: (
        (
            ("the price of the first goods", "dollars"),
            ("the price of the other goods", "dollars"),
            ("the price of everything", "dollars"),
        ),
        (
            ("the number of {things} at the start", None),
            ("the number of {things} that can be shared", None),
            ("the number of {things} in one share", None),
        ),
        (
            ("the larger number of {things} at first", None),
            ("the larger number of {things} later", None),
            ("the number of {things} of both", None),
        ),
        (
            ("the time at work", "hours"),
            ("the money that is earned", "dollars"),
            ("the money that is left", "dollars"),
        ),
        (("the number in all the rows", "{rows}"), ("the number that counts", "{rows}"), ("the final number", None)),
    ),
}


@dataclass(frozen=True)
class Manner:
    """How often what comes, as probabilities of a calculation unless said otherwise."""

    guess: float = 0.3
    wrong: float = 0.6  # of the guesses
    misread: float = 0.08
    missed: float = 0.1  # of the traces: a guess that is wrong and that nobody looks at
    late: float = 0.5  # of the missed: found at the end after all
    disagree: float = 0.25  # of the other routes


@dataclass(frozen=True)
class LongTrace:
    """One chain of thought. Slips are its false equations, as "7 * 6 = 43", in reading order."""

    problem_id: str
    thinking: str  # between the think tags
    response: str  # after the closing tag
    answer: str  # what it says in the end
    found: tuple[str, ...]  # slips put right before anything is built on them
    missed: str | None  # a slip whose value was used
    late: bool  # whether that one was found at the end


def expanded(pattern: str, rng: random.Random) -> str:
    """One of the texts of a pattern, in which [a|b] is a choice; choices may stand in choices."""
    while found := _CHOICE.search(pattern):
        pattern = pattern[: found.start()] + rng.choice(found[1].split("|")) + pattern[found.end() :]
    return pattern


def n_forms(patterns: Sequence[str]) -> int:
    """How many texts the patterns have, before words of the story are put in."""

    def of(pattern: str) -> int:
        """With each choice already counted written as <how many forms it has>."""
        while found := _CHOICE.search(pattern):
            n = sum(math.prod(map(int, _COUNTED.findall(option))) for option in found[1].split("|"))
            pattern = f"{pattern[: found.start()]}<{n}>{pattern[found.end() :]}"
        return math.prod(map(int, _COUNTED.findall(pattern)))

    return sum(map(of, patterns))


def long_trace(problem: Problem, *, seed: int, number: int = 0, manner: Manner | None = None) -> LongTrace:
    """The trace of this problem, seed and number; the same again for the same three.

    Raises ProblemError for a problem of another source or level.
    """
    place = re.fullmatch(r"seed \d+, level (\d), number (\d+)", problem.source_key or "")
    if place is None or int(place[1]) not in _LABELS:
        raise ProblemError(
            f"Problem {problem.source_key} is none of levels 1 to 3 of our generator; only those are told at length."
        )
    labels = _LABELS[int(place[1])]
    return _Teller(
        problem,
        labels[int(place[2]) % len(labels)],
        random.Random(seed_for("long trace", seed, problem.problem_id, number)),
        manner or Manner(),
    ).told()


@dataclass(frozen=True)
class _Step:
    a: str
    sign: str
    b: str
    label: str
    unit: str

    @property
    def expression(self) -> str:
        return f"{self.a} {self.sign} {self.b}"

    @property
    def value(self) -> str:
        return str(exact_value(self.expression))


class _Teller:
    def __init__(
        self, problem: Problem, labels: Sequence[tuple[str, str | None]], rng: random.Random, manner: Manner
    ) -> None:
        self.problem, self.rng, self.manner = problem, rng, manner
        self.words = _words(problem.question)
        self.labels = [(label.format(**self.words), (unit or "{unit}").format(**self.words)) for label, unit in labels]
        self.paragraphs: list[list[str]] = []
        self.found: list[str] = []
        self.said: set[str] = set()

    def told(self) -> LongTrace:
        expressions = [line.partition(" = ")[0] for line in (self.problem.solution or "").splitlines()]
        steps = self._steps(expressions, {})
        carried = self._missed(expressions) if self.rng.random() < self.manner.missed else None
        late = carried is not None and self.rng.random() < self.manner.late
        self._opening(steps)
        used = steps if carried is None else self._steps(expressions, {carried[0]: carried[1]})
        for place, step in enumerate(used):
            self.paragraphs.append([])
            wrong = carried[1] if carried is not None and carried[0] == place else None
            self._calculation(step, place, wrong, last=place == len(used) - 1)
        answer = carried[1] if carried is not None and carried[0] == len(used) - 1 else used[-1].value
        missed = None if carried is None else f"{used[carried[0]].expression} = {carried[1]}"
        if late and carried is not None:
            self._look_back(steps, carried)
            answer = steps[-1].value
        self.paragraphs.append([])
        if self.rng.random() < (0.7 if len(steps) == 1 else 0.35):
            self._say(UNIT, steps[-1], v=answer)
        self._say(END, steps[-1], v=answer)
        thinking = "\n\n".join(" ".join(paragraph) for paragraph in self.paragraphs)
        response = self._worded(AFTER, steps[-1], v=answer)
        return LongTrace(self.problem.problem_id, thinking, response, answer, tuple(self.found), missed, late)

    def _steps(self, expressions: Sequence[str], wrong: dict[int, str]) -> list[_Step]:
        """The calculations; a value in `wrong` (by place) is used by the later ones instead of the right one."""
        instead: dict[str, str] = {}
        steps = []
        for place, expression in enumerate(expressions):
            a, sign, b = _STEP.fullmatch(expression).groups()  # type: ignore[union-attr]  # levels 1 to 3 have no other
            step = _Step(instead.get(a, a), sign, instead.get(b, b), *self.labels[place])
            said = wrong.get(place, step.value)
            if said != (right := str(exact_value(expression))):
                instead[right] = said
            steps.append(step)
        return steps

    def _missed(self, expressions: Sequence[str]) -> tuple[int, str] | None:
        """Place and wrong value of a slip that can be carried on: the later calculations stay whole and positive. None
        where a value might be mistaken for a number of the question."""
        values = [str(exact_value(expression)) for expression in expressions]
        if len({*values, *self.words["list"].split()}) < len({*self.words["list"].split()}) + len(values):
            return None
        place = self.rng.randrange(len(values))
        for wrong in self._wrong_values(values[place]):
            steps = self._steps(expressions, {place: wrong})
            if all((value := exact_value(step.expression)) >= 1 and value.denominator == 1 for step in steps):
                return place, wrong
        return None

    def _wrong_values(self, value: str) -> list[str]:
        right = int(value)
        near = [right + step for step in ((1, -1, 10) if right > 10 else (1, -1)) if right + step > 0]
        self.rng.shuffle(near)
        return list(map(str, near))

    def _opening(self, steps: Sequence[_Step]) -> None:
        self.paragraphs.append([])
        last = steps[-1]
        self._say(OPENING, last)
        *told, _ = _SENTENCE.split(self.problem.question.strip())
        facts = [fact.rstrip(".") for sentence in told for fact in re.split(r", and (?=[A-Z])", sentence)]
        short = len(steps) == 1
        for fact in facts:
            if short or self.rng.random() < 0.85:
                self._say(FACT, last, fact=fact if fact.split()[0] in NAMES else fact[0].lower() + fact[1:])
        if self.rng.random() < (0.8 if short else 0.5):
            self._say(NUMBERS, last, list=_listed(self.words["list"].split()))
        if short or self.rng.random() < 0.8:
            self._say(ASKED, last)

    def _calculation(self, step: _Step, place: int, wrong: str | None, *, last: bool) -> None:
        said = wrong or step.value
        right = f"{step.expression} = {step.value}"
        if wrong is None and self.rng.random() < self.manner.misread and (other := self._other_operation(step)):
            sign, value = other
            self._say([MISREAD[sign]], step, q=f"{step.a} {sign} {step.b} = {value}")
            self._say(TURNED, step)
        elif place and self.rng.random() < 0.3:
            self._say(DEDUCED, step)
        short = len(self.labels) == 1
        if short or self.rng.random() < 0.8:
            self._say(PLAN[step.sign], step)
        small = _small_parts(step)
        if wrong is not None:
            self._say(GUESS, step, q=f"{step.expression} = {wrong}")
        elif self.rng.random() < self.manner.guess:
            self._guess(step, small)
        else:
            for n, part in enumerate(small):
                self._say(PART[min(n, 1) :][:1], step, q=part)
            self._say(RESULT, step, q=right)
        if short or self.rng.random() < 0.5:
            self._say(MEANS, step, v=said)
        if wrong is not None:  # the only doubt is one that a value near the right one survives
            return self._size(step, int(wrong))
        doubts = [self._check, self._route, self._size]
        self.rng.shuffle(doubts)
        first, others = {1: (1.0, 0.8), 2: (0.7, 0.4), 3: (0.5, 0.25)}[len(self.labels)]
        for n, doubt in enumerate(doubts):
            if self.rng.random() < (others if n else first):
                doubt(step)
        return None

    def _guess(self, step: _Step, small: Sequence[str]) -> None:
        right = f"{step.expression} = {step.value}"
        slip = self._wrong_values(step.value)[0] if self.rng.random() < self.manner.wrong else None
        self._say(GUESS, step, q=right if slip is None else f"{step.expression} = {slip}")
        for n, part in enumerate(small):
            self._say(PART[min(n, 1) :][:1], step, q=part)
        if slip is None:
            self._say(GUESSED, step, q=right)
        else:
            self.found.append(f"{step.expression} = {slip}")
            self._say(FIXED, step, q=right, n=slip)

    def _check(self, step: _Step) -> None:
        self._say(CHECK, step)
        self._say(CHECKED, step, q=inverse(step.expression, step.value))

    def _size(self, step: _Step, said: int | None = None) -> None:
        value, before = int(step.value) if said is None else said, int(step.a)
        if value != before:
            words = ("more", "less") if value > before else ("less", "more")
            self._say(SIZE, step, v=str(value), larger=words[0], smaller=words[1])

    def _route(self, step: _Step) -> None:
        """Another way to the value, in two equations or one; the last may be wrong, and is then settled."""
        ways = _other_way(step)
        n = None
        if self.rng.random() < self.manner.disagree:
            n = self._wrong_values(ways[-1].partition(" = ")[2])[0]
            ways[-1] = f"{ways[-1].partition(' = ')[0]} = {n}"
            self.found.append(ways[-1])
        self._say(ROUTE, step, q=ways[0])
        for way in ways[1:]:
            self._say(ROUTE_GOES_ON, step, q=way)
        if n is None:
            self._say(AGREE, step)
        else:
            self._say(DISAGREE, step, n=n)
            self._say(SETTLED, step, q=inverse(step.expression, step.value), n=n)

    def _look_back(self, steps: Sequence[_Step], carried: tuple[int, str]) -> None:
        place, wrong = carried
        self.paragraphs.append([])
        self._say(LOOK_BACK, steps[-1])
        step = steps[place]
        for n, part in enumerate(_small_parts(step)):
            self._say(PART[min(n, 1) :][:1], step, q=part)
        self._say(FIXED, step, q=f"{step.expression} = {step.value}", n=wrong)
        for later in steps[place + 1 :]:
            for n, part in enumerate(_small_parts(later)):
                self._say(PART[min(n, 1) :][:1], later, q=part)
            self._say(REDONE, later, q=f"{later.expression} = {later.value}")

    def _other_operation(self, step: _Step) -> tuple[str, str] | None:
        a, b = int(step.a), int(step.b)
        values = {"+": a + b, "-": a - b, "*": a * b}
        known = [(sign, str(v)) for sign, v in values.items() if sign != step.sign and 0 < v < 60]
        known = [(sign, value) for sign, value in known if value != step.value]
        return self.rng.choice(known) if known else None

    def _say(self, patterns: Sequence[str], step: _Step, **said: str | None) -> None:
        for _ in range(8):
            text = self._worded(patterns, step, **said)
            if text not in self.said:
                break
        self.said.add(text)
        self.paragraphs[-1].append(text)

    def _worded(self, patterns: Sequence[str], step: _Step, **said: str | None) -> str:
        words = self.words | {"a": step.a, "b": step.b, "v": step.value, "label": step.label, "unit": step.unit} | said
        text = expanded(self.rng.choice(patterns), self.rng).format(**words).replace(" ,", ",")
        return text[0].upper() + text[1:]


def _words(question: str) -> dict[str, str]:
    """What the story is about: who, things, groups, the unit asked for, and its numbers."""
    names = [word for word in re.findall(r"[A-Z]\w+", question) if word in NAMES]
    names = list(dict.fromkeys(names)) or ["the story"]
    asked = re.findall(r"How many (\w+)", question)
    unit = asked[-1] if asked else "years" if "How old" in question else "dollars"
    things = {"years": "the ages", "dollars": "the money"}.get(unit, unit)
    groups = next((word for word in (*GROUPS, "packs") if re.search(rf"\d (?:of )?{word}\b", question)), "groups")
    rows = re.search(r"rows of \d+ (\w+)", question)
    return {
        "who": names[0],
        "two": names[1] if len(names) > 1 else names[0],
        "things": things,
        "groups": groups,
        "unit": unit,
        "rows": rows[1] if rows else unit,
        "list": " ".join(re.findall(r"\d+", question)),
    }


def _listed(numbers: Sequence[str]) -> str:
    return " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)


def _small_parts(step: _Step) -> list[str]:
    """True equations that lead to the value; empty where it is plain at a glance."""
    if step.sign != "/":
        return parts(step.expression, fine=True)
    a, b = int(step.a), int(step.b)
    if a < 10 * b or a % b:
        return []
    rest = a - 10 * b
    told = [f"{b} * 10 = {10 * b}", f"{a} - {10 * b} = {rest}"]
    return [*told, f"{rest} / {b} = {rest // b}", f"10 + {rest // b} = {a // b}"] if rest else told[:1]


def _other_way(step: _Step) -> list[str]:
    a, b, value = int(step.a), int(step.b), int(Fraction(step.value))
    if step.sign == "+":
        return [f"{b} + {a} = {value}"] if b < 3 else [f"{a} + {b - 1} = {value - 1}", f"{value - 1} + 1 = {value}"]
    if step.sign == "-":
        return [f"{a} - 1 = {a - 1}", f"{a - 1} - {b - 1} = {value}"] if b > 2 else [f"{b} + {value} = {a}"]
    if step.sign == "*":
        return [f"{a - 1} * {b} = {value - b}", f"{value - b} + {b} = {value}"]
    return [f"{value} * {b} = {a}"]
