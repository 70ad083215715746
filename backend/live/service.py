"""The service behind live steering: a line of requests, one worker process, and the watch that keeps it honest.

1. A request becomes a ticket at the end of one line. Up to `active` tickets run at a time; the worker advances them in
   turns, one token each. Everybody else is told their place in the line.
2. The worker is another process, started when first needed: no model is ever in a Streamlit script thread.
3. One thread here takes the worker's messages, and watches: a ticket past its deadline is stopped; a worker that says
   nothing for too long while it has work, or that holds more memory than allowed, is killed and started anew. Its
   running tickets fail with the reason; those still in the line lose nothing. Another thread sends: a worker that is
   busy or hangs may leave its pipe unread for long.
4. Cancelling is at once for whoever asked; the worker notices at its next token.
"""

import atexit
import contextlib
import itertools
import os
import queue
import subprocess
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any

import psutil

from backend.errors import AnchorscopeError, words_of
from backend.live.requests import Model, Request
from backend.root import INSTALLED, PYTHON, ROOT, WORKING, module

_KEPT = 200  # finished tickets that are remembered
_PENDING, _RUNNING, _FINISHED, _STOPPED, _FAILED = "waiting", "running", "finished", "stopped", "failed"


class LineFull(AnchorscopeError):
    """Too many requests wait already."""


@dataclass(frozen=True)
class Limits:
    """What one service may use, and how long things may take."""

    active: int = 4  # tickets advanced in turns
    waiting: int = 64  # tickets in the line
    seconds: float = 900.0  # for one ticket, from when it runs
    silence: float = 90.0  # without a word from a worker that has work: it hangs
    loading: float = 900.0  # the same while it loads a model
    memory_bytes: int | None = None  # resident memory of the worker; None: three quarters of the machine's
    threads: int | None = None  # of the worker's matrix products; None: all cores but one


@dataclass(frozen=True)
class Status:
    """A ticket at one moment."""

    ticket_id: str
    state: str  # waiting, running, finished, stopped, failed
    place: int | None  # 1 is next, while waiting
    result: dict[str, Any]
    progress: tuple[int, int] | tuple[int, int, str] | None  # done, of, and what is counted where it is not steps
    doing: str | None  # what takes so long, in words
    error: str | None
    seconds: float | None  # since it began to run, or that it ran

    @property
    def ended(self) -> bool:
        return self.state in (_FINISHED, _STOPPED, _FAILED)


@dataclass
class _Ticket:
    ticket_id: str
    model: Model
    request: Request
    on_end: Callable[[Status], None] | None
    attempt: int  # what a stopped or failed attempt still sends is not the next one's
    result: dict[str, Any] = field(default_factory=dict)
    state: str = _PENDING
    progress: tuple[int, int] | tuple[int, int, str] | None = None
    doing: str | None = None
    error: str | None = None
    began: float | None = None
    ended: float | None = None

    @property
    def name(self) -> tuple[str, int]:
        """What the worker calls it."""
        return self.ticket_id, self.attempt


