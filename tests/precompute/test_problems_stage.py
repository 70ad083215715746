"""What a study's problems are, and what is said of those that were left out."""

import contextlib
import io
import json

import pytest
from rich.console import Console

from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import _n_problems
from precompute.stages import problems
from precompute.study import Problems, Study


def study(**wanted) -> Study:
    return Study.model_validate({"name": "s", "models": [{"name": "m"}], "problems": wanted, "sweep": {"layers": [0]}})


@pytest.fixture
def file(tmp_path):
    records = [{"problem": f"Q{n}?", "answer": "1", "level": 1 + n % 5} for n in range(8)]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in [*records, {"problem": "No answer?"}]), encoding="utf-8")
    return path


def run(wanted: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(wanted, folder, stages=[problems], console=Console(file=said, width=300))
    return said.getvalue()


def test_what_is_left_out_is_said_and_kept_with_the_run(tmp_path, file):
    folder = StudyFolder(tmp_path / "stores" / "s")
    said = run(study(file=str(file), hardest=3), folder)
    note = f"{file}, line 9: no answer"
    assert f"warning: {note}" in said
    with contextlib.closing(Store(folder.path)) as store:
        assert next(iter(store.runs()["warnings"][0])).startswith(note)
        rows = store.frame("SELECT source, level, difficulty FROM problems ORDER BY difficulty DESC")
        parameters = json.loads(store.frame("SELECT parameters FROM runs")["parameters"][0])
    assert list(rows["source"]) == ["file"] * 3 and rows["level"].min() >= 3
    assert rows["difficulty"].is_monotonic_decreasing and parameters["problems"]["hardest"] == 3


def test_levels_then_limit_then_the_hardest(file):
    def levels(**wanted):
        return [problem.level for problem in problems.chosen(study(file=str(file), **wanted).problems, seed=0).problems]

    assert levels() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert levels(levels=[1, 2], limit=3) == [1, 2, 1]
    assert levels(limit=4, hardest=2) == [4, 3]
    assert _n_problems(study(file=str(file), limit=4, hardest=2)) == 2


def test_settings_that_came_later_leave_the_unit_as_it_was_until_they_are_used(file):
    def inputs(wanted):
        return problems.units(type("Context", (), {"study": wanted}))[0].inputs["problems"]

    plain = inputs(study(per_level=2))
    assert set(plain) == {"per_level", "levels", "gsm8k", "math", "limit"}  # those that the first version had
    assert inputs(study(per_level=2, strict=False)) == plain
    assert inputs(study(per_level=2, hardest=1))["hardest"] == 1
    assert set(problems._ADDED) | set(plain) == set(Problems.model_fields)


def test_many_notes_are_counted():
    assert problems.told(["a"] * 5) == ["a"] * 5
    assert problems.told(["a"] * 9)[-1] == "4 more records of that file were left out or not understood in part"


def test_the_digest_of_a_folder_knows_every_name_and_content(tmp_path):
    (tmp_path / "a.json").write_text("1")
    first = problems._sha256(tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    second = problems._sha256(tmp_path)
    (tmp_path / "b.json").write_text("2")
    assert len({first, second, problems._sha256(tmp_path)}) == 3
