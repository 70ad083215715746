"""Live runs: kept at once, whoever holds the study, whole or not at all, and never lost."""

import multiprocessing
import os
import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backend.errors import AnchorscopeError
from backend.schema.tables import TABLES
from backend.store import experiments as ledger
from backend.store.beside import ledger_of
from backend.store.experiments import Experiments, NotKept
from backend.store.publish import is_published, publish
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder, Writer
from precompute.export import export_duckdb
from tests import small_study
from tests.backend.store.test_unit_files import add

PROCESSES, RUNS = 4, 3


def row(name: str, **values) -> dict:
    """A run of which only what is given, and what every run has, is known."""
    known = {
        "experiment_id": name,
        "kind": "stream",
        "created_at": datetime(2026, 1, 2),
        "results": "{}",
        "seed": 2**62 + 1,
    }
    return dict.fromkeys(TABLES["experiments"].columns) | known | values


def sample(name: str, arm: str = "base", number: int = 0, **values) -> dict:
    known = {
        "experiment_id": name,
        "arm": arm,
        "beta": 0.0,
        "sample": number,
        "seed": 2**62 + 1,
        "text": "So 54.",
        "n_tokens": 3,
    }
    return dict.fromkeys(TABLES["experiment_samples"].columns) | known | values


@pytest.fixture
def study(tmp_path) -> Path:
    """A study with one unit, published."""
    folder = StudyFolder(tmp_path / "study")
    add(folder, "a")
    republish(folder.path)
    return folder.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("exported")
    whole = small_study.make(place / "small", steering=False)
    Experiments(whole).keep(row("old"), [sample("old")])
    Experiments(whole).keep(row("older", created_at=datetime(2025, 1, 2), cot_id="c"))
    export_duckdb(whole, place / "small.duckdb")
    return place / "small.duckdb"


@pytest.fixture
def portable(exported, tmp_path) -> Path:
    """A file that holds the runs "old" and "older"."""
    return Path(shutil.copyfile(exported, tmp_path / "small.duckdb"))


def republish(study: Path) -> list:
    with StudyFolder(study).writing("publish") as writer:
        return publish(writer)


def names(study: Path) -> list[str]:
    return Experiments(study).history()["experiment_id"].tolist()


def published(study: Path) -> list[str]:
    return Store(study).whole_table("experiments")["experiment_id"].to_pylist()


def damage(study: Path, name: str, table: str) -> None:
    folder = ledger_of(study)
    file = next(file for file in folder.ledger().live["experiments", name].files if file.table == table)
    (folder.path / file.name).write_bytes(b"damaged")


def in_another_process(target, *arguments) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


# Kept and read again


def test_what_is_kept_is_read_back_equal(study):
    vector = np.random.default_rng(1).standard_normal(16).astype(np.float32)
    run = row("e", beta=-0.1, layers=[3, 4], vector=vector, text="naïve\n\x00 $x$ 🙂", cot_id="c", state="stopped")
    samples = [
        sample("e", arm, k, answer="54", is_correct=k > 0, repetition=0.25)
        for arm in ("base", "changed")
        for k in range(2)
    ]
    spent = {"n_thinking": 2, "n_answer": None, "thought": "untagged"}
    thoughts = [{name: row[name] for name in ("experiment_id", "arm", "beta", "sample")} | spent for row in samples[1:]]
    Experiments(study).keep(run, samples, thoughts)
    found = Experiments(study).get("e")
    assert found["vector"].dtype == np.float32 and (found.pop("vector") == run.pop("vector")).all()
    assert found == run
    frame = Experiments(study).samples("e")
    assert frame["seed"].tolist() == [2**62 + 1] * 4
    unknown = dict.fromkeys(spent)  # of the one whose thinking tokens were not counted
    expected = [row | (spent if number else unknown) for number, row in enumerate(samples)]
    assert frame.astype(object).where(frame.notna(), None).to_dict("records") == expected


