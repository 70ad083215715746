"""kill -9 at any instant: finished units stay, nothing is half-written, and the study ends the same as one left in
peace.

The real pipeline, ledger and publisher run in processes that are killed; the stages are two cheap deterministic ones,
so that fifty kills take seconds.
"""

import multiprocessing
import os
import random
import time
from pathlib import Path

from rich.console import Console

from backend.ids import seed_for
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import pipeline
from precompute.study import Study
from precompute.units import Context, Finished, Unit

KILLS = 50
N_UNITS = 60
STUDY = Study.model_validate(
    {"name": "killed", "models": [{"name": "none"}], "problems": {"per_level": 1}, "sweep": {"layers": [0]}}
)


class Ask:
    """One problem a unit; each takes about five milliseconds."""

    NAME, UNIT = "problems", "problem"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit(f"p{number:03d}", {}) for number in range(N_UNITS)]

    @staticmethod
    def compute(context, units):
        for unit in units:
            time.sleep(0.005)
            row = {
                "problem_id": unit.unit_id,
                "source": "test",
                "source_key": unit.unit_id,
                "level": 1,
                "difficulty": 1.0,
                "question": "?",
                "answer": str(seed_for(unit.unit_id)),
                "solution": None,
            }
            yield Finished(unit, {"problems": [row]})


class Count:
    """Reads what the stage before it published."""

    NAME, UNIT = "counts", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {"problems": [problem["answer"] for problem in context.store.study_problems()]})]

    @staticmethod
    def compute(context, units):
        n = len(context.store.study_problems())
        row = {
            "problem_id": "all",
            "model_id": "m",
            "prompt_name": "boxed",
            "n": n,
            "n_correct": n,
            "accuracy": 1.0,
            "ci_low": 0.0,
            "ci_high": 1.0,
            "candidate": False,
        }
        yield Finished(units[0], {"problem_accuracy": [row]})


def run(path: str) -> None:
    pipeline.PUBLISH_EVERY = 0.05
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        pipeline.run_study(STUDY, StudyFolder(path), stages=(Ask, Count), console=Console(file=nowhere))


def rows(path: Path) -> list:
    store = Store(path)
    tables = [
        store.frame(f"SELECT * FROM {table} ORDER BY ALL").to_dict("records")
        for table in ("problems", "problem_accuracy")
    ]
    store.close()
    return tables


def test_fifty_kills_lose_no_finished_unit_and_leave_the_same_rows(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.precompute.test_kills"])

    def start(folder: StudyFolder) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=run, args=(str(folder.path),))
        process.start()
        return process

    def finish(folder: StudyFolder) -> list:
        process = start(folder)
        process.join()
        assert process.exitcode == 0
        return rows(folder.path)

    expected = finish(StudyFolder(tmp_path / "undisturbed"))
    assert len(expected[0]) == N_UNITS and expected[1][0]["n"] == N_UNITS
    rng = random.Random(5)
    kills, folder, finished = 0, StudyFolder(tmp_path / "killed-0"), set()
    while kills < KILLS:
        process = start(folder)
        process.join(rng.uniform(0, 0.25))
        if process.exitcode is not None:  # it was done before the kill: begin another study
            assert process.exitcode == 0 and rows(folder.path) == expected
            folder, finished = StudyFolder(tmp_path / f"killed-{kills}"), set()
            continue
        process.kill()
        process.join()
        kills += 1
        now = folder.ledger().keys("problems")
        assert finished <= now
        finished = now
        if folder.pointer.exists():
            store = Store(folder.path)
            published = set(store.frame("SELECT problem_id FROM problems")["problem_id"])
            store.close()
            assert published <= {key.split("@")[0] for key in finished}
    assert finish(folder) == expected
