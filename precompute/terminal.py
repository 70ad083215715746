"""The one door to the terminal: text is shown as it is, whoever wrote it.

Rich reads `[bold]`, `:smile:` and addresses in any string, and a terminal obeys escape sequences. Here nothing in a
string means anything but itself: markup, emoji codes and highlighting are off, and control characters are shown
(`backend.plain`). Nothing else imports Rich.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from backend.plain import plain

T = TypeVar("T")


class Console(rich.console.Console):
    """Rich's console for strings that are nothing but text."""

    def __init__(self, **how: Any):
        super().__init__(**how, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **how: Any) -> None:
        """As Rich's, but words are never broken into lines: whoever searches a log finds whole sentences."""
        if all(isinstance(one, str) for one in objects):
            how.setdefault("soft_wrap", True)
        super().print(*objects, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """What every string passes, those of tables and titles too."""
        return super().render_str(plain(text), **(how | {"markup": False, "emoji": False, "highlight": False}))


console = Console()


def ours(given: rich.console.Console | None) -> Console:
    """`given` where it is ours, else one of ours that writes where it does."""
    if isinstance(given, Console):
        return given
    return console if given is None else Console(file=given.file, width=given.width)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of strings."""
    made = Table(*columns, title=title)
    for row in rows:
        made.add_row(*row)
    return made


def say_error(words: str) -> None:
    """To the error stream, on lines of its own; a stream that is gone or full must not hide what is said."""
    with suppress(OSError, ValueError):
        print(plain(words), file=sys.stderr, flush=True)


class _Words(ProgressColumn):
    """A field of the task, as text."""

    def __init__(self, field: str, width: int = 0):
        super().__init__()
        self._field, self._width = field, width

    def render(self, task: Task) -> Text:
        words = task.description if self._field == "description" else str(task.fields.get(self._field, ""))
        return Text(f"{plain(words):<{self._width}}")


@contextmanager
def progress_bar(console: rich.console.Console) -> Iterator[Progress]:
    """A bar with count, rate (the task's field `rate`), and time left."""
    with Progress(
        _Words("description", 14),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Words("rate"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        yield bar


def track(items: Iterable[T], words: str, *, console: rich.console.Console, total: int | None = None) -> Iterator[T]:
    """`items`, one by one, with a bar named by `words`."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    with progress_bar(console) as bar:
        task = bar.add_task(words, total=total)
        for item in items:
            yield item
            bar.advance(task)
