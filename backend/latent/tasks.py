"""Our own kinds of problem, each a short story with one number as its answer.

1. A step's effect depends on the state, so that steps do not collapse into one sum or one affine map.
2. What is drawn is a combination: where it begins and what is done. A tenth of all combinations, by their hash, is held
   out; stories and distractors dress a combination and never move it to the other side.
3. A quarter of the problems also names a number that is of no use. It is no result of the problem.
4. No intermediate result is the number that the problem begins with, and none comes twice.
"""

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass

from backend.ids import seed_for, stable_id
from backend.latent.kinds import LatentError
from backend.latent.problems import TASKS, LatentProblem

HELD_OUT = 10  # one combination in so many
DISTRACTORS = 4  # one problem in so many has one
_TRIES = 200  # draws for each problem, until there seem to be no more


@dataclass(frozen=True)
class Combination:
    """What a problem is about, whatever story it is told in."""

    operations: tuple[int | str, ...]
    operands: tuple[int, ...]  # the number it begins with first, then those that operations name
    results: tuple[int, ...]  # of each step


@dataclass(frozen=True)
class GeneratedTask(ABC):
    """Problems drawn by a seed; a subclass says what a combination is and how it is told."""

    name: str
    label: str
    words: str

    @abstractmethod
    def draw(self, rng: random.Random, n_steps: int) -> Combination:
        """A combination of so many steps; not all that are drawn can be asked."""

    @abstractmethod
    def tell(self, rng: random.Random, drawn: Combination, distractor: int | None) -> str:
        """The question."""

    @property
    @abstractmethod
    def distractors(self) -> Sequence[int]:
        """Numbers that may stand there for nothing."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """Every word and sign of its questions but numbers."""

    def problems(self, n: int, *, steps: Sequence[int], seed: int, held_out: bool) -> list[LatentProblem]:
        """`n` problems, of each number of `steps` in turn. Raises LatentError where there are not so many."""
        made = self.at_most(n, steps=steps, seed=seed, held_out=held_out)
        if len(made) < n:
            raise LatentError(
                f"The task {self.name} has no {n:,} {'held-out ' * held_out}problems of {steps[len(made) % len(steps)]}"
                f" steps; {len(made):,} were found. Ask for fewer, or for more steps."
            )
        return made

    def at_most(
        self, n: int, *, steps: Sequence[int], seed: int, held_out: bool, unlike: int | None = None
    ) -> list[LatentProblem]:
        """As `problems`, or about as many as there are. No combination is among the `n` of the seed `unlike`."""
        seen = {} if unlike is None else self._by_combination(n, steps, unlike, held_out, {})
        return list(self._by_combination(n, steps, seed, held_out, seen).values())

    def _by_combination(
        self, n: int, steps: Sequence[int], seed: int, held_out: bool, seen: Container[Combination]
    ) -> dict[Combination, LatentProblem]:
        rng = random.Random(seed_for("latent problems", self.name, list(steps), seed, held_out))
        made: dict[Combination, LatentProblem] = {}
        for _ in range(_TRIES * n):
            if len(made) == n:
                break
            drawn = self.draw(rng, steps[len(made) % len(steps)])
            if drawn not in made and drawn not in seen and self._is_asked(drawn, held_out):
                made[drawn] = self._problem(rng, drawn, rng.randrange(DISTRACTORS) == 0)
        return made

    def lesson(self, n: int, *, n_steps: int, seed: int, has_distractor: bool) -> list[LatentProblem]:
        """`n` problems to learn from, whose questions have as many words each; short ones, of which there are few, come
        more than once.
        """
        rng = random.Random(seed_for("latent lesson", self.name, n_steps, seed))
        made: list[LatentProblem] = []
        while len(made) < n:
            drawn = self.draw(rng, n_steps)
            if self._is_asked(drawn, held_out=False):
                made.append(self._problem(rng, drawn, has_distractor))
        return made

    def _is_asked(self, drawn: Combination, held_out: bool) -> bool:
        return self.may_be_asked(drawn) and self.is_held_out(drawn) == held_out

    def is_held_out(self, drawn: Combination) -> bool:
        return seed_for("held out", self.name, drawn.operations, drawn.operands) % HELD_OUT == 0

    def may_be_asked(self, drawn: Combination) -> bool:
        """Whether every result is new."""
        return len({drawn.operands[0], *drawn.results}) == 1 + len(drawn.results)

    def _problem(self, rng: random.Random, drawn: Combination, has_distractor: bool) -> LatentProblem:
        distractor = None
        if has_distractor:
            distractor = rng.choice([one for one in self.distractors if one not in {*drawn.operands, *drawn.results}])
        question = self.tell(rng, drawn, distractor)
        return LatentProblem(
            problem_id=stable_id("p", self.name, question),
            question=question,
            answer=str(drawn.results[-1]),
            intermediates=tuple(map(str, drawn.results)),
            operands=tuple(map(str, drawn.operands)) + (() if distractor is None else (str(distractor),)),
            has_distractor=distractor is not None,
        )


_VERBS = """
    hops dives turns rolls swims climbs slides jumps spins falls leaps glides steps flies crawls runs darts floats skips
    drifts bounces creeps races sails
