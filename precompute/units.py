"""The words between the pipeline and its stages: a unit of work, what a stage is given, and what it hands back."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from backend.store.costs import Meter, processor_seconds
from backend.store.store import Store
from backend.store.unit_files import Rows
from precompute.engines.engine import Engine, Made, ModelSpec, Task, Work, results
from precompute.engines.local import Local
from precompute.estimates import Estimate, Quantities
from precompute.study import Study


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is finished or not.

    `inputs` is everything its rows depend on, as JSON can hold it. `parts` are the smaller units of an earlier format
    that held the same rows between them: where all of them are stored, it is finished; a stage that is to compute it is
    given those that are not, and finds the rows of the others in the store.
    """

    unit_id: str
    inputs: Mapping[str, Any]
    parts: "tuple[Unit, ...]" = ()

    @property
    def key(self) -> str:
        canonical = json.dumps(self.inputs, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
        return f"{self.unit_id}@{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"

    def keys(self, stored: Collection[str]) -> set[str]:
        """What is to count of it: its own line, or the lines of its parts until there is one."""
        return {self.key} if self.key in stored else {self.key, *(part.key for part in self.parts)}

    def lacking(self, done: Collection[str]) -> "Unit | None":
        """What is left to do of it; None where nothing is."""
        if self.key in done:
            return None
        left = tuple(part for part in self.parts if part.key not in done)
        return replace(self, parts=left) if left or not self.parts else None


@dataclass(frozen=True)
class Finished:
    """The rows of one finished unit; `provenance` (model revision, dtype, seed) goes into its files' metadata."""

    unit: Unit
    tables: Mapping[str, Rows]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """What a stage may know. `store` holds all rows of the stages before it; `say` tells the person at the terminal,
    and `warn` does so and keeps the sentence with the run, for what had to be left out. `engine` is where tasks run.
    `folder` is where the run's files lie, where that is not the store's folder.
    """

    study: Study
    run_id: str
    store: Store
    say: Callable[[str], None]
    warn: Callable[[str], None] = lambda sentence: None
    engine: Engine = field(default_factory=Local)
    folder: Path | None = None
    meter: Meter = field(default_factory=Meter)  # of the processor seconds of its tasks

    @property
    def scratch(self) -> Path:
        """A folder that a stage keeps unfinished work in; it may be deleted whenever no run goes on."""
        return (self.folder or self.store.path) / "scratch"

    @property
    def weights(self) -> Path:
        """The study, or the folder in the place of one, among whose dictionaries a stage keeps those that it trains."""
        return self.folder or self.store.path

    def run(self, work: Work, tasks: Sequence[Task], *, model: ModelSpec | None = None) -> Iterator[Made]:
        """Everything that the tasks name, each result once and whole, as they come, wherever the engine runs them."""
        for name, (process, seconds, result) in results(self.engine, _Metered(work), tasks, model=model):
            if process != _this_process():  # else they are counted with all that this one does
                self.meter.others += seconds
            yield name, result


_counted = 0.0  # processor seconds of this process that it has told of


@dataclass(frozen=True)
class _Metered:
    """Work whose every result says which process made it and the processor seconds that this had not told of yet."""

    work: Work

    @property
    def __name__(self) -> str:
        return self.work.__name__

    def __call__(self, model: Any, task: Any) -> Iterator[Made]:
        for name, result in self.work(model, task):
            yield name, (_this_process(), _untold(), result)


def _untold() -> float:
    global _counted
    before, _counted = _counted, processor_seconds()
    return _counted - before


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


class Stage(Protocol):
    """One module in precompute/stages."""

    NAME: str
    UNIT: str  # what one unit is, in a word or two
    RULE: int  # of what it computes: raised when that changes, so that its units are computed again

    def units(self, context: Context) -> list[Unit]:
        """Every unit the study asks for, in the order in which they are worth having."""
        ...

    def compute(self, context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
        """Rows for the units, each as soon as it is finished, in any order."""
        ...

    def estimate(self, of: Quantities) -> Estimate | None:
        """What all its units will cost; None where the study does not ask for them, or the study file cannot say."""
        ...
