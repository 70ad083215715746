"""A study shrinks to a folder of Parquet files and comes back as one portable file, float16 being all that it loses."""

import hashlib
import json
import shutil
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from backend.crosscoder.stored import read_from
from backend.schema.migrations import WrongSchema
from backend.schema.tables import SCHEMA_VERSION, TABLES, VECTOR
from backend.store import packed
from backend.store.experiments import Experiments
from backend.store.packed import ABOUT, DamagedPack, NotPacked, NotUnpacked, pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_dictionary, small_study
from tests.backend.store.test_publish import COLUMNS_OF_6


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return small_study.make(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def packed_once(study, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("assets") / "demo"
    pack(study, folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(packed_once, tmp_path_factory) -> Path:
    return unpack(packed_once, tmp_path_factory.mktemp("unpacked") / "demo.duckdb")


@pytest.fixture
def young(tmp_path) -> Path:
    """A study of problems and CoTs alone."""
    return small_study.make(tmp_path / "small", rollouts=False, activations=False, steering=False)


@pytest.fixture
def folder(packed_once, tmp_path) -> Path:
    """A pack to spoil."""
    return Path(shutil.copytree(packed_once, tmp_path / "demo"))


def tables_of(study: Path) -> dict[str, pa.Table]:
    with closing(Store(study)) as store:
        return {table: store.whole_table(table) for table in TABLES}


def whole_table(study: Path, table: str) -> pa.Table:
    with closing(Store(study)) as store:
        return store.whole_table(table)


def about_of(file: Path) -> dict[str, str]:
    with closing(Store(file)) as store:
        return dict(store.frame("SELECT name, value FROM about").itertuples(index=False))


def vectors(rows: pa.Table) -> np.ndarray:
    return np.stack([vector for vector in rows["vector"].to_pylist() if vector is not None]).astype(np.float32)


def edit_about(folder: Path, **values: object) -> None:
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps(about | values))


# What comes back


def test_everything_but_vectors_and_details_comes_back_as_it_was(study, unpacked):
    before, after = tables_of(study), tables_of(unpacked)
    for table, definition in TABLES.items():
        rounded = packed._JSON.get(table)
        exact = [name for name, (kind, _) in definition.columns.items() if kind != VECTOR and name != rounded]
        assert after[table].select(exact).equals(before[table].select(exact)), table


def test_vectors_come_back_as_float16_rounds_them_and_unit_vectors_of_unit_length(study, unpacked):
    rounded = {
        table: vectors(whole_table(study, table)).astype(np.float16).astype(np.float64)
        for table in ("activations", "directions")
    }
    assert np.array_equal(vectors(whole_table(unpacked, "activations")), rounded["activations"])
    unit = rounded["directions"] / np.linalg.norm(rounded["directions"], axis=1, keepdims=True)
    assert np.array_equal(vectors(whole_table(unpacked, "directions")), unit.astype(np.float32))


def test_numbers_within_details_keep_four_digits_and_all_else_of_them():
    said = {"fits": [{"curve": "linear", "n": 1234567, "slope": 0.123456789}], "aic": -1.5e-12, "p": None, "on": True}
    rows = pa.table({name: pa.nulls(1, dtype) for name, (dtype, _) in TABLES["associations"].columns.items()})
    rows = rows.set_column(rows.schema.get_field_index("details"), "details", pa.array([json.dumps(said)]))
    kept = json.loads(packed._rounded("associations", rows)["details"][0].as_py())
    assert kept == said | {"fits": [{"curve": "linear", "n": 1234567, "slope": 0.1235}]}


def test_a_direction_that_is_its_chunks_own_activation_is_stored_once(study, folder, tmp_path):
    activations, directions = (whole_table(study, name).to_pylist() for name in ("activations", "directions"))
    other = np.asarray(directions[1]["vector"])
    for key in ("chunk_id", "model_id", "layer"):
        directions[0][key] = directions[1][key] = activations[0][key]
    own = np.asarray(activations[0]["vector"], np.float64)
    directions[0]["vector"] = own / np.linalg.norm(own)
    schema = whole_table(study, "directions").schema
    packed.repack(folder, {"directions": pa.Table.from_pylist(directions, schema)}, published_at="now")
    assert [v is None for v in pq.read_table(folder / "directions.parquet")["vector"].to_pylist()[:2]] == [True, False]
    found = vectors(whole_table(unpack(folder, tmp_path / "demo.duckdb"), "directions"))
    assert np.allclose(found[0], directions[0]["vector"], atol=1e-3) and np.linalg.norm(found[0]) == pytest.approx(1)
    assert np.allclose(found[1], other, atol=1e-3)

    activations[0]["vector"] = (-own).tolist()  # only the activations are made anew: the direction stays what it was
    schema = whole_table(study, "activations").schema
    packed.repack(folder, {"activations": pa.Table.from_pylist(activations, schema)}, published_at="later")
    again = vectors(whole_table(unpack(folder, tmp_path / "again.duckdb"), "directions"))
    assert np.allclose(again, found, atol=1e-3)


def test_directions_of_a_pack_without_activations_keep_their_vectors(study, folder, tmp_path):
    (folder / "activations.parquet").unlink()
    tables = json.loads((folder / ABOUT).read_text())["tables"]
    edit_about(folder, tables={name: table for name, table in tables.items() if name != "activations"})
    packed.repack(folder, {"directions": whole_table(study, "directions")}, published_at="now")
    found = vectors(whole_table(unpack(folder, tmp_path / "demo.duckdb"), "directions"))
    assert np.allclose(found, vectors(whole_table(study, "directions")), atol=1e-3)


def test_a_direction_without_vector_and_activation_is_a_damaged_pack(study, folder, tmp_path):
    rows = whole_table(study, "directions").to_pylist()
    rows[0] |= {"vector": None, "chunk_id": "nowhere"}
    schema = whole_table(study, "directions").schema
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "directions.parquet")
    tables = json.loads((folder / ABOUT).read_text())["tables"]
    tables["directions"]["sha256"] = hashlib.sha256((folder / "directions.parquet").read_bytes()).hexdigest()
    edit_about(folder, tables=tables)
    with pytest.raises(DamagedPack, match="neither a vector nor its chunk's activation"):
        unpack(folder, tmp_path / "demo.duckdb")
    assert not (tmp_path / "demo.duckdb").exists()


def test_a_live_run_without_a_vector_has_none_afterwards(study, unpacked):
    for run in Experiments(study).history()["experiment_id"]:
        before, after = Experiments(study).get(run)["vector"], Experiments(unpacked).get(run)["vector"]
        assert (after is None) == (before is None)
        assert before is None or np.allclose(after, before, atol=1e-3)


def test_the_file_says_what_it_is(study, unpacked):
    store, about = Store(study), about_of(unpacked)
    assert (about["study"], about["published_at"]) == (store.name, store.published_at)
    assert (about["vectors"], about["schema_version"]) == ("float16", str(SCHEMA_VERSION))


def test_only_tables_with_rows_are_shipped_and_the_same_study_gives_the_same_bytes(study, folder, tmp_path):
    size = pack(study, tmp_path / "again")
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted([ABOUT, *(f"{table}.parquet" for table, rows in tables_of(study).items() if rows.num_rows)])
    assert all((tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes() for name in files)
    assert size == sum(path.stat().st_size for path in folder.iterdir())


def test_tables_can_be_left_out_and_are_empty_then(study, folder, tmp_path):
    pack(study, tmp_path / "less", without=["activations"])
    assert {path.name for path in folder.iterdir()} - {path.name for path in (tmp_path / "less").iterdir()} == {
        "activations.parquet"
    }
    assert tables_of(unpack(tmp_path / "less", tmp_path / "less.duckdb"))["activations"].num_rows == 0
    with pytest.raises(NotPacked, match="no table 'maps_of_lenses'"):
        pack(study, tmp_path / "other", without=["maps_of_lenses"])


def test_a_portable_file_is_packed_like_a_folder(unpacked, tmp_path):
    pack(unpacked, tmp_path / "again")
    before, after = tables_of(unpacked), tables_of(unpack(tmp_path / "again", tmp_path / "second.duckdb"))
    for table in set(TABLES) - {"directions", "experiments"}:
        assert after[table].equals(before[table]), table


def test_dictionaries_travel_to_the_bit_and_a_portable_file_that_lost_them_is_unpacked_again(young, tmp_path):
    name = small_dictionary.add(young)
    size = pack(tmp_path / "small", tmp_path / "demo")
    assert size == sum(path.stat().st_size for path in (tmp_path / "demo").rglob("*") if path.is_file())
    file = unpack(tmp_path / "demo", tmp_path / "demo.duckdb")
    for again in (False, True):
        if again:
            shutil.rmtree(tmp_path / "demo.dictionaries")
            unpack(tmp_path / "demo", file)
        with closing(Store(file)) as store:
            assert torch.equal(read_from(store, name).decoder, small_dictionary.weights().decoder)
    pack(tmp_path / "small", tmp_path / "demo")  # a pack with dictionaries is replaced like another
    pack(file, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again" / "dictionaries" / name).iterdir()) == [
        "dictionary.json",
        "dictionary.safetensors",
    ]


def test_a_pack_says_the_oldest_rule_of_each_stage(tmp_path):
    study = small_study.make(tmp_path / "small")
    with StudyFolder(study).writing("test") as writer:
        writer.add("newer", "one", {}, rule=3)
        writer.add("newer", "two", {}, rule=2)
        publish(writer)
    pack(study, tmp_path / "pack")
    rules = json.loads((tmp_path / "pack" / "about.json").read_text())["rules"]
    assert rules["newer"] == 2 and rules["rollouts"] == 1
    with closing(Store(unpack(tmp_path / "pack", tmp_path / "one.duckdb"))) as store:
        assert store.rules() == rules


def test_a_damaged_dictionary_of_a_pack_is_named_and_nothing_is_unpacked(young, tmp_path):
    name = small_dictionary.add(young)
    pack(tmp_path / "small", tmp_path / "demo")
    weights = tmp_path / "demo" / "dictionaries" / name / "dictionary.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedPack, match=rf"{name}/dictionary\.safetensors has sha256"):
        unpack(tmp_path / "demo", tmp_path / "demo.duckdb")
    assert not (tmp_path / "demo.duckdb").exists() and not (tmp_path / "demo.dictionaries").exists()


# When it is built


def test_a_file_of_the_same_pack_is_left_alone_and_one_of_another_pack_is_replaced(young, tmp_path):
    pack(young, folder := tmp_path / "demo")
    file = unpack(folder, tmp_path / "demo.duckdb")
    before = file.stat().st_ino
    assert unpack(folder, file).stat().st_ino == before
    with StudyFolder(young).writing("test") as writer:
        writer.add("late", "one", {"problems": [small_study.problem(50)]})
        publish(writer)
    pack(young, folder)
    assert whole_table(unpack(folder, file), "problems").num_rows == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.duckdb", "demo.duckdb.lock", "small"]


def test_two_at_once_build_it_once(folder, tmp_path, monkeypatch):
    build, built, start = packed._build, [], threading.Barrier(2)
    monkeypatch.setattr(packed, "_build", lambda found, file: (built.append(file), build(found, file)))

    def ask() -> None:
        start.wait()
        unpack(folder, tmp_path / "demo.duckdb")

    both = [threading.Thread(target=ask) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(built) == 1
    assert whole_table(tmp_path / "demo.duckdb", "cots").num_rows == 6


def test_what_a_killed_process_left_is_cleared_away(folder, tmp_path):
    leftover = tmp_path / ".demo.duckdb.killed"
    leftover.mkdir()
    (leftover / "demo.duckdb").write_bytes(b"half")
    unpack(folder, tmp_path / "demo.duckdb")
    assert not leftover.exists()


def test_a_pack_of_an_older_schema_is_upgraded(folder, tmp_path, monkeypatch):
    widened = packed._widened
    monkeypatch.setattr(
        packed, "_widened", lambda table, rows: widened(table, rows).drop_columns(COLUMNS_OF_6.get(table, []))
    )
    about = json.loads((folder / ABOUT).read_text())
    for table in (
        "experiments",
        "experiment_samples",
        "training_runs",
        "training_metrics",
    ):  # the first schema did not have them
        about["tables"].pop(table, None)
    edit_about(folder, schema_version=1, tables=about["tables"])
    file = unpack(folder, tmp_path / "demo.duckdb")
    assert about_of(file)["schema_version"] == str(SCHEMA_VERSION)
    assert whole_table(file, "experiments").num_rows == 0
    assert whole_table(file, "activations").num_rows == about["tables"]["activations"]["rows"]


def test_a_file_of_an_older_schema_is_built_anew_from_the_same_pack(folder, tmp_path, monkeypatch):
    file = unpack(folder, tmp_path / "demo.duckdb")
    before = file.stat().st_ino
    monkeypatch.setattr(packed, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert unpack(folder, file).stat().st_ino != before


# What is refused


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: raw[:400] + bytes([raw[400] ^ 1]) + raw[401:]])
def test_a_damaged_file_is_named_and_nothing_is_written(folder, tmp_path, spoil):
    path = folder / "rollouts.parquet"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DamagedPack, match=r"rollouts\.parquet has sha256"):
        unpack(folder, tmp_path / "stores" / "demo.duckdb")
    assert [path.name for path in (tmp_path / "stores").iterdir()] == ["demo.duckdb.lock"]


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / "cots.parquet").unlink()
    with pytest.raises(DamagedPack, match=r"cots\.parquet cannot be read"):
        unpack(folder, tmp_path / "demo.duckdb")


