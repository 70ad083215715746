"""A shipped record of a training becomes rows of the study whose model it is of: whole, once,
and anew when it changes."""

import contextlib
import io
import json
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from backend.errors import AnchorscopeError
from backend.models import embedded
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import models
from precompute.pipeline import run_study
from precompute.stages import training
from precompute.study import Study

RECORD = {
    "kind": "lora",
    "base": "embedded:SmolLM2-135M-Instruct",
    "base_revision": "b" * 64,
    "seed": 20_000,
    "recipe": {"rank": 16},
    "n_examples": 40,
    "n_r1": 2,
    "n_weights": 1234,
    "started_at": "2026-01-02T04:04:05+01:00",
    "seconds": 61.5,
    "versions": {"torch": "2.13.0"},
    "commit": None,
    "steps": [[1, 100, 2.5, 0.001], [2, 230, None, 0.0005], [3, 300, 0.75, 1e-4]],
}


@pytest.fixture
def record(tiny_folder, tmp_path, monkeypatch) -> Path:
    """The file of the record of the tiny model, and of no other."""
    file = tmp_path / "training.json"
    file.write_text(json.dumps(RECORD))
    monkeypatch.setattr(training, "record_of", lambda name: file if name == str(tiny_folder("llama")) else None)
    return file


@pytest.fixture
def study(tiny_folder) -> Study:
    names = ({"name": str(tiny_folder("llama"))}, {"name": str(tiny_folder("gpt2"))})
    return Study.model_validate(
        {"name": "trained", "models": names, "problems": {"per_level": 1}, "sweep": {"layers": [1]}}
    )


@pytest.fixture
def run(study, tmp_path):
    """`run()` computes the stage alone and returns the rows of both tables."""

    def once() -> tuple[list[dict], list[dict]]:
        folder = StudyFolder(tmp_path / "study")
        run_study(study, folder, stages=(training,), console=Console(file=io.StringIO()))
        with contextlib.closing(Store(folder.path)) as store:
            return store.whole_table("training_runs").to_pylist(), store.whole_table("training_metrics").to_pylist()

    return once


def test_the_record_becomes_the_run_of_the_model_it_is_of(record, study, run):
    (row,), _ = run()
    assert row["model_id"] == models.model_id(study.models[0])
    assert (row["kind"], row["base"], row["seconds"], row["seed"]) == ("lora", RECORD["base"], 61.5, 20_000)
    assert row["started_at"] == datetime(2026, 1, 2, 3, 4, 5)  # UTC
    assert (row["n_tokens"], row["n_weights"], row["commit"]) == (300, 1234, None)
    assert json.loads(row["parameters"]) == {
        name: RECORD[name] for name in ("base_revision", "recipe", "n_examples", "n_r1")
    }
    assert json.loads(row["versions"]) == RECORD["versions"]


def test_every_step_has_a_row_a_metric_and_what_is_unknown_is_null(record, run):
    _, rows = run()
    found = {
        metric: [(row["step"], row["tokens"], row["value"]) for row in rows if row["metric"] == metric]
        for metric in ("loss", "learning_rate")
    }
    assert found["loss"] == [(1, 100, 2.5), (2, 230, None), (3, 300, 0.75)]
    assert found["learning_rate"] == [(1, 100, 0.001), (2, 230, 0.0005), (3, 300, 0.0001)]
    assert len(rows) == 6


def test_another_record_takes_the_place_of_the_one_before(record, run):
    before = run()
    assert run() == before
    record.write_text(json.dumps(RECORD | {"seconds": None, "started_at": None, "steps": RECORD["steps"][:1]}))
    (row,), metrics = run()
    assert row["training_id"] != before[0][0]["training_id"] and row["seconds"] is row["started_at"] is None
    assert [metric["training_id"] for metric in metrics] == [row["training_id"]] * 2


def test_a_model_without_a_record_has_nothing_to_take_in(run):
    assert run() == ([], [])


def test_the_embedded_reasoner_has_the_shipped_record(tmp_path, monkeypatch):
    monkeypatch.setitem(embedded.REASONERS, embedded.REASONER_NAME, tmp_path)
    name = f"embedded:{embedded.REASONER_NAME}"
    assert training.record_of(name) is None
    (tmp_path / "training.json").write_text("{}")
    assert training.record_of(name) == tmp_path / "training.json"
    assert training.record_of(f"embedded:{embedded.MODEL_NAME}") is training.record_of("some/other") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "full"}, "kind = 'full': Input should be 'lora'"),
        ({"n_weights": "many"}, "n_weights = 'many': Input should be a valid integer"),
        ({"seed": None}, "seed = None: Input should be a valid integer"),
        ({"steps": []}, "steps = .*at least 1 item"),
        ({"steps": [[1, 10, 2.0]]}, r"steps.0.3: Field required"),
        ({"steps": [[1, 10, "low", 0.1]]}, r"steps.0.2 = 'low': Input should be a valid number"),
        ({"steps": [[1, 10, float("nan"), 0.1]]}, r"steps.0.2 = nan: Input should be a finite number"),
        (
            {"steps": [[1, 10, 2.0, 0.1], [1, 20, 2.0, 0.1]]},
            r"steps: .*must rise, but \[1, 10\] is followed by \[1, 20\]",
        ),
        ({"steps": [[1, 10, 2.0, 0.1], [2, 5, 2.0, 0.1]]}, r"must rise, but \[1, 10\] is followed by \[2, 5\]"),
    ],
)
def test_a_malformed_record_is_refused_with_file_key_and_what_is_expected(record, run, change, words):
    record.write_text(json.dumps(RECORD | change))
    with pytest.raises(AnchorscopeError, match=words) as refused:
        run()
    assert str(record) in str(refused.value)


def test_what_is_no_json_is_refused(record, run):
    record.write_text('{"kind": "lora"')
    with pytest.raises(
        AnchorscopeError, match=r"training.json is not the record of a training: the file: Invalid JSON"
    ):
        run()
