"""The one process that holds models: `python -m backend.live.worker FD THREADS`, started by the service, ended with it.

It takes requests from a pipe and advances the running ones in turns, each by one step (a token, or one block of a curve), so that nobody
waits for somebody else's long run, and a cancelled one ends at its next step.
"""

import contextlib
import signal
import sys
from collections import OrderedDict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from backend.errors import AnchorscopeError
from backend.live.requests import Model

_MODELS = 2  # held at a time: a base model and its distilled one


def main(pipe: Connection, threads: int) -> None:
    """Body of the worker; returns when the service's end of the pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the dashboard, which closes the pipe
    desk = _Desk(pipe)
    pipe.send(("loading", None, "Starting the worker"))
    import torch

    torch.set_num_threads(threads)
    jobs: OrderedDict[str, Iterator[tuple[str, Any]]] = OrderedDict()
    try:
        while True:
            while pipe.poll(None if not jobs else 0):
                take(pipe.recv(), jobs, desk)
            for name in list(jobs):
                advance(name, jobs, pipe)
                if pipe.poll(0):
                    break
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        for job in jobs.values():
            job.close()
        desk.close()


def take(message: tuple, jobs: "OrderedDict[str, Iterator[tuple[str, Any]]]", desk: "_Desk") -> None:
    """One message of the service: start a job, cancel one, or have a model loaded."""
    kind, *content = message
    if kind == "start":
        name, model, request = content
        jobs[name] = desk.job(name, model, request)
    elif kind == "cancel":
        job = jobs.pop(content[0], None)
        if job is not None:
            job.close()
    elif kind == "warm":
        with contextlib.suppress(AnchorscopeError):  # whoever asks for something of this model is told
            desk.model(None, content[0])
        desk.say("idle", None, None)


def advance(name: str, jobs: "OrderedDict[str, Iterator[tuple[str, Any]]]", pipe: Connection) -> None:
    """One step of one job; it goes to the end of the turn."""
    import torch

    try:
        kind, payload = next(jobs[name])
        pipe.send((kind, name, payload))
        jobs.move_to_end(name)
    except StopIteration:
        del jobs[name]
        pipe.send(("done", name, None))
    except AnchorscopeError as error:
        del jobs[name]
        pipe.send(("failed", name, str(error)))
    except (torch.OutOfMemoryError, MemoryError):
        del jobs[name]
        pipe.send(("failed", name, "There is not enough memory for this. Ask for fewer continuations or a shorter text."))


class _Desk:
    """The models and texts at hand, and the judge of answers."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._models: OrderedDict[Model, Any] = OrderedDict()
        self._judge: Any = None

    def job(self, name: str, model: Model, request: Any) -> Iterator[tuple[str, Any]]:
        from backend.live.jobs import run

        yield from run(self.model(name, model), request, self.judge)

    def model(self, name: str | None, model: Model) -> Any:
        """The loaded model with its texts; the one not asked for longest makes room."""
        from backend.live.jobs import Reader
        from backend.models.loading import load_model

        if model not in self._models:
            self.say("loading", name, f"Loading {model.name}")
            loaded = load_model(model.name, revision=model.revision, dtype=model.dtype)
            while len(self._models) >= _MODELS:
                self._models.popitem(last=False)
            self._models[model] = Reader(loaded)
        self._models.move_to_end(model)
        return self._models[model]

    def judge(self) -> Any:
        from backend.cot.answers import Judge

        if self._judge is None:
            self._judge = Judge()
        return self._judge

    def say(self, kind: str, name: str | None, payload: Any) -> None:
        self._pipe.send((kind, name, payload))

    def close(self) -> None:
        if self._judge is not None:
            self._judge.__exit__()


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
