"""The one process that holds models: `python -m backend.live.worker FD THREADS`, started by the service, ended with it.

It takes requests from a pipe and advances the running ones step by step (a token, or one block of a curve): always the
one that has had the least of the worker's time so far, where time counts four times for what nobody reads as it comes.
So nobody waits for somebody else's long run, a stream goes on beside a big batch, and a cancelled request ends at its
next step.
"""

import signal
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from backend.errors import AnchorscopeError, words_of
from backend.live.requests import (
    Codes,
    CostOfVector,
    Influences,
    Lens,
    LensCell,
    LensLocal,
    LensMap,
    Model,
    Open,
    Resample,
    Stream,
    TextsUnderVector,
    Words,
)
from backend.models.names import short_name

_MODELS = 2  # held at a time: a base model and its distilled one
_PATIENT = 4.0  # weight of the time that curves, samples and doses take, beside streams
_AWAITED = (Codes, Lens, LensCell, LensLocal, LensMap, Open, Stream, Words)  # which somebody looks at as they come


def main(pipe: Connection, threads: int) -> None:
    """Body of the worker; returns when the service's end of the pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the dashboard, which closes the pipe
    desk = _Desk(pipe)
    pipe.send(("loading", None, "Starting the worker"))
    import torch

    torch.set_num_threads(threads)
    jobs: dict[Hashable, Job] = {}
    try:
        while True:
            while pipe.poll(None if not jobs else 0):
                take(pipe.recv(), jobs, desk)
            if jobs:
                advance(min(jobs, key=lambda name: jobs[name].spent), jobs, pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        for job in jobs.values():
            job.steps.close()
        desk.close()


@dataclass
class Job:
    """A request under way."""

    steps: Generator[tuple[str, Any], None, None]
    weight: float  # of the time it takes
    spent: float  # weighted seconds; a new one starts level with the one that had least


def take(message: tuple[Any, ...], jobs: dict[Hashable, Job], desk: "_Desk") -> None:
    """One message of the service: start a job, or cancel one."""
    word, *content = message
    if word == "start":
        name, model, request = content
        level = min((job.spent for job in jobs.values()), default=0.0)
        jobs[name] = Job(desk.job(name, model, request), 1.0 if isinstance(request, _AWAITED) else _PATIENT, level)
    elif word == "cancel":
        job = jobs.pop(content[0], None)
        if job is not None:
            job.steps.close()


def advance(name: Hashable, jobs: dict[Hashable, Job], pipe: Connection) -> None:
    """One step of one job."""
    job, began = jobs[name], time.monotonic()
    try:
        word, payload = next(job.steps)
        job.spent += job.weight * (time.monotonic() - began)
    except StopIteration:
        word, payload = "done", None
    except AnchorscopeError as error:
        word, payload = "failed", str(error)
    except (BrokenPipeError, ConnectionResetError):  # the service is gone
        raise
    except Exception as error:  # whatever one request meets, the others go on
        traceback.print_exc()
        word, payload = "failed", _in_words(error)
    if word in ("done", "failed"):
        del jobs[name]
    pipe.send((word, name, payload))


def _in_words(error: Exception) -> str:
    import torch

    # on a CPU torch has no class of its own for it
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
        return "There is not enough memory for this. Ask for fewer continuations or a shorter text."
    return (
        f"This could not be computed ({type(error).__name__}: {words_of(error, 300)}). What the worker printed says"
        " where."
    )


class _Desk:
    """The models and texts at hand, and the judge of answers."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._models: OrderedDict[Model, Any] = OrderedDict()
        self._encoders: dict[str, Any] = {}
        self._judge: Any = None

    def job(self, name: Hashable, model: Model, request: Any) -> Generator[tuple[str, Any], None, None]:
        from backend.live.audit import audit
        from backend.live.codes import codes
        from backend.live.influence import influence
        from backend.live.jobs import run
        from backend.live.lens_local import lens_local
        from backend.live.lens_map import under_lens
        from backend.live.resample import resample
        from backend.live.words import words

        if isinstance(request, Codes):
            yield from codes(
                [self.model(name, one).loaded for one in (model, request.beside) if one is not None], request
            )
        elif isinstance(request, (Lens, CostOfVector, TextsUnderVector)):
            yield from audit(self.model(name, model), request, self.judge)
        elif isinstance(request, (LensMap, LensCell)):
            yield from under_lens(self.model(name, model), request)
        elif isinstance(request, LensLocal):
            yield from lens_local(self.model(name, model), request)
        elif isinstance(request, Resample):
            yield from resample(self.model(name, model), request, self.judge, self.encoder(request.encoder).encode)
        elif isinstance(request, Influences):
            yield from influence(self.model(name, model), request)
        elif isinstance(request, Words):
            yield from words(self.model(name, model), request)
        else:
            yield from run(self.model(name, model), request, self.judge)

    def model(self, name: Hashable | None, model: Model) -> Any:
        """The loaded model with its texts; the one not asked for longest makes room."""
        from backend.live.jobs import Reader
        from backend.models.loading import load_model

        if model not in self._models:
            self.say("loading", name, f"Loading {model.called or short_name(model.name)}")
            while len(self._models) >= _MODELS:
                self._models.popitem(last=False)
            self._models[model] = Reader(
                load_model(model.name, revision=model.revision, dtype=model.dtype, device=model.device)
            )
        self._models.move_to_end(model)
        return self._models[model]

    def encoder(self, name: str) -> Any:
        """The sentence encoder, loaded once."""
        from backend.models.sentences import load_encoder

        if name not in self._encoders:
            self._encoders = {name: load_encoder(name)}
        return self._encoders[name]

    def judge(self) -> Any:
        from backend.cot.answers import Judge

        if self._judge is None:
            self._judge = Judge()
        return self._judge

    def say(self, word: str, name: Hashable | None, payload: Any) -> None:
        self._pipe.send((word, name, payload))

    def close(self) -> None:
        if self._judge is not None:
            self._judge.__exit__()


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
