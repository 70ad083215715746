"""Generations: a reader never waits, never sees half a store, and cannot reach beyond its own file."""

import json
import shutil
from contextlib import closing

import duckdb
import pyarrow as pa
import pytest

from backend.schema import migrations
from backend.schema.migrations import WrongSchema, later_columns, later_tables
from backend.schema.tables import SCHEMA_VERSION, TABLES
from backend.store.publish import is_published, publish
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from tests import small_study
from tests.backend.store.test_unit_files import add, problem


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    add(folder, "b", "a")
    with folder.writing("publish") as writer:
        publish(writer)
    return folder


def ids(store: Store) -> list[str]:
    return store.frame("SELECT problem_id FROM problems")["problem_id"].tolist()


def test_rows_are_stored_in_key_order(folder):
    assert ids(Store(folder.path)) == ["a", "b"]


def test_a_reader_keeps_its_generation_while_the_next_is_published(folder):
    old = Store(folder.path)
    with folder.writing("run") as writer:
        writer.add("problems", "c@1", {"problems": [problem("c")]})
        publish(writer)
        assert ids(old) == ["a", "b"]
        assert ids(Store(folder.path)) == ["a", "b", "c"]


def test_the_newest_unit_wins_where_two_hold_the_same_key(folder):
    with folder.writing("run") as writer:
        writer.add("problems", "a@2", {"problems": [problem("a", "2 + 2?")]})
        publish(writer)
    questions = Store(folder.path).frame("SELECT question FROM problems WHERE problem_id = 'a'")
    assert questions["question"].tolist() == ["2 + 2?"]


def test_retired_units_are_not_published(folder):
    with folder.writing("run") as writer:
        writer.keep_only("problems", {"b@1"})
        publish(writer)
    assert ids(Store(folder.path)) == ["b"]


def test_a_damaged_unit_is_left_out_and_becomes_work_again(folder):
    line = folder.ledger().live["problems", "a@1"]
    (folder.path / line.files[0].name).unlink()
    with folder.writing("run") as writer:
        assert [lost.key for lost in publish(writer)] == ["a@1"]
    assert folder.ledger().keys("problems") == {"b@1"}
    assert ids(Store(folder.path)) == ["b"]


def test_a_store_is_published_only_while_it_holds_every_unit(folder):
    assert is_published(folder)
    add(folder, "c")
    assert not is_published(folder)


def test_a_missing_generation_is_said_with_the_command_that_rebuilds_it(folder):
    for file in folder.generations.glob("*.duckdb"):
        file.unlink()
    assert not is_published(folder)
    with pytest.raises(NoStore, match="python -m precompute publish"):
        Store(folder.path)


def test_a_damaged_generation_is_said_with_the_command_that_rebuilds_it(folder):
    for file in folder.generations.glob("*.duckdb"):
        file.write_bytes(b"not a database at all" * 1000)
    assert not is_published(folder)
    with pytest.raises(NoStore, match="python -m precompute publish"):
        Store(folder.path)


def test_no_study_says_how_to_make_one(tmp_path):
    with pytest.raises(NoStore, match="python -m precompute run"):
        Store(tmp_path / "nothing")


@pytest.mark.parametrize(("version", "advice"), [(0, "publish"), (SCHEMA_VERSION + 1, "Update Anchorscope")])
def test_another_schema_is_refused_with_what_to_do(folder, version, advice):
    (generation,) = folder.generations.glob("*.duckdb")
    with duckdb.connect(str(generation)) as connection:
        connection.execute("UPDATE about SET value = ? WHERE name = 'schema_version'", [str(version)])
    with pytest.raises(WrongSchema, match=advice):
        Store(folder.path)


def to_schema_6(file) -> None:
    """The store as it was written before there were reference sets."""
    with duckdb.connect(str(file)) as connection:
        for table in later_tables(6):
            connection.execute(f"DROP TABLE {table}")
        for table, columns in later_columns(6).items():
            if table not in later_tables(6):
                rows = f"SELECT * EXCLUDE ({', '.join(columns)}) FROM {table}"
                connection.execute(f"CREATE OR REPLACE TABLE {table} AS {rows}")
        connection.execute("UPDATE about SET value = '6' WHERE name = 'schema_version'")