def test_a_wrong_number_of_rows_is_named(folder, tmp_path):
    about = json.loads((folder / ABOUT).read_text())
    about["tables"]["cots"]["rows"] += 1
    edit_about(folder, tables=about["tables"])
    with pytest.raises(DamagedPack, match=r"cots\.parquet has 6 rows, and about\.json says 7"):
        unpack(folder, tmp_path / "demo.duckdb")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"study": "small"}', b"\xff\xfe"])
def test_an_about_that_describes_no_pack_is_named(folder, tmp_path, raw):
    (folder / ABOUT).write_bytes(raw)
    with pytest.raises(DamagedPack, match=r"about\.json does not describe a pack"):
        unpack(folder, tmp_path / "demo.duckdb")


def test_a_pack_of_a_newer_anchorscope_is_refused(folder, tmp_path):
    edit_about(folder, schema_version=99)
    with pytest.raises(WrongSchema, match="Update Anchorscope"):
        unpack(folder, tmp_path / "demo.duckdb")


def test_a_file_that_came_from_no_pack_is_never_replaced(study, folder, tmp_path):
    shutil.copyfile(Store(study).generation, tmp_path / "demo.duckdb")
    (tmp_path / "other.duckdb").write_bytes(b"not a store")
    before = (tmp_path / "demo.duckdb").read_bytes()
    with pytest.raises(NotUnpacked, match="is another study"):
        unpack(folder, tmp_path / "demo.duckdb")
    with pytest.raises(NotUnpacked, match="cannot be opened"):
        unpack(folder, tmp_path / "other.duckdb")
    assert (tmp_path / "demo.duckdb").read_bytes() == before


