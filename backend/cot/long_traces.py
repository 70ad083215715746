"""Long chains of thought written by rule for problems of levels 1 to 3, in wordings composed by a grammar.

A trace retells the story, plans each calculation in the story's words, does it in small parts, says what the value
means, and doubts itself:
1. A quick guess before the parts may be wrong. Mostly the parts show it, and the next sentence puts it right ("Wait");
   now and then nobody looks, and the wrong value is carried on: either a late look back finds it, and what is built on
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
from backend.cot.word_problems import GOODS, GROUPS, NAMES, exact_value
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
    "[Let me|I will|I should|Okay, let me|Right, let me|Hmm, let me] [read|look at|go over|go through] [the story|the"
    " question|this] [carefully|slowly|once more|first|again|in order] [before I calculate|before any numbers|and see"
    " what I know|and keep track of {things}].",
)
FACT = (
    "[|So |Now |Okay, |Good, |Well, |Right, |Here ][I know|I see|I can see|I have read|I read|I note|I am told|it"
    " says|the story says|the text says|the text tells me|it is given|I keep in mind|I remember|what I know is|what is"
    " given is|one thing I know is|one thing given is] that {fact}.",
    "[|So |Now |Okay, |Good, |Well, |Right, |I see: |It says: |I know: |I read: |The story: ]{fact}[|, as the story"
    " says|, that is given|, so much is clear|, I keep that|, I write that down|, that I know|, as I read|, as I am"
    " told|, so I note it|, that is told|, good|, and I keep it in mind].",
)
ASKED = (
    "[What I need|What is asked|The goal|What they want to know|My task|What I am looking for|The thing to find|What I"
    " must find] [is|here is|in the end is] {label}.",
    "[In the end|So|Finally|Now] [I have to|I need to|I must|they want me to] [find|work out|say|give|name] {label}.",
    "[The question|The last sentence|The text] [asks for|wants|is about|is after] {label}[|, nothing else|, no more].",
)
NUMBERS = (
    "[|So |Now |Here ][the numbers|the figures|the amounts|the values] [I have|given|in the story|that matter|to work"
    " with] are {list}.",
    "[|So |Now |Here ][I will|let me|I should|I can] [use|work with|keep|note|write down] the numbers {list}.",
)
PLAN = {
    sign: (
        f"[|So |Now |Okay, ][to get|to find|for|to reach] {{label}}, I [|must |need to |have to |should |can |will"
        f" ]{does}[, because|, since|, as] {{why}}.",
        f"[|So |Here |Now |Next, |Okay, |I see: |In the story ]{{why}}, so [|for {{label}} ]I [|must |need to |have to"
        f" |should |can |will ]{does}.",
        f"[|So |Here |Now |Next, |Okay, |I see: |In the story ]{{why}}, [so that is|so this is|so it is|which is|which"
        f" means] {named}[| for {{label}}].",
    )
    for sign, does, named in (
        ("+", "[add {a} and {b}|add {b} to {a}]", "[the sum of {a} and {b}|{a} plus {b}]"),
        ("-", "[take {b} from {a}|subtract {b} from {a}]", "[the difference of {a} and {b}|{a} minus {b}]"),
        ("*", "[multiply {a} by {b}|take {a} times {b}]", "[the product of {a} and {b}|{a} times {b}]"),
        ("/", "[divide {a} by {b}|split {a} by {b}]", "[the quotient of {a} and {b}|{a} divided by {b}]"),
    )
}
PART = (  # the first part and a later one
    "[First|To begin|At the start|Slowly|In parts|Piece by piece|In small steps|Bit by bit][:| I get| I have| I take| I"
    " see| there is| we get| it is] {q}[|, good|, fine].",
    "[Then|Next|Now|After that|And then|Going on|From there|With that][|:| I get| I have| I take| I see| it is| we get]"
    " {q}[|, good|, fine].",
)
RESULT = (
    "[So|Then|Now|Together|Altogether|Here|In all|At last|That is it:] [|I get |I have |I find |it is |this"
    " gives |that makes |we have |there is ]{q}[| {unit}|, good|, fine].",
    "[|So |Now |Then ][for {label}|calculating|working it out|doing it|doing that][, I get|, I have|, I find|, it is|,"
    " this gives|, there is|:] {q}.",
    "[|So |Now |Then |Good, |Okay, ][this gives|that makes|I get|I have|I find|it comes to|the result is|what I get is]"
    " {q}[| {unit}|, good|, fine].",
)
GUESS = (
    "[At a glance|Off the top of my head|Quickly|At first sight|My first guess:|In my head|Without much thought|By"
    " feel] [it is|I would say|I get|I think|I see|this looks like|I have] {q}.",
    "[A quick|A first|A rough|My fast] [guess|try|count|estimate] [for {label}|here] [is|gives|says] {q}.",
)
FIXED = (
    "Wait, [|no, |hmm, ][that|my {n}|the {n}|this {n}] [is not right|cannot be right|was a slip|was wrong|was too"
    " quick|does not hold], [because|since|as] {q}[| {unit}].",
    "Wait, [|no, |hmm, ][I made a slip|I was too quick|I must correct that|I see a mistake]: {q}, [and not {n}|not"
    " {n}|so {n} was wrong].",
    "Wait, [|no, |hmm, ][it has to be|it should be|the right one is|that must be] {q} [instead of {n}|and not"
    " {n}|rather than {n}].",
)
GUESSED = (
    "[So|Good,|Yes,|Fine,] [the guess|my first number|the quick value|that first try] [of {v} |][was right|holds|was"
    " fine|is confirmed], {q}.",
)
MISREAD = {
    "+": "[I could|Maybe I should|Perhaps I can|Maybe I|I might] [just add|simply add|put together|only add] {a} and"
    " {b}[, so|:|, that is|, and get] {q}.",
    "-": "[I could|Maybe I should|Perhaps I can|Maybe I|I might] [just take|simply take|subtract|only take] {b} from"
    " {a}[, so|:|, that is|, and get] {q}.",
    "*": "[I could|Maybe I should|Perhaps I can|Maybe I|I might] [just multiply|simply multiply|take the product"
    " of|only multiply] {a} and {b}[, so|:|, that is|, and get] {q}.",
}
TURNED = (
    "[But|However,|But wait,|But no,] [that|this|it] [is not what|does not fit what|goes against what] [the story|the"
    " text|the question] [says|tells|means] [about {things}|about {label}|here].",
    "[But|However,] [the story|the text|the question] [asks for|needs|is after] {label}, [so that is the wrong"
    " operation|so that was a wrong turn|which is another thing].",
    "[But|However,|But wait,|But no,] {why}, so [that|this|it] [is the wrong operation|was a wrong turn|does not fit|is"
    " not right].",
)
MEANS = (
    "[|So |That means |In other words, |In the story |With that, |Now |Good, |Okay, ]{label} [is|must be|comes to|turns"
    " out to be|would be|has to be] {vu}[|, good|, I keep that|, I note that].",
    "[The {v}|This {v}|That {v}|This number|That number] [is|stands for|means|gives|tells me|counts as] {label}.",
    "[|So |Now |Good, |Okay, |With that, ]I [keep|note|remember|hold on to|write down] {v} [as|for] {label}.",
)
CHECK = (
    "[But|However,|Wait,|But wait,] [is that right|can that be|does that fit|is {v} right|can it really be {v}|does {v}"
    " make sense|is it really {v}|did I get that right][| for {label}| here]?",
    "[But|However,|Wait,|But wait,] [I|let me|I want to|I should|I had better|I can|now let me] [check|verify|test|make"
    " sure of] [the {v}|that|this|{label}] [before I go on|here|by going backwards|by putting it back in|against the"
    " story][|, to be sure].",
)
CHECKED = (
    "[Going back|Backwards|In reverse|Putting {v} back|The other way round|Undoing it|From {v}|With {v}|Starting from"
    " {v}][,| I get|, I have|, it is|, there is] {q}[|, which fits|, as it should be|, so it holds|, which matches|, so"
    " it is fine|, the {a} from before|, so {v} stays|, which is right].",
    "If [it|{label}] is {v}, then {q}, [and that agrees|and that is what I had|which is right|so {v} stays|so it"
    " holds].",
)
SIZE = (
    "[But|However,|Wait,|But wait,] [it|the value|the result|{label}] [should be|has to be|must be|ought to be]"
    " {larger} than {a}[|, because {because}|, since {because}], and {v} is[|, so that fits|, good|, as expected].",
    "[But|However,|Wait,|But wait,] [could {label}|could it|might it] be {smaller} than {a}? [No|Not here], {v} is"
    " {larger}, [as it must be|which makes sense|and that fits the story|because {because}|since {because}].",
)
ROUTE = (
    "Alternatively, [I can|I could|let me|one can|we can|I may] [see|count|get|find|reach|check] [it|this|{label}|the"
    " same] [another way|differently|by a second route|from the other side|with other steps]: {q}.",
    "Alternatively, [by another way|by a second route|to be sure|in other steps|taken differently|for {label}], {q}.",
)
ROUTE_GOES_ON = (
    "[Then|And then|After that|From there|With that|Next|Now|And|So|Going on][|:| I get| I have| I find| I see| it is|"
    " I take| we get| this gives] {q}[|, good|, fine].",
)
AGREE = (
    "[Both|The two|These two] [ways|routes|methods|paths] [agree|match|give the same|meet at {v}|lead to {v}|give"
    " {v}][|, good|, so I trust it|, as hoped|, so {v} holds].",
    "[|So |Good, |Yes, ][that is|it is|I reach|this is|I get] [the same {v}|{v} again|{v} as before][|, so I trust it|,"
    " which is good|, as hoped|, so both ways agree|, so {v} holds].",
)
DISAGREE = (
    "[But|However,] [that gives {n}|now I have {n}|this says {n}|here I get {n}], [and before it was {v}|not"
    " {v}|against {v} before], [so one is wrong|so they do not agree|and only one can hold].",
    "[But|However,] [the two ways|both routes|the two results] [disagree|do not match|differ], {n} [against|and] {v}.",
)
SETTLED = (
    "[Let me see|To decide|To settle it|Looking again|Going back], {q}, so [{v} is right|it is {v}|{v} holds|I stay"
    " with {v}|{v} stays] and [the second way had a slip|the other route was wrong|{n} was a slip|{n} was wrong].",
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
    "[The answer|The result|What I look for] [is counted|is given|has to be|should be] in {unit}, [and|so] {v} {unit}"
    " [fits|fits that|is fine|is what I say].",
    "[The question|The story] [asks|wanted to know|was] about {unit}, [and|so] {v} {unit} [answers it|is an answer|fits"
    " that].",
)
END = (
    "[Therefore|Thus|So][,|, in the end,|, with all that,|, putting it together,] [the answer|the result|the number"
    " asked for|what was asked|{label}] [is|must be|comes out as|has to be] {v}[| {unit}].",
    "[Therefore|Thus|Therefore, in the end,|Thus, with all that,] [I have|I get|I find|I am left with|I arrive at] {v}"
    " {unit}[| for {label}| as the answer|, and that is {label}].",
    "[Therefore|Thus][,|, in the end,|, with all that,|, putting it together,] [the answer|the result|the number asked"
    " for|what was asked|{label}] [is|must be|comes out as|has to be] {v}[| {unit}].",
)
DEDUCED = (
    "[Therefore|Thus][|, from here|, with that|, knowing this] [I can go on to|I go on to|I still need|I now need|I"
    " look for|I now want|the next thing is|what comes now is] {label}[|, as the next step|].",
)
AFTER = ("[The|So the|The final|My] answer is \\boxed{{{v}}}.",)

# Of each kind of story, by the order in `word_problems.TEMPLATES`: what each calculation gives, its unit (None: what is
# asked for), and what in the story asks for it.
_ALL = ("the number of {things} in all", None, "there are {a} {things} and {b} more")
_GONE = ("the number of {things} left", None, "{b} of the {a} {things} are gone")
_LEFT = ("the money that is left", "dollars", "{b} of the {a} dollars are spent")
_SHARED = ("the number of {things} {per}", None, "{a} {things} are split equally over {b} {shares}")
_GROUPED = ("the number of {things} in the {a} {groups}", None, "the story has {a} {groups} with {b} {things} in each")
_BOTH = ("the number of {things} together", None, "there are {b} {things} {first} and {a} {second}")
_GOODS = ("the price of the {a} {goods}", "dollars", "each of the {a} {goods} costs {b} dollars")
_LABELS: dict[int, tuple[tuple[tuple[str, str | None, str], ...], ...]] = {
    1: (
        (_ALL,),
        (_GONE,),
        (("the number of {things} together", None, "{who} has {a} {things} and {two} has {b}"),),
        (_GROUPED,),
        (_SHARED,),
        (("the age of {two}", "years", "{two} is {b} years {older} than {who}, who is {a}"),),
    ),
    2: (
        (("the number of {things} with the {b} more", None, _ALL[2]), _GONE),
        (_GROUPED, _ALL),
        (
            ("the number of {things} {second}", None, "there are {b} more than the {a} {things} {first}"),
            _BOTH,
        ),
        (_GOODS, _LEFT),
        (
            ("the number of {things} after the first {b} are gone", None, _GONE[2]),
            ("the number of {things} left", None, "{b} more of the {a} {things} are gone"),
        ),
    ),
    3: (
        (
            _GOODS,
            ("the price of the {a} {others}", "dollars", "each of the {a} {others} costs {b} dollars"),
            ("the price of everything", "dollars", "the {goods} cost {a} and the {others} cost {b} dollars"),
        ),
        (_GROUPED, ("the number of {things} to share", None, _GONE[2]), _SHARED),
        (
            ("the number of {things} {second} at first", None, "there are {b} times the {a} {things} {first}"),
            ("the number of {things} {second} later", None, _GONE[2]),
            _BOTH,
        ),
        (
            ("the time in the {b} days", "hours", "{who} works {a} hours on each of {b} days"),
            ("the money that is earned", "dollars", "each of the {a} hours brings {b} dollars"),
            _LEFT,
        ),
        (
            ("the number of {rows} in the {a} rows", "{rows}", "there are {a} rows with {b} {rows} in each"),
            ("the number of {rows} that {count}", "{rows}", "{b} of the {a} {rows} {fail}"),
            ("{total}", None, "each of the {a} {bear} {b} {unit}"),
        ),
    ),
}
_BECAUSE = {
    "+": "something is added",
    "-": "something is taken away",
    "*": "it is taken {b} times",
    "/": "it is split by {b}",
}


@dataclass(frozen=True)
class Manner:
    """How often what comes, as probabilities of a calculation unless said otherwise."""

    guess: float = 0.15
    wrong: float = 0.4  # of the guesses
    misread: float = 0.08
    missed: float = 0.06  # of the traces: a guess that is wrong and that nobody looks at
    late: float = 0.5  # of the missed: found at the end after all
    disagree: float = 0.1  # of the other routes


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
            n = sum(math.prod(map(int, _COUNTED.findall(option))) for option in dict.fromkeys(found[1].split("|")))
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
    why: str

    @property
    def expression(self) -> str:
        return f"{self.a} {self.sign} {self.b}"

    @property
    def value(self) -> str:
        return str(exact_value(self.expression))


class _Teller:
    def __init__(
        self, problem: Problem, labels: Sequence[tuple[str, str | None, str]], rng: random.Random, manner: Manner
    ) -> None:
        self.problem, self.rng, self.manner = problem, rng, manner
        self.words = _words(problem.question)
        self.labels = [(label, unit or "{unit}", why) for label, unit, why in labels]
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
            self._look_back(steps, used, carried)
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
            a, b = instead.get(a, a), instead.get(b, b)
            words = self.words | {"a": a, "b": b, "older": "older" if sign == "+" else "younger"}
            step = _Step(a, sign, b, *(text.format(**words) for text in self.labels[place]))
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
        for wrong in self._wrong_values(expressions[place]):
            try:
                steps = self._steps(expressions, {place: wrong})
            except ValueError:  # a value below 0 would be used
                continue
            if all((value := exact_value(step.expression)) >= 1 and value.denominator == 1 for step in steps):
                return place, wrong
        return None

    def _wrong_values(self, expression: str) -> list[str]:
        """Values near the right one, as a slip gives them: one off, ten off, or next to it in the table of products."""
        a, sign, b = expression.split(" ")
        right = int(exact_value(expression))
        steps = {1, -1} | ({10, -10} if right > 20 else set())
        if sign == "*":
            steps |= {int(a), -int(a), int(b), -int(b)} if int(a) > 1 and right < 100 else set()
        near = sorted(right + step for step in steps if right + step > 0)
        self.rng.shuffle(near)
        return list(map(str, near))

    def _opening(self, steps: Sequence[_Step]) -> None:
        self.paragraphs.append([])
        last = steps[-1]
        self._say(OPENING, last)
        *told, asked = _SENTENCE.split(self.problem.question.strip())
        facts = [fact.rstrip(".") for sentence in told for fact in re.split(r", and (?=[A-Z])", sentence)]
        if bought := re.match(r"What do (.*\d.*) cost", asked):
            facts.append(f"{bought[1]} are bought")
        for fact in (fact.removeprefix("Then ") for fact in facts):
            self._say(FACT, last, fact=fact if fact.split()[0] in NAMES else fact[0].lower() + fact[1:])
        if self.rng.random() < {1: 0.8, 2: 0.5, 3: 0.3}[len(steps)]:
            self._say(NUMBERS, last, list=_listed(self.words["list"].split()))
        if len(steps) == 1 or self.rng.random() < 0.8:
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
        if self.rng.random() < {1: 1.0, 2: 0.5, 3: 0.4}[len(self.labels)]:
            self._say(MEANS, step, v=said)
        if wrong is not None:  # the only doubt is one that a value near the right one survives
            return self._size(step, int(wrong))
        doubts = [self._check, self._route, self._size]
        self.rng.shuffle(doubts)
        first, others = {1: (1.0, 0.8), 2: (0.7, 0.4), 3: (0.4, 0.2)}[len(self.labels)]
        for n, doubt in enumerate(doubts):
            if self.rng.random() < (others if n else first):
                doubt(step)
        return None

    def _guess(self, step: _Step, small: Sequence[str]) -> None:
        right = f"{step.expression} = {step.value}"
        slip = self._wrong_values(step.expression)[0] if self.rng.random() < self.manner.wrong else None
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
        right, before = int(step.value), int(step.a)
        value = right if said is None else said
        if value != before and (value > before) == (right > before):
            larger, smaller = ("more", "less") if value > before else ("less", "more")
            because = _BECAUSE[step.sign].format(b=step.b)
            self._say(SIZE, step, v=str(value), larger=larger, smaller=smaller, because=because)

    def _route(self, step: _Step) -> None:
        """Another way to the value, in two equations or one; the last may be wrong, and is then settled."""
        ways = _other_way(step)
        n = None
        if self.rng.random() < self.manner.disagree:
            n = self._wrong_values(ways[-1].partition(" = ")[0])[0]
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

    def _look_back(self, steps: Sequence[_Step], used: Sequence[_Step], carried: tuple[int, str]) -> None:
        place, wrong = carried
        self.paragraphs.append([])
        self._say(LOOK_BACK, steps[-1])
        step = steps[place]
        for n, part in enumerate(_small_parts(step)):
            self._say(PART[min(n, 1) :][:1], step, q=part)
        self._say(FIXED, step, q=f"{step.expression} = {step.value}", n=wrong)
        for later in (step for step, before in zip(steps, used, strict=True) if step.expression != before.expression):
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
        words = self.words | {"v": step.value} | vars(step) | said
        words["vu"] = words["v"] if step.unit in step.label.split() else f"{words['v']} {step.unit}"
        text = expanded(self.rng.choice(patterns), self.rng).format(**words).replace(" ,", ",")
        return text[0].upper() + text[1:]


def _words(question: str) -> dict[str, str]:
    """What the story is about: who, things, groups, the unit asked for, and its numbers."""
    names = [word for word in re.findall(r"[A-Z]\w+", question) if word in NAMES]
    names = list(dict.fromkeys(names)) or ["the story"]
    asked = re.findall(r"How many (\w+)", question)
    unit = asked[-1] if asked else "years" if "How old" in question else "dollars"
    things = {"years": "the ages", "dollars": "the money"}.get(unit, unit)
    groups = re.search(rf"\d ({'|'.join(('box', 'pack', *GROUPS))})\b", question)
    bought = re.findall(rf"\d ({'|'.join(many for _, many in GOODS)})\b", question)
    shares = next((word for word in _PER if word in question), "groups")
    rows = re.search(r"rows of \d+ (\w+)", question)
    sides = next((sides for word, sides in _SIDES.items() if word in question), (f"of {names[0]}", f"of {names[-1]}"))
    paid = "paid" in question
    return {
        "who": names[0],
        "two": names[1] if len(names) > 1 else names[0],
        "things": things,
        "groups": groups[1] if groups else "groups",
        "goods": bought[0] if bought else "goods",
        "others": bought[-1] if bought else "others",
        "shares": shares,
        "per": _PER[shares],
        "first": sides[0],
        "second": sides[1],
        "unit": unit,
        "rows": rows[1] if rows else unit,
        "count": "are taken" if paid else "live",
        "fail": "are empty" if paid else "die",
        "total": "the money that is paid" if paid else f"the number of {unit}",
        "bear": "people paid" if paid else "bushes bears",
        "list": " ".join(re.findall(r"\d+", question)),
    }


_PER = {"friends": "for each friend", "children": "for each child", "piles": "in each pile", "groups": "in each group"}
_SIDES = {"Monday": ("on Monday", "on Tuesday"), "hall": ("in the small hall", "in the large hall")}


def _listed(numbers: Sequence[str]) -> str:
    return " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)


def _small_parts(step: _Step) -> list[str]:
    """True equations that lead to the value; empty where it is plain at a glance."""
    if step.sign != "/":
        return parts(step.expression, fine=True)
    a, b = int(step.a), int(step.b)
    if a % b:
        return []
    if a < 10 * b:  # up the table until the number is reached
        first = 2 if a <= 5 * b else 5
        return [", ".join(f"{b} * {n} = {b * n}" for n in range(min(first, a // b), a // b + 1))]
    rest = a - 10 * b
    told = [f"{b} * 10 = {10 * b}", f"{a} - {10 * b} = {rest}"]
    return [*told, f"{rest} / {b} = {rest // b}", f"10 + {rest // b} = {a // b}"] if rest else told[:1]


def _other_way(step: _Step) -> list[str]:
    """Equations of which the last gives the value too."""
    a, b, value = int(step.a), int(step.b), int(Fraction(step.value))
    if step.sign == "+":
        return [f"{b} + {a} = {value}"] if b < 3 else [f"{a} + {b - 1} = {value - 1}", f"{value - 1} + 1 = {value}"]
    if step.sign == "-":
        return [f"{a} - {b - 1} = {value + 1}", f"{value + 1} - 1 = {value}"] if b > 1 else [f"{a} - {b} = {value}"]
    if step.sign == "*":
        small = a > 2 and value <= 100
        return [f"{a - 1} * {b} = {value - b}", f"{value - b} + {b} = {value}"] if small else [f"{b} * {a} = {value}"]
    return [f"{a - b} / {b} = {value - 1}", f"{value - 1} + 1 = {value}"]