@pytest.mark.parametrize("portable", [False, True])
def test_a_store_of_schema_6_opens_as_it_is_and_what_came_in_since_is_empty(tmp_path, portable):
    study = small_study.make(tmp_path / "small")
    (generation,) = (study / "generations").glob("*.duckdb")
    with closing(Store(study)) as store:
        before = {table: store.whole_table(table) for table in TABLES}
    to_schema_6(generation)
    with closing(Store(shutil.copy(generation, tmp_path / "one.duckdb") if portable else study)) as store:
        assert store.schema_version == 6 and store.older is None
        found = {table: store.whole_table(table) for table in TABLES}
        assert all(found[table].equals(rows) for table, rows in before.items() if TABLES[table].since <= 6)
        assert not any(len(found[table]) for table in later_tables(6))
        (model,) = store.frame("SELECT DISTINCT model_id FROM activations")["model_id"]
        assert store.reference_chunks(model) == {} and store.frozen_sets() == []
        assert store.reference_digest(model) == store.activation_digest(model)
        with pytest.raises(duckdb.CatalogException):
            store.frame("SELECT * FROM nowhere")
    if not portable:
        folder = StudyFolder(study)
        assert not is_published(folder), "the next run publishes it under today's schema"
        with folder.writing("publish") as writer:
            assert publish(writer) == []
        with closing(Store(study)) as store:
            assert store.schema_version == SCHEMA_VERSION and is_published(folder)


def test_a_column_that_came_in_is_null_in_rows_of_before_and_in_a_store_of_before(tmp_path):
    study = small_study.make(tmp_path / "small")
    (generation,) = (study / "generations").glob("*.duckdb")
    lacking = later_columns(12)
    kept = ("n_kept", "departing_chunk", "departing_similarity")
    assert lacking == {
        **dict.fromkeys(("importance", "importance_given"), ("p",)),
        **dict.fromkeys(("rollouts", "added_rollouts"), kept),
        "feature_intervention_arms": ("null_id",),
    }
    assert later_columns(SCHEMA_VERSION) == {}
    with duckdb.connect(str(generation)) as connection:
        for table, columns in lacking.items():
            for column in columns:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("UPDATE about SET value = '12' WHERE name = 'schema_version'")
    with closing(Store(study)) as store:
        for table in lacking:
            rows = store.whole_table(table)
            assert rows.column_names == TABLES[table].arrow.names
            assert all(rows[column].null_count == rows.num_rows for column in lacking[table])
            assert migrations.upgraded(table, rows.drop_columns(list(lacking[table])), 12).equals(rows)
        assert store.whole_table("importance").num_rows > 0
    assert not is_published(StudyFolder(study)), "the next run publishes it under today's schema"


def test_a_store_of_schema_6_without_a_table_of_its_own_is_refused(tmp_path):
    study = small_study.make(tmp_path / "small")
    (generation,) = (study / "generations").glob("*.duckdb")
    to_schema_6(generation)
    with duckdb.connect(str(generation)) as connection:
        connection.execute("DROP TABLE maps")
    with closing(Store(study)) as store, pytest.raises(WrongSchema, match="schema version 6, but lacks table maps"):
        store.whole_table("maps")


def test_a_new_table_is_empty_in_a_store_of_before_and_a_new_column_is_not_guessed(monkeypatch):
    assert later_tables(SCHEMA_VERSION) == () and {"reference_chunks", "references_in_use"} <= {*later_tables(6)}
    assert later_tables(5) is later_tables(SCHEMA_VERSION + 1) is None
    monkeypatch.setitem(migrations.STEPS, 6, lambda table, rows: rows)
    assert later_tables(6) is None


def test_a_table_that_comes_in_says_since_when():
    since = [table.since for table in TABLES.values()]
    assert since.count(6) == 41, "a table that was not there in version 6 says `since`"
    assert max(since) <= SCHEMA_VERSION, "a table that comes in raises SCHEMA_VERSION"


COLUMNS_OF_6 = {"problems": ["difficulty"], "cots": ["prompt_name", "think_close"], "problem_accuracy": ["prompt_name"]}