def test_where_nothing_can_be_written_it_says_so(folder, tmp_path):
    (tmp_path / "stores").write_text("a file where the folder should be")
    with pytest.raises(NotUnpacked, match="Allow writing"):
        unpack(folder, tmp_path / "stores" / "demo.duckdb")


@pytest.mark.parametrize(("value", "named"), [(65520.0, "65520"), (float("inf"), "inf"), (None, "None")])
def test_a_value_that_float16_does_not_hold_is_refused_and_the_old_pack_stays(study, folder, tmp_path, value, named):
    grown, before = Path(shutil.copytree(study, tmp_path / "small")), (folder / ABOUT).read_bytes()
    row = whole_table(study, "activations").slice(0, 1).to_pylist()[0] | {"layer": 29, "vector": [1.0, value]}
    with StudyFolder(grown).writing("test") as writer:
        writer.add("late", "one", {"activations": [row]})
        publish(writer)
    with pytest.raises(NotPacked, match=f"activations.*{row['chunk_id']}.*'layer': 29.*vector holds {named}"):
        pack(grown, folder)
    assert (folder / ABOUT).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "small"]


def test_the_largest_value_that_float16_holds_is_not_refused():
    rows = pa.table({"vector": pa.array([[65504.0, 65519.0, -65504.0]], VECTOR)})
    assert packed._rounded("activations", _with_keys(rows))["vector"].to_pylist() == [[65504.0, 65504.0, -65504.0]]