def test_thoughts_are_found_by_the_sample_also_where_there_is_no_beta(study):
    samples = [sample("e", "changed", k, beta=None) for k in range(3)]
    thoughts = [
        {"experiment_id": "e", "arm": "changed", "beta": None, "sample": k, "n_thinking": 10 + k, "thought": "open"}
        | {"n_answer": 0}
        for k in (2, 0, 1)
    ]
    Experiments(study).keep(row("e"), samples, thoughts)
    republish(study)
    assert Experiments(study).samples("e")["n_thinking"].tolist() == [10, 11, 12]
    assert Store(study).whole_table("experiment_thoughts")["n_thinking"].to_pylist() == [10, 11, 12]


def test_unknown_stays_unknown(study):
    Experiments(study).keep(row("e", seconds=float("nan"), seed=None), [sample("e", beta=None, n_tokens=None)])
    found = Experiments(study).get("e")
    assert {name for name, value in found.items() if value is None} >= {
        "seconds",
        "seed",
        "vector",
        "beta",
        "layers",
        "cot_id",
        "commit",
    }
    assert Experiments(study).samples("e")[["beta", "answer", "is_correct", "n_tokens"]].isna().all(axis=None)
    strip = Experiments(study).history()
    assert strip[["beta", "layers", "seconds", "seed", "cot_id"]].isna().all(axis=None)
    republish(study)
    assert (
        Store(study).frame("SELECT count(seconds) + count(seed) + count(vector) AS n FROM experiments")["n"].item() == 0
    )


def test_what_nobody_kept_is_none(study):
    assert Experiments(study).get("e") is None
    assert Experiments(study).samples("e").empty and Experiments(study).history().empty
    assert pd.api.types.is_datetime64_dtype(Experiments(study).history()["created_at"])
    assert not ledger_of(study).path.exists()


def test_history_is_newest_first_of_one_cot_or_all_and_without_the_heavy_columns(study):
    kept = Experiments(study)
    for day, cot in ((2, "c"), (4, None), (3, "c")):
        kept.keep(row(f"e{day}", created_at=datetime(2026, 1, day), cot_id=cot))
    assert names(study) == ["e4", "e3", "e2"]
    assert kept.history(cot_id="c")["experiment_id"].tolist() == ["e3", "e2"]
    assert kept.history(limit=1)["experiment_id"].tolist() == ["e4"]
    assert not {"text", "results", "vector", "prompt"} & set(kept.history().columns)


def test_history_reads_each_run_once(study, monkeypatch):
    with ledger_of(study).writing("test") as writer:
        for number in range(40):
            writer.add("experiments", f"e{number}", {"experiments": [row(f"e{number}")]})
    assert len(Experiments(study).history(limit=500)) == 40
    monkeypatch.setattr(ledger, "unit_of", None)
    assert len(Experiments(study).history(limit=500)) == 40


def test_kept_again_the_newest_counts_and_there_is_one_row(study):
    Experiments(study).keep(row("e", state="stopped"), [sample("e"), sample("e", number=1)])
    Experiments(study).keep(row("e", state="finished"), [sample("e", text="other")])
    assert names(study) == ["e"] and Experiments(study).get("e")["state"] == "finished"
    assert Experiments(study).samples("e")["text"].tolist() == ["other"]
    republish(study)
    assert Store(study).frame("SELECT state FROM experiments")["state"].tolist() == ["finished"]
    assert Store(study).frame("SELECT text FROM experiment_samples")["text"].tolist() == ["other"]


def test_a_deleted_run_is_gone_until_it_is_kept_again(study):
    Experiments(study).keep(row("e"), [sample("e")])
    republish(study)
    Experiments(study).delete("e")
    assert Experiments(study).get("e") is None and Experiments(study).samples("e").empty and names(study) == []
    assert not is_published(StudyFolder(study))
    republish(study)
    assert published(study) == []
    Experiments(study).keep(row("e"))
    assert names(study) == ["e"]


def test_deleting_what_is_not_there_writes_nothing(study):
    Experiments(study).delete("e")
    assert not ledger_of(study).path.exists()


def test_rows_that_do_not_fit_are_refused_and_nothing_is_kept(study):
    kept = Experiments(study)
    with pytest.raises(AnchorscopeError, match=r"unknown columns \['colour'\]"):
        kept.keep(row("e") | {"colour": "red"})
    with pytest.raises(ValueError, match=r"samples of \['other'\]"):
        kept.keep(row("e"), [sample("other")])
    with pytest.raises(ValueError, match="two samples of the same arm"):
        kept.keep(row("e"), [sample("e"), sample("e")])
    assert names(study) == [] and not ledger_of(study).path.exists()