@pytest.mark.parametrize("version", [1, 3])
def test_a_study_of_an_older_schema_is_upgraded_when_it_is_published(tmp_path, version, monkeypatch):
    """Each version until 5 brought new tables, and the rows it found are rows of today; 6 brought columns, which old
    rows are given.
    """
    of_dictionaries = [
        table
        for table in TABLES
        if table.startswith(("dictionar", "feature")) or table in ("spliced_losses", "cot_codes")
    ]
    came_in = {"experiments": 2, "experiment_samples": 2, "training_runs": 3, "training_metrics": 3} | dict.fromkeys(
        of_dictionaries, 4
    )
    later = [table for table, since in came_in.items() if since > version]
    study = small_study.make(tmp_path / "small")
    judged = ["associations"]  # whose old rows lose their verdict, as another test has it
    with closing(Store(study)) as store:
        before = {table: store.whole_table(table) for table in TABLES if table not in [*later, *judged]}
    folder = StudyFolder(study)
    assert before["problems"].num_rows and not {
        file.table for line in folder.ledger().live.values() for file in line.files
    } & set(later)
    for manifest in (folder.manifest, study / "experiments" / "experiments.jsonl"):
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        manifest.write_text("".join(json.dumps(line | {"schema": version}) + "\n" for line in lines))
    read = StudyFolder.read
    monkeypatch.setattr(
        StudyFolder, "read", lambda self, file: read(self, file).drop_columns(COLUMNS_OF_6.get(file.table, []))
    )
    (generation,) = folder.generations.glob("*.duckdb")
    with duckdb.connect(str(generation)) as connection:
        for table in later:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = ? WHERE name = 'schema_version'", [str(version)])
        if version == 1:
            shutil.rmtree(study / "experiments")
            connection.execute("DELETE FROM about WHERE name = 'experiments_bytes'")
    with pytest.raises(WrongSchema, match=rf"schema version {version}.*python -m precompute publish"):
        Store(study)
    assert not is_published(folder)
    with folder.writing("publish") as writer:
        assert publish(writer) == []
    assert is_published(folder)
    with closing(Store(study)) as store:
        assert all(store.whole_table(table).equals(before[table]) for table in before)
        assert all(store.whole_table(table).num_rows == 0 for table in later)


def test_the_connection_reaches_nothing_but_its_own_file(folder, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    store = Store(folder.path)
    for attempt in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY problems TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/x.duckdb'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "CREATE TABLE t (a INT)",
    ):
        with pytest.raises(duckdb.Error):
            store.frame(attempt)
    secret_frame = store.frame("SELECT 1 AS a")
    with pytest.raises(duckdb.Error):
        store.frame("SELECT * FROM secret_frame")
    assert len(secret_frame) == 1


def test_old_chains_of_thought_have_the_one_prompt_and_the_one_pair_of_tags_there_were():
    from backend.schema.migrations import upgraded

    rows = [  # seed, prompt, text, after_text
        (3, "7?<think>\n", "So 7.", "7."),
        (3, "7?<think>\n", "So 7.", None),
        (3, "7?", "So 7.", None),
        (3, "7?", "<think> Hm.", None),
        (None, "7?<think>\n", "So 7.", None),
    ]
    known = [dict(zip(("seed", "prompt", "text", "after_text"), row, strict=True)) for row in rows]
    schema = pa.schema([field for field in TABLES["cots"].arrow if field.name not in COLUMNS_OF_6["cots"]])
    found = upgraded("cots", pa.Table.from_pylist(known, schema=schema), 5).to_pylist()
    assert [row["prompt_name"] for row in found] == ["boxed"] * 4 + ["published"]
    assert [row["think_close"] for row in found] == ["</think>", "</think>", None, "</think>", "</think>"]


def test_associations_that_the_rule_over_all_chunks_judged_are_kept_and_are_unjudged():
    from backend.schema.migrations import upgraded

    new = (
        "within",
        "within_low",
        "within_high",
        "within_null_low",
        "within_null_high",
        "p_problems",
        "partial_p_problems",
        "n_planted",
        "planted_rho",
        "planted_found",
        "planted_p",
    )
    schema = pa.schema([field for field in TABLES["associations"].arrow if field.name not in new])
    old = {
        "x": "steepness",
        "spearman": -0.3,
        "p": 0.001,
        "partial": -0.2,
        "partial_p": 0.01,
        "verdict": "inverse",
        "details": "{}",
    }
    (found,) = upgraded("associations", pa.Table.from_pylist([old], schema=schema), 5).to_pylist()
    assert (found["spearman"], found["p"]) == (-0.3, 0.001)
    assert all(found[name] is None for name in (*new, "verdict", "partial", "partial_p"))
