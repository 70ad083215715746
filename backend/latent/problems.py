"""What latent models are asked: problems whose intermediate results are known. `TASKS` has every kind of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.latent.kinds import LatentError
from backend.registry import Registry


@dataclass(frozen=True)
class LatentProblem:
    """A question with its answer, and what stands on the way to it."""

    problem_id: str
    question: str  # as it is tokenised
    answer: str
    intermediates: tuple[str, ...]  # results of the steps in their order; the last one is the answer
    operands: tuple[str, ...]  # numbers of the question
    has_distractor: bool  # whether a number of it is of no use

    @property
    def n_steps(self) -> int:
        return len(self.intermediates)


class Task(Protocol):
    """A kind of problem."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def words(self) -> str:
        """What is asked, and what a step is."""
        ...

    def problems(self, n: int, *, steps: Sequence[int], seed: int, held_out: bool) -> list[LatentProblem]:
        """`n` problems, each of one of so many `steps`, no problem twice; `held_out`: of the combinations that no
        training sees, or of the others.
        """
        ...


TASKS: Registry[Task] = Registry("task of latent models", error=LatentError)
