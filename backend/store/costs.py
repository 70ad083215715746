"""What each stage of a run took: one line a stage and command, in the study's folder, beside what `plan` foretold.

Processor seconds are those of the command's own process and of every worker, wherever the engine ran it; they do not
depend on what else the machine was doing, as the seconds on the clock do.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from backend.store.state import record

_FILE = "costs.jsonl"
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PUBLISHING = "publishing"  # in the place of a stage: the store built from the units of all of them


@dataclass(frozen=True)
class Cost:
    """Of one stage in one command."""

    run_id: Annotated[str, Field(max_length=200)]
    stage: Annotated[str, Field(max_length=200)]
    units: _Count  # that it finished
    cpu_seconds: _Seconds  # of all processes together
    seconds: _Seconds  # on the clock
    device: Annotated[str, Field(max_length=100)]


@dataclass
class Meter:
    """Processor seconds since it was made: `seconds()` of this process and of those it has waited for, and what others
    told it.
    """

    others: float = 0.0
    _began: float = field(default_factory=lambda: processor_seconds())
    _clock: float = field(default_factory=time.monotonic)

    def cpu_seconds(self) -> float:
        return max(processor_seconds() - self._began, 0.0) + self.others

    def seconds(self) -> float:
        return time.monotonic() - self._clock


def processor_seconds() -> float:
    """Of this process, and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def note(study: Path, cost: Cost) -> None:
    """Keep it. Where that fails (a full disk), nothing else does."""
    with contextlib.suppress(OSError), (study / _FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(cost)) + "\n")


def costs(study: Path) -> list[Cost]:
    """All that were noted, in order; a line that cannot be read is left out."""
    try:
        lines = (study / _FILE).read_bytes().splitlines()
    except OSError:
        return []
    return [cost for line in lines if (cost := record(line, Cost)) is not None]


@dataclass(frozen=True)
class Measured:
    """Of one stage, summed over several commands."""

    units: int
    cpu_seconds: float
    seconds: float

    def __add__(self, other: "Measured") -> "Measured":
        return Measured(self.units + other.units, self.cpu_seconds + other.cpu_seconds, self.seconds + other.seconds)


def measured(study: Path) -> dict[str, Measured]:
    """What every stage has taken so far."""
    found: dict[str, Measured] = {}
    for cost in costs(study):
        more = Measured(cost.units, cost.cpu_seconds, cost.seconds)
        found[cost.stage] = found.get(cost.stage, Measured(0, 0.0, 0.0)) + more
    return found