class LiveService:
    """Requests in, results out. Thread-safe; one for a whole dashboard."""

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self._memory_limit = self.limits.memory_bytes or psutil.virtual_memory().total * 3 // 4
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._line: deque[str] = deque()
        self._running: list[str] = []
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._worker: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None
        self._outbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self._attempts = itertools.count()
        self._heard = 0.0
        self._is_loading = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self.restarts = 0
        atexit.register(self.close)

    # What people ask

    def submit(
        self, ticket_id: str, model: Model, request: Request, *, on_end: Callable[[Status], None] | None = None
    ) -> Status:
        """Puts a request at the end of the line. One that is known under this id and did not fail is not done again.

        `on_end` is called once, in the service's own thread, with the last status. Raises LineFull.
        """
        with self._lock:
            known = self._tickets.get(ticket_id)
            if known is not None and known.state in (_PENDING, _RUNNING, _FINISHED):
                return self._status(known)
            if len(self._line) >= self.limits.waiting:
                raise LineFull(f"{len(self._line)} requests are waiting already. Try again in a minute.")
            ticket = _Ticket(ticket_id, model, request, on_end, next(self._attempts))
            self._tickets[ticket_id] = ticket
            self._tickets.move_to_end(ticket_id)
            self._line.append(ticket_id)
            self._start()
            return self._status(ticket)

    def status(self, ticket_id: str) -> Status | None:
        """The ticket now, with what it has so far; None for one that is not known (any more)."""
        with self._lock:
            ticket = self._tickets.get(ticket_id)
            return None if ticket is None else self._status(ticket)

    def cancel(self, ticket_id: str) -> None:
        """Stops it, wherever it is. What it has so far is kept."""
        with self._lock:
            ticket = self._tickets.get(ticket_id)
            if ticket is None or ticket.state not in (_PENDING, _RUNNING):
                return
            was_running = ticket.state == _RUNNING
            self._end(ticket, _STOPPED)
            if was_running:
                self._tell(("cancel", ticket.name))
        self._call_back([ticket])

    def wait(self, ticket_id: str, seconds: float) -> Status | None:
        """The status once the ticket has ended, or after `seconds`."""
        until = time.monotonic() + seconds
        with self._lock:
            while (ticket := self._tickets.get(ticket_id)) is not None:
                status = self._status(ticket)
                if status.ended or time.monotonic() >= until:
                    return status
                self._news.wait(min(0.5, max(0.0, until - time.monotonic())))
        return None

    def load(self) -> dict[str, Any]:
        """How busy the service is: running, waiting, memory of the worker in bytes (None: no worker), restarts."""
        with self._lock:
            return {
                "running": len(self._running),
                "waiting": len(self._line),
                "memory_bytes": self._memory(),
                "restarts": self.restarts,
                "loading": self._is_loading,
            }

    def close(self) -> None:
        """Ends the worker."""
        with self._lock:
            self._closed = True
            self._kill()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        with contextlib.suppress(Exception):
            atexit.unregister(self.close)

    # The thread that moves messages and watches

    def _start(self) -> None:
        if self._closed:
            raise AnchorscopeError("Live steering was shut down; reload the page.")
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="live steering", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        looked = 0.0
        while not self._closed:
            pipe = self._pipe
            messages, is_gone = _received(pipe)
            with self._lock:
                if self._closed:
                    return
                ended = [ticket for message in messages if (ticket := self._take(message)) is not None]
                if is_gone and pipe is self._pipe and pipe is not None:
                    ended += self._restart("The worker ended unexpectedly" + self._last_words())
                if time.monotonic() - looked > 0.5:
                    looked = time.monotonic()
                    ended += self._watch()
                self._dispatch()
                if messages or ended:
                    self._news.notify_all()
            self._call_back(ended)

    def _take(self, message: tuple[Any, ...]) -> _Ticket | None:
        """Books one message of the worker; the ticket if it ended with it."""
        self._heard = time.monotonic()
        word, name, payload = message
        self._is_loading = word == "loading"
        ticket = self._tickets.get(name[0]) if name else None
        if ticket is None or ticket.state != _RUNNING or ticket.name != name:
            return None
        if word == "loading":
            ticket.doing = payload
        elif word == "part":
            ticket.doing = None
            merge(ticket.result, payload)
        elif word == "progress":
            ticket.doing, ticket.progress = None, payload
        elif word == "done":
            self._end(ticket, _FINISHED)
            return ticket
        elif word == "failed":
            ticket.error = payload
            self._end(ticket, _FAILED)
            return ticket
        return None

    def _watch(self) -> list[_Ticket]:
        now = time.monotonic()
        running = [self._tickets[name] for name in self._running]
        late = [one for one in running if one.began is not None and now - one.began > self.limits.seconds]
        for ticket in late:
            ticket.error = f"Stopped after {self.limits.seconds:.0f} s, the longest that one request may run."
            self._end(ticket, _STOPPED)
            self._tell(("cancel", ticket.name))
        silence = self.limits.loading if self._is_loading else self.limits.silence
        if self._running and self._worker is not None and now - self._heard > silence:
            return late + self._restart(f"The worker said nothing for {silence:.0f} s and was restarted")
        memory = self._memory()
        if memory is not None and memory > self._memory_limit:
            return late + self._restart(
                f"The worker needed {memory / 2**30:.1f} GiB of memory, more than the {self._memory_limit / 2**30:.1f}"
                " GiB allowed, and was restarted. Ask for fewer continuations or a shorter text"
            )
        return late

    def _dispatch(self) -> None:
        while self._line and len(self._running) < self.limits.active:
            ticket = self._tickets[self._line.popleft()]
            if self._worker is None:
                self._launch()
            ticket.state, ticket.began = _RUNNING, time.monotonic()
            self._running.append(ticket.ticket_id)
            if len(self._running) == 1:
                self._heard = time.monotonic()
            self._tell(("start", ticket.name, ticket.model, ticket.request))

    def _end(self, ticket: _Ticket, state: str) -> None:
        ticket.state, ticket.ended, ticket.doing = state, time.monotonic(), None
        if ticket.ticket_id in self._running:
            self._running.remove(ticket.ticket_id)
        with contextlib.suppress(ValueError):
            self._line.remove(ticket.ticket_id)
        done = [name for name, kept in self._tickets.items() if kept.state in (_FINISHED, _STOPPED, _FAILED)]
        for name in done[: max(0, len(done) - _KEPT)]:
            del self._tickets[name]
        self._news.notify_all()

    def _call_back(self, ended: list[_Ticket]) -> None:
        for ticket in ended:
            if ticket.on_end is not None:
                with self._lock:
                    status = self._status(ticket)
                try:
                    ticket.on_end(status)
                except Exception as error:  # whatever it is, the result is there, and others' requests must go on
                    if not isinstance(error, AnchorscopeError):
                        traceback.print_exc()
                    with self._lock:
                        ours = isinstance(error, AnchorscopeError)
                        ticket.error = (
                            str(error)
                            if ours
                            else f"The run could not be kept: {type(error).__name__}: {words_of(error)}"
                        )

    # The worker process

    def _launch(self) -> None:
        here, there = Pipe()
        threads = self.limits.threads or max(1, (os.cpu_count() or 2) - 1)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([*[str(ROOT)] * (not INSTALLED), *_paths()]),
        }
        self._worker = subprocess.Popen(
            [*PYTHON, "-m", module("backend.live.worker"), str(there.fileno()), str(threads)],
            pass_fds=[there.fileno()],
            cwd=WORKING,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        there.close()
        self._pipe, self._outbox, self._heard = here, queue.SimpleQueue(), time.monotonic()
        self._is_loading = True  # a process that starts is as silent as one that loads a model
        self._sender = threading.Thread(
            target=_send, args=(here, self._outbox), name="live steering, sending", daemon=True
        )
        self._sender.start()

    def _tell(self, message: tuple[Any, ...]) -> None:
        self._outbox.put(message)

    def _restart(self, why: str) -> list[_Ticket]:
        """Kills the worker; it starts anew when there is something to do. The tickets that failed with it."""
        self._kill()
        self.restarts += 1
        failed = [self._tickets[name] for name in self._running]
        for ticket in failed:
            ticket.error = f"{why}. What it had so far is kept; press again to have it done."
            self._end(ticket, _FAILED)
        return failed

    def _kill(self) -> None:
        if self._worker is not None and self._sender is not None:
            self._outbox.put(None)
            self._worker.kill()
            self._worker.wait()
            self._sender.join(timeout=5)  # what it was sending fails now that nobody can read it
            self._pipe.close()
        self._worker = self._pipe = None
        self._is_loading = False

    def _memory(self) -> int | None:
        if self._worker is None:
            return None
        try:
            return psutil.Process(self._worker.pid).memory_info().rss
        except psutil.Error:
            return None

    def _last_words(self) -> str:
        code = self._worker.poll() if self._worker is not None else None
        return "" if code is None else f" (exit status {code})"

    def _status(self, ticket: _Ticket) -> Status:
        place = self._line.index(ticket.ticket_id) + 1 if ticket.state == _PENDING else None
        seconds = None if ticket.began is None else (ticket.ended or time.monotonic()) - ticket.began
        return Status(
            ticket.ticket_id,
            ticket.state,
            place,
            _copied(ticket.result),
            ticket.progress,
            ticket.doing,
            ticket.error,
            seconds,
        )


def merge(result: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds a part to a result in place: dicts are entered, lists grow at their end, anything else is replaced."""
    for name, value in part.items():
        if isinstance(value, Mapping):
            merge(result.setdefault(name, {}), value)
        elif isinstance(value, list):
            result.setdefault(name, []).extend(value)
        else:
            result[name] = value


def _copied(value: Any) -> Any:
    """A copy whose dicts and lists are new; what they hold is never changed in place."""
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, list) else value


def _send(pipe: Any, outbox: "queue.SimpleQueue[tuple[Any, ...] | None]") -> None:
    """Body of the sending thread of one worker; None ends it. A worker that is gone is noticed by whoever receives."""
    with contextlib.suppress(OSError):
        while (message := outbox.get()) is not None:
            pipe.send(message)


def _received(pipe: Any) -> tuple[list[tuple[Any, ...]], bool]:
    """Messages that are there now, after a short wait for the first, and whether the other end is gone."""
    if pipe is None:
        time.sleep(0.02)
        return [], False
    messages: list[tuple[Any, ...]] = []
    try:
        while pipe.poll(0.02 if not messages else 0) and len(messages) < 256:
            messages.append(pipe.recv())
    except (EOFError, OSError):
        return messages, True
    return messages, False


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
