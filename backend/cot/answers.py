r"""What a response's answer is (`extract_answer`), and whether two answers are equal (`Judge`).

Where an answer stands in a text is told by `extraction`, when two are equal by `equality`. The latter reads LaTeX with
sympy and so can run for ever on `9^{9^{9^9}}`: it runs in worker processes that end at a deadline. Equality is not
transitive (50\% equals 50 and 0.5): answers are clustered greedily, and the raw answer is stored beside its cluster.
"""

import contextlib
import importlib.metadata
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from typing import Protocol

from backend.cot.extraction import answer_place, extract_answer
from backend.errors import AnchorscopeError

__all__ = ["Judge", "JudgeError", "answer_place", "cluster_answers", "extract_answer", "grader", "judge"]

RULES = 2  # of extraction and equality together: raise it when either changes


@lru_cache(maxsize=1)
def grader() -> str:
    """Name and version of what judges: stored beside every verdict."""
    return (
        f"math-verify {importlib.metadata.version('math-verify')}, pint {importlib.metadata.version('pint')}, rules"
        f" {RULES}"
    )


def _work(pipe: Connection, memory_bytes: int, seconds: float) -> None:
    """Body of a worker: says that it is ready, then judges pairs until the pipe closes.

    A pair that takes too long ends it.
    """
    import logging
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which closes the pipe
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; the deadline still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    logging.disable(logging.CRITICAL)
    from backend.cot.equality import equal

    equal(r"\frac{1}{2} km", "500 m")  # what is imported and built at a first pair is not that pair's time
    pipe.send(None)
    while True:
        try:
            pair = pipe.recv()
        except EOFError:
            return
        # Processor time, so that a verdict does not depend on what else the machine does. SIGPROF's default action ends
        # the process.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        verdict = equal(*pair)  # should this raise, the process ends too; either way the pair is unknown to the parent
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(verdict)


class JudgeError(AnchorscopeError):
    """The judging processes cannot be started."""


class _Worker:
    """One judging process and the pair it is busy with."""

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, memory_bytes, seconds), daemon=True)
        self.process.start()
        theirs.close()
        self.pair: tuple[str, str] | None = None
        self.deadline = 0.0

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


class Judge:
    """A pool of processes that judge answers. Use as a context manager; a worker that runs past its time ends and is
    replaced.

    `judge(pairs)` gives, for each (answer, ground truth): True, False, or None where there is no answer, where neither
    side can be read, or where the comparison took more than `seconds` of processor time (or stood still for twenty
    times as long). Pairs seen before are answered from memory.
    """

    def __init__(self, n_workers: int = 1, *, seconds: float = 5.0, memory_bytes: int = 4 << 30) -> None:
        if n_workers < 1 or seconds <= 0:
            raise ValueError(
                f"a judge needs at least one worker and a positive time limit, got {n_workers} and {seconds}"
            )
        self.n_workers, self.seconds, self.memory_bytes = n_workers, seconds, memory_bytes
        self._workers: list[_Worker] = []
        self._known: dict[tuple[str | None, str | None], bool | None] = {}

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def judge(self, pairs: Sequence[tuple[str | None, str | None]]) -> list[bool | None]:
        for answer, truth in pairs:
            if answer is not None and truth is not None and answer.strip() and answer.strip() == truth.strip():
                self._known[answer, truth] = True
        asked = dict.fromkeys((a, t) for a, t in pairs if a is not None and t is not None and a.strip() and t.strip())
        self._run([pair for pair in asked if pair not in self._known])
        return [self._known.get((answer, truth)) for answer, truth in pairs]

    def _run(self, pairs: list[tuple[str, str]]) -> None:
        waiting = list(reversed(pairs))
        while len(self._workers) < min(self.n_workers, len(pairs)):
            self._workers.append(self._ready(_Worker(self.memory_bytes, self.seconds)))
        while waiting or any(worker.pair for worker in self._workers):
            for worker in list(self._workers):
                if worker.pair is None and waiting:
                    if not worker.process.is_alive():
                        worker = self._replace(worker)
                    worker.pair, worker.deadline = waiting.pop(), time.monotonic() + 20 * self.seconds
                    worker.pipe.send(worker.pair)
            busy = [(worker, worker.pair) for worker in self._workers if worker.pair]
            soonest = min(worker.deadline for worker, _ in busy)
            ready = wait([worker.pipe for worker, _ in busy], timeout=max(0.0, soonest - time.monotonic()))
            for worker, pair in busy:
                if worker.pipe in ready:
                    try:
                        self._known[pair] = worker.pipe.recv()
                        worker.pair = None
                    except (EOFError, ConnectionError):  # it crashed on this pair: unknown
                        self._known[pair] = None
                        self._replace(worker)
                elif time.monotonic() >= worker.deadline and not worker.pipe.poll():
                    self._known[pair] = None
                    self._replace(worker)

    def _replace(self, worker: _Worker) -> _Worker:
        worker.end()
        self._workers[self._workers.index(worker)] = replacement = self._ready(_Worker(self.memory_bytes, self.seconds))
        return replacement

    @staticmethod
    def _ready(worker: _Worker, seconds: float = 120.0) -> _Worker:
        """The worker, once it has imported what it needs: that time is not the pair's."""
        with contextlib.suppress(EOFError, ConnectionError):
            if worker.pipe.poll(seconds):
                worker.pipe.recv()
                return worker
        code = worker.process.exitcode
        worker.end()
        raise JudgeError(
            f"a judging process did not start (exit code {code}); expected it to import math-verify and pint within"
            f" {seconds:.0f} s. Check the installation with: python -c 'import math_verify, pint'. A script needs its"
            ' `if __name__ == "__main__":` guard.'
        )


def judge(
    pairs: Sequence[tuple[str | None, str | None]], *, n_workers: int = 1, seconds: float = 5.0
) -> list[bool | None]:
    """Verdicts for (answer, ground truth) pairs from a pool that lives for this call; see `Judge`, which is faster for
    many calls.
    """
    with Judge(n_workers, seconds=seconds) as pool:
        return pool.judge(pairs)


class Judging(Protocol):
    """Whatever judges pairs as `Judge` does."""

    def judge(self, pairs: Sequence[tuple[str | None, str | None]]) -> list[bool | None]: ...


def cluster_answers(answers: Iterable[str | None], pool: Judging) -> dict[str, str]:
    """Representative of every distinct answer (None and blank ones are left out).

    Greedy: answers are taken from the most frequent to the least (ties in alphabetical order, so the order of rollouts
    does not matter), and each joins the first representative it is judged equal to, or becomes one. An answer that
    cannot be judged stays alone.
    """
    counts = Counter(answer for answer in answers if answer is not None and answer.strip())
    representatives: list[str] = []
    cluster: dict[str, str] = {}
    for answer in sorted(counts, key=lambda a: (-counts[a], a)):
        verdicts = pool.judge([(answer, representative) for representative in representatives])
        joined = next((r for r, equal in zip(representatives, verdicts, strict=True) if equal), None)
        if joined is None:
            representatives.append(answer)
        cluster[answer] = joined or answer
    return cluster
