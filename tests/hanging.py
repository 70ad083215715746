"""A guard against work that never ends: it says nothing about speed, which benchmarks measure."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ends(seconds: int = 60) -> Iterator[None]:
    """What stands in it comes to an end: TimeoutError after so many `seconds`, far more than work of linear cost needs
    and far fewer than the same work of quadratic cost.
    """

    def gave_up(number: int, frame: object) -> None:
        raise TimeoutError(f"it did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, gave_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
