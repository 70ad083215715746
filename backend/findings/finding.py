"""What a finding is: one thing that a study shows, with all that must stand beside it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from backend.registry import Registry
from backend.store.store import Store
from backend.store.undone import Missing

Q = 0.05  # of Benjamini and Hochberg's q, or of Holm's p: up to here it is claimed


@dataclass(frozen=True)
class Number:
    """An estimate with what it rests on. What is unknown is NaN; q, p or control are None where it has none."""

    label: str
    value: float
    low: float  # 95 % interval
    high: float
    n: str  # how many of what
    unit: str = ""
    q: float | None = None
    p: float | None = None
    control: float | None = None  # the same, where nothing is to be found

    @property
    def claimed(self) -> bool:
        """Whether it is told from chance: by q where there is one, else by p."""
        decides = self.p if self.q is None else self.q
        return decides is not None and not math.isnan(decides) and decides <= Q


@dataclass(frozen=True)
class Way:
    """Where it is looked at: a page of the dashboard, and what is selected there."""

    page: str
    label: str
    chosen: Mapping[str, str]  # by the words of links


@dataclass(frozen=True)
class Example:
    """A text of the study that shows it."""

    text: str
    about: str
    way: Way | None = None
    number: Number | None = None  # that of the finding's which is of it


@dataclass(frozen=True)
class Finding:
    statement: str
    numbers: tuple[Number, ...]
    control: str  # what stands beside them, in words
    rows: pd.DataFrame  # of the kind's figure
    way: Way
    axis: str = ""  # what the figure's values are, with their unit
    examples: tuple[Example, ...] = ()
    lacks: Missing | None = None  # a control that it does not have, and how it is had


@dataclass(frozen=True)
class Kind:
    """A kind of finding. `find` looks for it in a study, and says what to run where it cannot be there."""

    name: str
    title: str  # a heading
    figure: str  # the kind of its figure, and of `rows`
    find: Callable[[Store], Finding | Missing]
    is_slow: bool = False  # whether it takes a second or more, so that a page looks for it after the others


KINDS: Registry[Kind] = Registry("kind of finding")