"""
_ORDER = ("first", "second", "third", "fourth", "fifth", "sixth")
_STORIES = (("frog", "stone"), ("robot", "square"), ("ant", "leaf"), ("cat", "stair"))


@dataclass(frozen=True)
class Permutations(GeneratedTask):
    """Each verb moves every place to another one, by a permutation of its own that is the same in all problems.

    Where it begins comes last, so that no place can be computed while the verbs are read. The order of the verbs is
    said in words, so that a verb is found by what stands before it.
    """

    n_places: int = 10
    verbs: tuple[str, ...] = tuple(_VERBS.split())

    def after(self, place: int, verb: str) -> int:
        return self._moves(verb)[place]

    def _moves(self, verb: str) -> list[int]:
        return _derangement(self.name, self.n_places, verb)

    def draw(self, rng: random.Random, n_steps: int) -> Combination:
        if n_steps > len(_ORDER):
            raise LatentError(f"The task {self.name} has at most {len(_ORDER)} steps, not {n_steps}.")
        start, verbs = rng.randrange(self.n_places), tuple(rng.choices(self.verbs, k=n_steps))
        results, place = [], start
        for verb in verbs:
            place = self.after(place, verb)
            results.append(place)
        return Combination(verbs, (start,), tuple(results))

    def tell(self, rng: random.Random, drawn: Combination, distractor: int | None) -> str:
        who, place = rng.choice(_STORIES)
        beside = "" if distractor is None else f"{distractor} people watch. "
        verbs = ", ".join(f"{order} {verb}" for order, verb in zip(_ORDER, drawn.operations, strict=False))
        return f"{beside}The {who} {verbs}. It began on {place} {drawn.operands[0]}. Where is it?"

    @property
    def distractors(self) -> Sequence[int]:
        return range(self.n_places, 100)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        told = ("people", "watch", "The", ",", ".", "It", "began", "on", "Where", "is", "it", "?", *_ORDER)
        return (*told, *(word for story in _STORIES for word in story), *self.verbs)


_DERANGEMENTS: dict[tuple[str, int, str], list[int]] = {}


def _derangement(task: str, n: int, verb: str) -> list[int]:
    """A permutation of 0 … n − 1 without a fixed point, the same whenever it is asked for."""
    if (key := (task, n, verb)) not in _DERANGEMENTS:
        rng = random.Random(seed_for("permutation", *key))
        moves = list(range(n))
        while any(place == to for place, to in enumerate(moves)):
            rng.shuffle(moves)
        _DERANGEMENTS[key] = moves
    return _DERANGEMENTS[key]


_COUNTS = ("once", "twice", "thrice", "fourfold", "fivefold", "sixfold", "sevenfold", "eightfold")


@dataclass(frozen=True)
class LookUps(GeneratedTask):
    """A table in the question leads from number to number; a step is one look-up. The results stand in the table, so
    they are numbers of the question: here alone an intermediate is always an operand.
    """

    n_rows: int = 8

    def draw(self, rng: random.Random, n_steps: int) -> Combination:
        path = rng.sample(range(10, 100), n_steps + 1)
        rest = rng.sample([number for number in range(10, 100) if number not in path], 2 * (self.n_rows - n_steps))
        rows = [*itertools.pairwise(path), *zip(rest[::2], rest[1::2], strict=True)]
        rng.shuffle(rows)
        return Combination((n_steps,), (path[0], *(number for row in rows for number in row)), tuple(path[1:]))

    def tell(self, rng: random.Random, drawn: Combination, distractor: int | None) -> str:
        start, *numbers = drawn.operands
        rows = ", ".join(f"{one} to {other}" for one, other in zip(numbers[::2], numbers[1::2], strict=True))
        beside = "" if distractor is None else f" {distractor} people wait."
        return f"Trains run {rows}.{beside} Start at {start}, ride {_COUNTS[int(drawn.operations[0]) - 1]}. Where?"

    @property
    def distractors(self) -> Sequence[int]:
        return range(10)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*["Trains", "run", "to", ",", ".", "people", "wait", "Start", "at", "ride", "Where", "?"], *_COUNTS)


_COUNTERS = ("dial", "clock", "meter", "counter")


_COUNTERS = ("dial", "clock", "meter", "counter")


@dataclass(frozen=True)
class HalveOrTriple(GeneratedTask):
    """x becomes y = x + a; then y / 2 where y is even, else 3y + 1; all modulo a fixed number."""

    modulus: int = 50
    most: int = 9  # that is added

    def after(self, x: int, added: int) -> int:
        y = (x + added) % self.modulus
        return y // 2 if y % 2 == 0 else (3 * y + 1) % self.modulus

    def draw(self, rng: random.Random, n_steps: int) -> Combination:
        start = rng.randrange(self.modulus)
        added = tuple(rng.randint(1, self.most) for _ in range(n_steps))
        results, x = [], start
        for a in added:
            x = self.after(x, a)
            results.append(x)
        return Combination((), (start, *added), tuple(results))

    def may_be_asked(self, drawn: Combination) -> bool:
        return super().may_be_asked(drawn) and not set(drawn.results) & set(drawn.operands)

    def tell(self, rng: random.Random, drawn: Combination, distractor: int | None) -> str:
        start, *added = drawn.operands
        who = rng.choice(_COUNTERS)
        beside = "" if distractor is None else f" {distractor} lamps glow."
        return f"The {who} shows {start}.{beside} Add {', '.join(map(str, added))}. What now?"

    @property
    def distractors(self) -> Sequence[int]:
        return range(self.modulus, 100)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ("The", ".", "Add", ",", "What", "now", "?", "shows", "lamps", "glow", *_COUNTERS)


PERMUTATIONS = Permutations(
    "permutations",
    "permutations in words",
    "Something stands on one of ten places. Each verb moves it by a fixed permutation of its own, the same in every"
    " problem; a step is one verb. Asked: where it ends.",
)
LOOK_UPS = LookUps(
    "look-ups",
    "look-ups in a table",
    "A table in the question leads from number to number; a step is one look-up. Asked: where they end.",
)
HALVE_OR_TRIPLE = HalveOrTriple(
    "halve-or-triple",
    "halve or triple",
    "A number is added to x; what comes out is halved if even, else tripled and one added, modulo 50. A step is one"
    " number added. Asked: the last x.",
)
OURS: tuple[GeneratedTask, ...] = (PERMUTATIONS, LOOK_UPS, HALVE_OR_TRIPLE)
for _one in OURS:
    TASKS.register(_one)
