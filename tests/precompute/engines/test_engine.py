"""What an engine owes a stage: every result that the tasks name, once and whole, wherever and however often it ran."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from precompute.engines.engine import EngineFault, results


@dataclass(frozen=True)
class Squares:
    makes: tuple[str, ...]


def squares(_: None, task: Squares) -> Iterator[tuple[str, int]]:
    for name in task.makes:
        yield name, int(name) ** 2


@dataclass(frozen=True)
class Odd:
    """Runs tasks from the last to the first, and the first of them twice, as an engine may after a failure."""

    workers: int = 3

    def run(self, work, tasks: Sequence[Squares], *, model) -> Iterator[tuple[str, int]]:
        for task in [*reversed(tasks), *tasks[:1]]:
            yield from work(None, task)


TASKS = [Squares(("1", "2")), Squares(("3",))]


def test_a_task_that_ran_twice_counts_once():
    assert sorted(results(Odd(), squares, TASKS, model=None)) == [("1", 1), ("2", 4), ("3", 9)]


def test_a_result_that_never_came_is_named():
    def lazy(_, task):
        yield from list(squares(None, task))[:1]

    with pytest.raises(EngineFault, match="lazy never made 2"):
        list(results(Odd(), lazy, TASKS, model=None))


def test_a_result_that_no_task_names_is_refused():
    def generous(_, task):
        yield "7", 49

    with pytest.raises(EngineFault, match="'7', which its task does not name"):
        list(results(Odd(), generous, TASKS, model=None))


def test_two_tasks_may_not_make_the_same():
    with pytest.raises(EngineFault, match="1 is made by two tasks"):
        list(results(Odd(), squares, [*TASKS, Squares(("1",))], model=None))
