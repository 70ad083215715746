"""A study leaves whole: as one file that opens wherever a folder does, or as Parquet, one file a table."""

import shutil

import pyarrow.parquet as pq
import pytest

from backend.errors import AnchorscopeError
from backend.schema.tables import TABLES
from backend.store import notes
from backend.store.beside import ledger_of
from backend.store.experiments import Experiments
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from precompute.export import export_duckdb, export_parquet
from tests.small_study import make


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "small"
    make(folder)
    return folder


def test_a_portable_file_answers_as_the_folder_does(study, tmp_path):
    export_duckdb(study, tmp_path / "small.duckdb")
    portable, folder = Store(tmp_path / "small.duckdb"), Store(study)
    for table in TABLES:
        assert portable.whole_table(table).equals(folder.whole_table(table)), table
    assert portable.name == folder.name


def test_parquet_files_hold_every_row_of_every_table(study, tmp_path):
    files = export_parquet(study, tmp_path / "out")
    assert {file.stem for file in files} == set(TABLES)
    store = Store(study)
    for file in files:
        assert pq.read_table(file).replace_schema_metadata(None).equals(store.whole_table(file.stem)), file.stem


def test_runs_kept_since_the_last_publication_leave_too_while_a_pipeline_holds_the_study(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    newest = Experiments(study).get(Experiments(study).history()["experiment_id"][0])
    Experiments(tmp_path / "study").keep(newest | {"experiment_id": "new"})
    Experiments(tmp_path / "study").delete(newest["experiment_id"])
    with StudyFolder(tmp_path / "study").writing("run of hours"):
        export_duckdb(tmp_path / "study", tmp_path / "small.duckdb")
        export_parquet(tmp_path / "study", tmp_path / "out")
    found = Store(tmp_path / "small.duckdb").whole_table("experiments")
    assert (
        "new" in found["experiment_id"].to_pylist()
        and newest["experiment_id"] not in found["experiment_id"].to_pylist()
    )
    assert found.num_rows == Store(study).whole_table("experiments").num_rows
    assert pq.read_table(tmp_path / "out" / "experiments.parquet").replace_schema_metadata(None).equals(found)
    assert Experiments(tmp_path / "small.duckdb").get("new")["results"] == newest["results"]


def test_runs_kept_beside_a_portable_file_leave_with_it(study, tmp_path):
    export_duckdb(study, tmp_path / "first.duckdb")
    newest = Experiments(study).get(Experiments(study).history()["experiment_id"][0])
    Experiments(tmp_path / "first.duckdb").keep(newest | {"experiment_id": "new"})
    export_duckdb(tmp_path / "first.duckdb", tmp_path / "second.duckdb")
    found = Store(tmp_path / "second.duckdb").whole_table("experiments")
    assert found.num_rows == Store(study).whole_table("experiments").num_rows + 1
    assert not (tmp_path / "second.experiments").exists()


@pytest.mark.parametrize("export", [export_duckdb, export_parquet])
def test_a_damaged_run_that_an_export_leaves_out_is_named(study, tmp_path, capsys, export):
    shutil.copytree(study, tmp_path / "study")
    ledger = ledger_of(tmp_path / "study")
    damaged = next(iter(ledger.ledger().live.values()))
    (ledger.path / damaged.files[0].name).write_bytes(b"damaged")
    export(tmp_path / "study", tmp_path / "out")
    assert f"damaged live run {damaged.key} is left out" in capsys.readouterr().err


def test_runs_left_beside_a_file_that_is_gone_are_not_taken_for_runs_on_the_new_one(study, tmp_path):
    (tmp_path / "small.experiments").mkdir()
    with pytest.raises(AnchorscopeError, match=r"small.experiments exists already"):
        export_duckdb(study, tmp_path / "small.duckdb")


def test_what_exists_is_not_overwritten(study, tmp_path):
    (tmp_path / "mine.duckdb").write_text("precious")
    with pytest.raises(AnchorscopeError, match=r"mine.duckdb exists already"):
        export_duckdb(study, tmp_path / "mine.duckdb")
    assert (tmp_path / "mine.duckdb").read_text() == "precious"


def test_nothing_is_exported_where_there_is_no_study(tmp_path):
    with pytest.raises(NoStore):
        export_parquet(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_people_said_leaves_too_and_never_onto_what_was_said_of_another_study(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    thing = notes.chunk("c_0000", "text")
    notes.give(tmp_path / "study", thing, notes.NOTE, "odd", "Ada")
    export_duckdb(tmp_path / "study", tmp_path / "small.duckdb")
    export_parquet(tmp_path / "study", tmp_path / "out")
    for left in (tmp_path / "small.duckdb", tmp_path / "out"):
        assert notes.history(left, thing)[["value", "author"]].values.tolist() == [["odd", "Ada"]]
    notes.give(tmp_path / "gone.duckdb", thing, notes.NOTE, "of another", "Ada")
    with pytest.raises(AnchorscopeError, match=r"gone\.notes\.jsonl exists already"):
        export_duckdb(tmp_path / "study", tmp_path / "gone.duckdb")
