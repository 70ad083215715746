"""Units on this machine: worker processes that load the model once and take tasks from a queue.

Each worker is one process with its own threads, because small matrix products gain nothing from a second thread and
lose much when another process holds the core. A worker ends when its parent does, however the parent ends. It is no
daemon, because it may start processes of its own (answers are judged in one that can be cut off).
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from backend import faults
from backend.errors import AnchorscopeError
from precompute.engines.engine import Made, ModelSpec, Task, Work

# What every worker would import for seconds before its first task: the stages, and what transformers imports when it
# first loads a model.
IMPORTED = (
    "torch",
    "precompute.stages",
    "backend.models.loading",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)


class WorkerFailed(AnchorscopeError):
    """A worker process raised or died."""


@dataclass(frozen=True)
class Local:
    """`workers` processes with `threads` threads each; with one worker (or one task) it is this process."""

    workers: int = 1
    threads: int = 1

    def run(self, work: Work, tasks: Sequence[Task], *, model: ModelSpec | None) -> Iterator[Made]:
        """Raises WorkerFailed in the worker's own words; leaving the loop early, or an interrupt, ends the workers."""
        if min(self.workers, len(tasks)) == 1:
            yield from _in_this_process(work, tasks, model, self.threads)
        elif tasks:
            yield from _in_workers(work, tasks, model, min(self.workers, len(tasks)), self.threads)


def _in_workers(
    work: Work, tasks: Sequence[Task], model: ModelSpec | None, workers: int, threads: int
) -> Iterator[Made]:
    context = _starting()
    todo, results = context.Queue(), context.Queue(maxsize=256)
    for task in tasks:
        todo.put(task)
    crew = [context.Process(target=_worker, args=(work, todo, results, model, threads)) for _ in range(workers)]
    for _ in crew:
        todo.put(None)
    try:
        for process in crew:
            process.start()
        yield from _collect(crew, results)
    finally:
        for process in crew:
            process.terminate()
        for process in crew:
            process.join()
        for channel in (todo, results):
            channel.cancel_join_thread()
            channel.close()


def _starting() -> Any:
    """How workers start: on Linux as copies of a process that has imported what each of them needs and run nothing,
    elsewhere, where system libraries do not bear that, anew.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _in_this_process(work: Work, tasks: Sequence[Task], model: ModelSpec | None, threads: int) -> Iterator[Made]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        loaded = _loaded(model)
        for task in tasks:
            yield from work(loaded, task)
    finally:
        torch.set_num_threads(before)


def _collect(crew: Sequence[Any], results: Any) -> Iterator[Made]:
    open_workers = len(crew)
    while open_workers:
        try:
            word, value = results.get(timeout=1.0)
        except queue.Empty:
            dead = [process for process in crew if process.exitcode not in (None, 0)]
            if dead:
                raise WorkerFailed(
                    f"A worker process {faults.ended(dead[0].exitcode)}. What was finished is kept; the same command"
                    " goes on. Lower engine.workers or engine.rows if it happens again."
                ) from None
            continue
        if word == "result":
            yield value
        elif word == "end":
            open_workers -= 1
        else:
            raise WorkerFailed(value)


def _loaded(model: ModelSpec | None) -> Any:
    from backend.models.loading import load_model

    return (
        None
        if model is None
        else load_model(model.name, revision=model.revision, dtype=model.dtype, device=model.device)
    )


def _worker(work: Work, todo: Any, results: Any, model: ModelSpec | None, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    try:
        loaded = _loaded(model)
        while (task := todo.get()) is not None:
            for value in work(loaded, task):
                results.put(("result", value))
        results.put(("end", None))
    except AnchorscopeError as error:
        results.put(("failed", str(error)))
    except Exception as error:  # everything a worker can meet must reach the person through the parent
        words = faults.in_words(error)
        results.put(
            ("failed", words or f"A worker process failed, which is a fault of ours:\n{traceback.format_exc()}")
        )
    results.close()
    results.join_thread()  # all that was said has left
    os._exit(0)  # an interpreter that is taken down lets DuckDB print a page of what it still holds


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
