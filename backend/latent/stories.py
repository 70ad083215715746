"""Ten kinds of story with one way of reckoning, as a published study of CODI asked them, told in our own words.

1. X people begin, Y join or leave, and each of those there then brings Z more: (X ± Y) Z + (X ± Y) are there in the
   end.
2. X > Y and Z are drawn from 1 … 8: 448 ways of reckoning, each of which every kind of story can tell.
3. Held out is half of the ways of reckoning, by the hash of operation and operands: a way is on one side in all
   stories. (Half, because a tenth would leave too few to score.)
4. The first held-out problem is always the study's single prompt: of 600 employees 30 % are promoted and 10 % are paid
   a bonus; 360 are neither.

Every question asks for the answer alone, as the models of that study were trained to be asked.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from backend.ids import seed_for, stable_id
from backend.latent.kinds import LatentError
from backend.latent.problems import TASKS, LatentProblem

STEPS = 3  # X ± Y, times Z, the two together
_ONLY = "Reply with the number alone."


@dataclass(frozen=True)
class Kind:
    """How one kind of story is told; numbers stand for X, Y and Z."""

    begins: str
    joins: str
    leaves: str
    brings: str
    asks: str


KINDS = (
    Kind(
        "{x} singers found a choir.",
        "{y} neighbours join it.",
        "{y} of them soon stay away.",
        "Then every singer in it invites {z} friends, who all come.",
        "How many sing in the choir now?",
    ),
    Kind(
        "A chess club opens with {x} players.",
        "{y} players sign up in the first week.",
        "{y} players give up in the first week.",
        "After that each player there enrols {z} others.",
        "How many players does the club have?",
    ),
    Kind(
        "{x} hikers set out from a hut.",
        "On the way {y} walkers catch up with them.",
        "On the way {y} of them turn back.",
        "At the lake each hiker is met by {z} cousins, who walk on with them.",
        "How many people walk on?",
    ),
    Kind(
        "A reading circle meets with {x} readers.",
        "{y} more come to the second evening.",
        "{y} fewer come to the second evening.",
        "To the third evening each of those readers takes along {z} new ones.",
        "How many readers are there on the third evening?",
    ),
    Kind(
        "A pirate ship sails with a crew of {x}.",
        "In the first port {y} sailors come aboard.",
        "In the first port {y} sailors run off.",
        "In the second port each one aboard hires {z} sailors.",
        "How many sailors has the ship?",
    ),
    Kind(
        "{x} bakers start a course.",
        "{y} late bakers are let in.",
        "{y} bakers drop the course.",
        "Each baker in the course then talks {z} colleagues into it.",
        "How many bakers take the course?",
    ),
    Kind(
        "{x} volunteers clean a beach.",
        "{y} passers-by lend a hand.",
        "{y} volunteers go home.",
        "At noon each one cleaning phones {z} people, and they come to help.",
        "How many people clean the beach in the afternoon?",
    ),
    Kind(
        "An online game has {x} testers.",
        "{y} testers are added.",
        "{y} testers are removed.",
        "Every tester then gets {z} invitations for further testers, and all are used.",
        "How many testers does the game have?",
    ),
    Kind(
        "{x} drummers march in a parade.",
        "At the bridge {y} drummers fall in.",
        "At the bridge {y} drummers fall out.",
        "At the market each drummer marching is joined by {z} dancers.",
        "How many people march in the parade?",
    ),
    Kind(
        "{x} gardeners share a field.",
        "In spring {y} gardeners move in.",
        "In spring {y} gardeners move away.",
        "In summer each gardener there finds {z} partners for the field.",
        "How many people share the field?",
    ),
)

EMPLOYEES = LatentProblem(
    problem_id=stable_id("p", "stories", "employees"),
    question="A firm employs 600 people. It promotes 30 % of them and pays a bonus to another 10 %. How many of its"
    f" people get neither? {_ONLY}",
    answer="360",
    intermediates=("180", "60", "360"),
    operands=("600", "30", "10"),
    has_distractor=False,
)


@dataclass(frozen=True)
class Reckoning:
    """What is reckoned, whatever story it is told in."""

    adds: bool
    x: int
    y: int
    z: int

    @property
    def results(self) -> tuple[int, int, int]:
        first = self.x + self.y if self.adds else self.x - self.y
        return first, first * self.z, first * self.z + first

    @property
    def is_held_out(self) -> bool:
        return seed_for("held out", "stories", self.adds, self.x, self.y, self.z) % 2 == 0


RECKONINGS = tuple(
    Reckoning(adds, x, y, z) for adds in (True, False) for x in range(1, 9) for y in range(1, x) for z in range(1, 9)
)


@dataclass(frozen=True)
class Stories:
    """As the Task protocol has it."""

    name: str
    label: str
    words: str

    def problems(self, n: int, *, steps: Sequence[int], seed: int, held_out: bool) -> list[LatentProblem]:
        """`n` problems in an order drawn by `seed`. Raises LatentError for other steps than 3, and where there are not
        so many.
        """
        if set(steps) != {STEPS}:
            raise LatentError(f"Every problem of the task {self.name} has {STEPS} steps; write steps = [{STEPS}].")
        found = [told(kind, one) for kind in range(len(KINDS)) for one in RECKONINGS if one.is_held_out == held_out]
        random.Random(seed_for("stories", seed, held_out)).shuffle(found)
        found = [EMPLOYEES, *found] if held_out else found
        if n > len(found):
            raise LatentError(
                f"The task {self.name} has {len(found):,} {'held-out ' * held_out}problems, and {n:,} were asked for."
                " Ask for fewer."
            )
        return found[:n]


def told(kind: int, one: Reckoning) -> LatentProblem:
    """The problem of a way of reckoning, as one of KINDS."""
    story = KINDS[kind]
    parts = (story.begins, story.joins if one.adds else story.leaves, story.brings, story.asks, _ONLY)
    question = " ".join(parts).format(x=one.x, y=one.y, z=one.z)
    results = tuple(map(str, one.results))
    return LatentProblem(
        stable_id("p", "stories", question), question, results[-1], results, (str(one.x), str(one.y), str(one.z)), False
    )


STORIES = TASKS.register(
    Stories(
        "stories",
        "stories of people who bring others",
        "X people begin, Y join or leave, each of those there brings Z more; asked: how many there are. Steps: X ± Y,"
        " times Z, the two together. Ten kinds of story, and one prompt about 600 employees.",
    )
)
