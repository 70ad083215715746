r"""What a response's answer is, and whether two answers are equal.

Extraction takes text as the model wrote it. Equality goes through math-verify, which reads LaTeX with sympy and so can run for ever on
`9^{9^{9^9}}`; its own alarm works only in a main thread. So it runs in worker processes that end at a deadline: see `Judge`.
Equality is not transitive (50\% equals 50 and 0.5): answers are clustered greedily, and the raw answer is stored beside its cluster.
"""

import contextlib
import importlib.metadata
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection, wait

from backend.cot.boxes import last_box, last_boxed
from backend.errors import AnchorscopeError

MAX_ANSWER_CHARS = 500  # longer "answers" are prose or loops; they are kept as written but not judged

_UNITLESS = r"(?!(?:pi|sin|cos|tan|log|ln|exp|sqrt|and|or|mod|choose|to|over)\b)"
_TRAILING_WORDS = re.compile(rf"^(.*[\d}}%)])\s+{_UNITLESS}[A-Za-z]{{2,}}(?:\s+{_UNITLESS}[A-Za-z]+)*\.?$")
_TEXT_COMMAND = re.compile(r"^\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}$")
_MIXED_NUMBER = re.compile(r"^(-?\d+)\s+(\d+)\s*/\s*(\d+)$")
_SPACED_THOUSANDS = re.compile(r"^-?\d{1,3}(?:[  ]\d{3})+$")
_DEFINED = re.compile(r"^[A-Za-z]\w*(?:\([^()=]*\))?\s*=(?:.*=)?\s*([^=]+)$")
_WORDS = re.compile(r"^[^\W\d_]{2,}(?:[ '\-][^\W\d_]+)*$")
_SAID = re.compile(r"\banswer(?:\s+is|\s*:)[\s:*]*(?:that\s+)?", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


@lru_cache(maxsize=1)
def grader() -> str:
    """Name and version of what judges: stored beside every verdict."""
    return f"math-verify {importlib.metadata.version('math-verify')}, rules 1"


def extract_answer(text: str) -> str | None:
    r"""The answer a response gives, as written; None where it gives none.

    In this order, the last of its kind: a \boxed{...}; a line `#### ANSWER` (GSM8K's form); "the answer is ..." or "Answer: ..." to the
    end of its sentence, when a digit or a LaTeX command is in it. A cut-off box is no answer.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    place = answer_place(text)
    return None if place is None else text[slice(*place)]


def answer_place(text: str) -> tuple[int, int] | None:
    """Where in the response that answer stands, as characters [start, end); of several boxes, from the first to the last."""
    boxed = last_box(text)
    if boxed is not None:
        return boxed.start, boxed.end
    for found in reversed(list(_HASHES.finditer(text))):
        if found[1].strip():
            return _trimmed(text, *found.span(1))
    for opening in reversed(list(_SAID.finditer(text))):
        line = text[opening.end() : opening.end() + 200].partition("\n")[0]
        end = _SENTENCE_END.search(line)
        said = (line[: end.start()] if end else line).strip().strip("*").strip()
        said = re.sub(r"^\\[(\[]\s*|\s*\\[)\]]$", "", said)
        if re.search(r"\d|\\[a-z]", said) and r"\boxed" not in said:
            start = text.index(said, opening.end())
            return start, start + len(said)
    return None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its ends."""
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


def _plain(answer: str) -> str:
    r"""The answer without what carries no value: dollar and euro signs, \text{}, units in words, `x =`, a final full stop."""
    text = answer.strip().removesuffix(".").strip()
    text = text.strip("$").strip()
    text = re.sub(r"^-?(?:\\\$|[$€£])\s*", lambda sign: "-" if sign[0].startswith("-") else "", text)
    if wrapped := _TEXT_COMMAND.match(text):
        text = wrapped[1].strip()
    if "," not in text and (defined := _DEFINED.match(text)):
        text = defined[1].strip()
    if united := _TRAILING_WORDS.match(text):
        text = united[1].strip()
    if _SPACED_THOUSANDS.match(text):
        text = re.sub(r"\s", "", text)
    if mixed := _MIXED_NUMBER.match(text):
        sign, whole = ("-", mixed[1][1:]) if mixed[1].startswith("-") else ("", mixed[1])
        text = rf"{sign}({whole} + \frac{{{mixed[2]}}}{{{mixed[3]}}})"
    return text


@lru_cache(maxsize=20_000)
def _parsed(text: str) -> tuple:
    from math_verify import parse

    return tuple(parse(f"${text}$", parsing_timeout=None))


def _equal(answer: str, truth: str) -> bool | None:
    """The one place where equality is decided; may run for ever, so only workers call it. None where neither side can be read."""
    from math_verify import verify

    if len(answer) > MAX_ANSWER_CHARS or len(truth) > MAX_ANSWER_CHARS:
        return None
    left, right = _plain(answer), _plain(truth)
    if left == right:
        return True
    if _WORDS.match(left) or _WORDS.match(right):  # "Tuesday" is a word, not the product of its letters
        return left.casefold() == right.casefold()
    if "," not in left + right and ("=" in left) != ("=" in right):
        return False  # an equation is not the number on its right; `x = 5` was taken for 5 above
    mathematics = [[part for part in _parsed(side) if not isinstance(part, str)] for side in (left, right)]
    if not any(mathematics):
        return None
    if not all(mathematics):
        return False
    return bool(verify(list(_parsed(right)), list(_parsed(left)), timeout_seconds=None))


def _work(pipe: Connection, memory_bytes: int, seconds: float) -> None:
    """Body of a worker: says that it is ready, then judges pairs until the pipe closes. A pair that takes too long ends it."""
    import logging
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which closes the pipe
    with contextlib.suppress(ValueError, OSError):  # macOS refuses; the deadline still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    logging.disable(logging.CRITICAL)  # math-verify warns at every call that its own timeout is off
    _equal("1/2", "0.5")  # what is imported at a first pair is not that pair's time
    pipe.send(None)
    while True:
        try:
            pair = pipe.recv()
        except EOFError:
            return
        # Processor time, so that a verdict does not depend on what else the machine does. SIGPROF's default action ends the process.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        verdict = _equal(*pair)  # should this raise, the process ends too; either way the pair is unknown to the parent
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
    """A pool of processes that judge answers. Use as a context manager; a worker that runs past its time ends and is replaced.

    `judge(pairs)` gives, for each (answer, ground truth): True, False, or None where there is no answer, where neither side can be read,
    or where the comparison took more than `seconds` of processor time (or stood still for twenty times as long). Pairs seen before are
    answered from memory.
    """

    def __init__(self, n_workers: int = 1, *, seconds: float = 5.0, memory_bytes: int = 4 << 30) -> None:
        if n_workers < 1 or seconds <= 0:
            raise ValueError(f"a judge needs at least one worker and a positive time limit, got {n_workers} and {seconds}")
        self.n_workers, self.seconds, self.memory_bytes = n_workers, seconds, memory_bytes
        self._workers: list[_Worker] = []
        self._known: dict[tuple[str, str], bool | None] = {}

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
            busy = {worker.pipe: worker for worker in self._workers if worker.pair}
            soonest = min(worker.deadline for worker in busy.values())
            for pipe in wait(list(busy), timeout=max(0.0, soonest - time.monotonic())):
                worker = busy.pop(pipe)
                try:
                    self._known[worker.pair] = pipe.recv()
                    worker.pair = None
                except (EOFError, ConnectionError):  # it crashed on this pair: unknown
                    self._known[worker.pair] = None
                    self._replace(worker)
            for worker in busy.values():
                if time.monotonic() >= worker.deadline and not worker.pipe.poll():
                    self._known[worker.pair] = None
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
            f"a judging process did not start (exit code {code}); expected it to import math-verify within {seconds:.0f} s. "
            "Check the installation with: python -c 'import math_verify'. A script needs its `if __name__ == \"__main__\":` guard."
        )


def judge(pairs: Sequence[tuple[str | None, str | None]], *, n_workers: int = 1, seconds: float = 5.0) -> list[bool | None]:
    """Verdicts for (answer, ground truth) pairs from a pool that lives for this call; see `Judge`, which is faster for many calls."""
    with Judge(n_workers, seconds=seconds) as pool:
        return pool.judge(pairs)


def cluster_answers(answers: Iterable[str | None], pool: Judge) -> dict[str, str]:
    """Representative of every distinct answer (None and blank ones are left out).

    Greedy: answers are taken from the most frequent to the least (ties in alphabetical order, so the order of rollouts does not matter),
    and each joins the first representative it is judged equal to, or becomes one. An answer that cannot be judged stays alone.
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
