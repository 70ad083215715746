"""What a running precompute shows to whoever looks: a small file, replaced whole. It is never read to decide what is
left to do.

A run is known by its process: its number, when that process began, and the machine. So it is dead the moment it is,
however it ended, and another process that got the same number is not taken for it. Where that cannot be known (another
machine, a record of an older version), a minute of silence counts.
"""

import contextlib
import functools
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import psutil
from pydantic import Field

from backend.store.state import record_in

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Known = Annotated[float, Field(ge=0, allow_inf_nan=False)]
State: TypeAlias = Literal["running", "finished", "interrupted", "failed"]
_SAME = 1.0  # seconds between two readings of when a process began


@dataclass(frozen=True)
class Progress:
    """One moment of one stage."""

    stage: Annotated[str, Field(max_length=200)]
    done: _Count  # units
    total: _Count  # units
    rate: _Known | None  # units a second in this run; None before the first
    seconds_left: _Known | None  # estimate; None when unknown
    state: State
    updated_at: _Known  # seconds since the epoch
    pid: int | None = None
    began: _Known | None = None  # when that process did, in seconds since the epoch
    host: str | None = None
    tokens: _Count | None = None  # written in this run, for units that take long; None where they are not counted
    most_tokens: _Count | None = None  # what this run writes at most

    @property
    def stale(self) -> bool:
        """Whether a run that says it is running is not: its process is gone, or nobody can know and it was silent for a
        minute.
        """
        if self.state != "running":
            return False
        if self.pid is None or self.began is None or self.host != socket.gethostname():
            return time.time() - self.updated_at > 60
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.began) > _SAME or process.status() == psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:  # it is there, and another's
            return False
        except (psutil.Error, ValueError, OverflowError):
            return True

    def by_this_process(self) -> "Progress":
        """The same, said by this process."""
        return replace(self, pid=os.getpid(), began=_began(os.getpid()), host=socket.gethostname())


@functools.lru_cache(maxsize=1)
def _began(pid: int) -> float:
    return psutil.Process(pid).create_time()


def write_progress(study: Path, progress: Progress) -> None:
    """Show it. Where that fails (a full disk), nothing else does: what a run is for does not depend on it."""
    temporary = study / "progress.tmp"
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        os.replace(temporary, study / "progress.json")


def read_progress(study: Path) -> Progress | None:
    """The last moment written; None where no run has said anything that can be read."""
    return record_in(study / "progress.json", Progress)