def _with_keys(rows: pa.Table) -> pa.Table:
    names = TABLES["activations"].arrow
    return pa.table(
        {
            name: rows["vector"] if name == "vector" else pa.nulls(rows.num_rows, names.field(name).type)
            for name in names.names
        }
    )


@pytest.mark.parametrize("name", ["notes.txt", "README.md"])
def test_a_folder_that_is_no_pack_is_never_replaced(study, folder, tmp_path, name):
    (folder / name).write_text("mine")
    with pytest.raises(NotPacked, match="something else than a pack"):
        pack(study, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotPacked, match="something else than a pack"):
        pack(study, tmp_path / "empty")
    assert (folder / name).read_text() == "mine"


def test_a_damaged_live_run_is_not_left_out_in_silence(study, tmp_path):
    spoiled = Path(shutil.copytree(study, tmp_path / "small"))
    for file in (spoiled / "experiments").rglob("*.experiments.parquet"):
        file.write_bytes(b"")
    with pytest.raises(NotPacked, match="is damaged"):
        pack(spoiled, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


# How small


def test_vectors_are_stored_as_float16_and_every_column_in_its_smallest_encoding():
    rng = np.random.default_rng(0)
    rows = pa.table(
        {
            "noise": rng.standard_normal(4000).astype(np.float32).astype(np.float64),
            "few": rng.integers(0, 3, 4000) * 0.1,
        }
    )
    columns = pq.ParquetFile(pa.BufferReader(packed._smallest(rows))).metadata.row_group(0)
    assert "BYTE_STREAM_SPLIT" in columns.column(0).encodings and "RLE_DICTIONARY" in columns.column(1).encodings
    assert {columns.column(column).compression for column in range(2)} <= {"ZSTD", "BROTLI"}
    for column, name in enumerate(rows.schema.names):
        for codec in ("zstd", "brotli"):  # neither makes it smaller
            alone = packed._parquet(rows.select([name]), {name: ("PLAIN", codec)})
            plain = pq.ParquetFile(pa.BufferReader(alone)).metadata.row_group(0).column(0)
            assert columns.column(column).total_compressed_size <= plain.total_compressed_size
