"""Worker processes: results come as they are made, failures come with the worker's words,
and nothing is left running."""

import atexit
import os
import time
from pathlib import Path

import pytest

from backend.errors import AnchorscopeError
from precompute.engines.engine import ModelSpec
from precompute.engines.local import Local, WorkerFailed


def twice(loaded, task):
    yield (task, loaded.n_layers, os.getpid())
    yield (task, loaded.d_model, os.getpid())


def refuse(loaded, task):
    raise AnchorscopeError(f"task {task} cannot be done")
    yield


def die(loaded, task):
    os._exit(9)
    yield


def linger(loaded, task):
    yield os.getpid()
    time.sleep(60)


def last_words(loaded, task):
    """Two tasks, each in a worker of its own: the slow one gives the other the time to end."""
    atexit.register(Path(task, "said").touch)
    Path(task, "begun").touch()
    while len(list(Path(task).parent.glob("*/begun"))) < 2:
        time.sleep(0.01)
    if task.endswith("slow"):
        time.sleep(1)
    yield task


@pytest.fixture
def spec(tiny_folder):
    return ModelSpec(str(tiny_folder("llama")), None, "float32", "cpu")


def test_every_task_gives_its_results_whichever_worker_took_it(spec):
    results = list(Local(workers=2).run(twice, ["a", "b", "c"], model=spec))
    assert sorted(result[:2] for result in results) == [("a", 4), ("a", 64), ("b", 4), ("b", 64), ("c", 4), ("c", 64)]
    assert os.getpid() not in {result[2] for result in results}


def test_one_worker_stays_in_this_process(spec):
    assert {result[2] for result in Local(workers=1).run(twice, ["a", "b"], model=spec)} == {os.getpid()}


def test_a_worker_that_refuses_is_heard_in_its_own_words(spec):
    with pytest.raises(WorkerFailed, match=r"task [ab] cannot be done"):
        list(Local(workers=2).run(refuse, ["a", "b"], model=spec))


def test_a_worker_that_dies_is_noticed(spec):
    with pytest.raises(WorkerFailed, match="exit code 9"):
        list(Local(workers=2).run(die, ["a", "b"], model=spec))


def test_leaving_early_ends_the_workers(spec):
    results = Local(workers=2).run(linger, ["a", "b"], model=spec)
    worker = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_worker_that_is_done_says_nothing_more(tmp_path):
    tasks = [tmp_path / name for name in ("quick", "slow")]
    for task in tasks:
        task.mkdir()
    assert sorted(Local(workers=2).run(last_words, list(map(str, tasks)), model=None)) == list(map(str, tasks))
    assert not list(tmp_path.glob("*/said"))


def test_no_task_needs_no_worker():
    assert list(Local(workers=2).run(twice, [], model=ModelSpec("absent", None, "float32", "cpu"))) == []
