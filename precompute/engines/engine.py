"""Where the tasks of a stage run: what an engine is given, and what it owes.

A task names what it makes: ids of units, or `UNIT/PART` for parts of a unit that is too long for one worker. A worker
hands back each of these whole, under its name. So an engine may run a task anywhere, in any order, and again after a
failure: `results` counts nothing twice and misses nothing. A result may not depend on which tasks ran together, on the
engine or on the worker: seeds belong to units and samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from backend.errors import AnchorscopeError


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load its model."""

    name: str
    revision: str | None
    dtype: str
    device: str


class Task(Protocol):
    """Plain data that a new process can be given."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Names of all its results."""
        ...


Made: TypeAlias = tuple[str, Any]  # a name, and the whole result
# (the loaded model or None, task) -> its results; a top-level function, so that a new process finds it
Work: TypeAlias = Callable[[Any, Any], Iterator[Made]]


class Engine(Protocol):
    """Runs tasks. It may run one twice; it may not lose one without raising."""

    @property
    def workers(self) -> int:
        """How many tasks can run at once: work is divided for so many."""
        ...

    def run(self, work: Work, tasks: Sequence[Task], *, model: ModelSpec | None) -> Iterator[Made]:
        """Results of `work` over all tasks, as they come. Where `model` is None, so is what `work` gets."""
        ...


class EngineFault(AnchorscopeError):
    """A result that no task makes, that two make, or that never came."""


def results(engine: Engine, work: Work, tasks: Sequence[Task], *, model: ModelSpec | None) -> Iterator[Made]:
    """Every result that the tasks name, once, as they come. Raises EngineFault."""
    names = [name for task in tasks for name in task.makes]
    missing = dict.fromkeys(names)
    if len(missing) < len(names):
        raise EngineFault(f"{next(name for name in missing if names.count(name) > 1)} is made by two tasks.")
    known = set(names)
    for name, result in engine.run(work, tasks, model=model):
        if name not in known:
            raise EngineFault(f"{work.__name__} made {name!r}, which its task does not name.")
        if name in missing:  # else the task ran twice
            del missing[name]
            yield name, result
    if missing:
        raise EngineFault(f"{work.__name__} never made {next(iter(missing))}, which its task names; run again.")