# Several at once, and cut short


def keep_many(study: str, process: int) -> None:
    for number in range(RUNS):
        Experiments(study).keep(row(f"e{process}.{number}"), [sample(f"e{process}.{number}")])


def test_runs_kept_by_four_processes_at_once_all_survive(study):
    processes = [in_another_process(keep_many, str(study), process) for process in range(PROCESSES)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    expected = {f"e{process}.{number}" for process in range(PROCESSES) for number in range(RUNS)}
    assert set(names(study)) == expected
    assert all(len(Experiments(study).samples(name)) == 1 for name in expected)


def hold(folder: str, manifest: str, seconds: float) -> None:
    with StudyFolder(folder, manifest=manifest).writing("run of hours"):
        Path(folder, "held").touch()
        time.sleep(seconds)


def held(folder: StudyFolder, seconds: float) -> multiprocessing.process.BaseProcess:
    process = in_another_process(hold, str(folder.path), folder.manifest.name, seconds)
    while not (folder.path / "held").exists():
        time.sleep(0.01)
    return process


def test_a_run_is_kept_while_another_process_holds_the_study(study):
    process = held(StudyFolder(study), 60)
    assert StudyFolder(study).holder()["command"] == "run of hours"
    Experiments(study).keep(row("e"))
    assert names(study) == ["e"] and process.is_alive()
    process.kill()
    process.join()


def test_keeping_waits_for_another_that_is_being_kept(study):
    process = held(ledger_of(study), 0.5)
    Experiments(study).keep(row("e"))
    assert names(study) == ["e"]
    process.join()


def test_keeping_gives_up_with_words_when_the_ledger_stays_held(study, monkeypatch):
    monkeypatch.setattr(ledger, "PATIENCE", 0.1)
    process = held(ledger_of(study), 60)
    with pytest.raises(NotKept, match="another process has held"):
        Experiments(study).keep(row("e"))
    process.kill()
    process.join()
    Experiments(study).keep(row("e"))
    assert names(study) == ["e"]


def killed_before_the_line(study: str, state: str) -> None:
    Writer._append = lambda self, record: os.kill(os.getpid(), 9)
    Experiments(study).keep(row("e", state=state), [sample("e", text="new")])


def test_a_kill_between_files_and_line_leaves_no_half_experiment(study):
    process = in_another_process(killed_before_the_line, str(study), "finished")
    process.join()
    assert process.exitcode == -9
    assert names(study) == [] and Experiments(study).get("e") is None
    republish(study)
    assert published(study) == []


def test_a_kill_while_a_run_is_replaced_leaves_the_one_before_whole(study):
    Experiments(study).keep(row("e", state="stopped"), [sample("e", text="old")])
    in_another_process(killed_before_the_line, str(study), "finished").join()
    assert Experiments(study).get("e")["state"] == "stopped"
    assert Experiments(study).samples("e")["text"].tolist() == ["old"]
    assert republish(study) == [] and published(study) == ["e"]
    Experiments(study).keep(row("e", state="finished"))
    assert Experiments(study).get("e")["state"] == "finished"


def test_a_line_cut_by_a_crash_is_dropped_and_the_next_run_is_kept(study):
    for name in ("e0", "e1"):
        Experiments(study).keep(row(name))
    manifest = ledger_of(study).manifest
    manifest.write_bytes(manifest.read_bytes()[:-10])
    assert names(study) == ["e0"]
    Experiments(study).keep(row("e2"))
    assert names(study) == ["e0", "e2"]


# Damage and places that cannot be written


@pytest.mark.parametrize("table", ["experiments", "experiment_samples"])
def test_a_damaged_run_is_left_out_whole_reported_and_can_be_made_again(study, table):
    for name in ("e0", "e1"):
        Experiments(study).keep(row(name), [sample(name)])
    damage(study, "e0", table)
    assert names(study) == ["e1"]
    assert Experiments(study).get("e0") is None and Experiments(study).samples("e0").empty
    assert [line.key for line in republish(study)] == ["e0"]
    assert published(study) == ["e1"]
    assert Store(study).whole_table("experiment_samples")["experiment_id"].to_pylist() == ["e1"]
    assert republish(study) == [] and is_published(StudyFolder(study))
    Experiments(study).keep(row("e0"))
    assert names(study) == ["e0", "e1"]


def test_a_run_kept_anew_while_its_damage_is_recorded_is_not_lost(study):
    Experiments(study).keep(row("e"))
    damage(study, "e", "experiments")
    damaged = Experiments(study).everything().damaged
    Experiments(study).keep(row("e", state="finished"))
    Experiments(study).forget(damaged)
    assert Experiments(study).get("e")["state"] == "finished"


def test_a_place_that_cannot_be_written_is_refused_with_words_and_stays_as_it_was():
    with tempfile.TemporaryDirectory() as parent:  # not tmp_path, which other users may not enter
        study = Path(parent) / "study"
        study.mkdir()
        os.chmod(parent, 0o755)
        os.chmod(study, 0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere
            os.seteuid(65534)
        try:
            with pytest.raises(
                NotKept, match=r"study/experiments cannot be written \(Permission denied\).*copy of the study"
            ):
                Experiments(study).keep(row("e"))
        finally:
            os.seteuid(user)
        assert list(study.iterdir()) == [] and names(study) == []
        os.chmod(study, 0o755)


def test_a_disk_that_fills_up_leaves_nothing_of_the_run(study, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    Experiments(study).keep(row("e0"))
    files = sorted(ledger_of(study).path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr("backend.store.unit_files.os.replace", full)
        with pytest.raises(NotKept, match="No space left on device"):
            Experiments(study).keep(row("e1"))
    assert sorted(ledger_of(study).path.rglob("*")) == files and names(study) == ["e0"]


def test_no_study_is_made_by_keeping_a_run(tmp_path):
    with pytest.raises(NoStore, match="python -m precompute run"):
        Experiments(tmp_path / "nothing").keep(row("e"))
    assert list(tmp_path.iterdir()) == []


# Generations and portable files


def test_a_generation_holds_the_runs_and_is_out_of_date_when_another_is_kept(study):
    assert is_published(StudyFolder(study))
    Experiments(study).keep(row("e"), [sample("e")])
    assert not is_published(StudyFolder(study))
    republish(study)
    assert is_published(StudyFolder(study))
    assert published(study) == ["e"]
    assert Store(study).whole_table("experiment_samples")["text"].to_pylist() == ["So 54."]


def test_runs_are_kept_in_a_study_that_was_never_published(tmp_path):
    add(StudyFolder(tmp_path / "young"), "a")
    Experiments(tmp_path / "young").keep(row("e"))
    assert names(tmp_path / "young") == ["e"]


def test_the_ledger_does_not_look_like_a_study_of_its_own(study, portable):
    for path, folder in ((study, study / "experiments"), (portable, portable.with_suffix(".experiments"))):
        Experiments(path).keep(row("e"))
        assert (
            folder.is_dir() and not StudyFolder(folder).manifest.exists() and not StudyFolder(folder).pointer.exists()
        )


def test_a_portable_file_shows_its_runs_and_those_kept_beside_it(portable):
    before = portable.read_bytes()
    assert names(portable) == ["old", "older"]
    assert Experiments(portable).get("old")["seed"] == 2**62 + 1
    assert Experiments(portable).samples("old")["text"].tolist() == ["So 54."]
    Experiments(portable).keep(row("new", created_at=datetime(2026, 2, 2), cot_id="c"), [sample("new")])
    assert names(portable) == ["new", "old", "older"]
    assert Experiments(portable).history(cot_id="c")["experiment_id"].tolist() == ["new", "older"]
    assert Experiments(portable).samples("new")["experiment_id"].tolist() == ["new"]
    assert portable.with_suffix(".experiments").is_dir() and portable.read_bytes() == before


def test_a_run_of_a_portable_file_can_be_replaced_and_deleted(portable):
    Experiments(portable).keep(row("old", state="finished"))
    assert names(portable) == ["old", "older"] and Experiments(portable).get("old")["state"] == "finished"
    assert Experiments(portable).samples("old").empty
    for name in ("old", "older"):
        Experiments(portable).delete(name)
        assert Experiments(portable).get(name) is None and Experiments(portable).samples(name).empty
    assert names(portable) == []
