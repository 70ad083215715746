"""A pack whose derived tables are computed anew from its own rows, and all else stays byte for byte."""

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from backend.errors import AnchorscopeError
from backend.schema.tables import TABLES
from backend.store.dictionaries import folder_of, folder_with
from backend.store.packed import pack, unpack
from backend.store.publish import create_tables, publish, replace_rows
from backend.store.store import Store
from backend.store.unit_files import StudyFolder, arrow_rows
from precompute import refresh as refreshing
from precompute.pipeline import run_row
from precompute.refresh import FILLS, refresh
from precompute.stages import STAGES, importance
from precompute.study import load_study
from precompute.terminal import ours
from precompute.units import Finished, Unit
from tests import small_study

QUICK = Path(__file__).parents[2] / "studies" / "quick.toml"


def digests(folder: Path) -> dict[str, str]:
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory) -> Path:
    """A small study that knows the study file it was run with, packed."""
    place = tmp_path_factory.mktemp("packed")
    folder = StudyFolder(small_study.make(place / "small"))
    study = load_study(QUICK)
    with folder.writing("test") as writer:
        writer.add("runs", "r9", {"runs": [run_row("r9", "run", study.name, study.seed, study.model_dump_json())]})
        publish(writer)
    pack(folder.path, place / "pack")
    return place / "pack"


@pytest.fixture
def packed(packed_once, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(packed_once, tmp_path / "pack"))


def test_importance_is_computed_from_the_stored_rollouts_and_other_files_stay(packed, tmp_path, monkeypatch):
    monkeypatch.setitem(FILLS, "resilience", (FILLS["importance"][0], ()))  # which would load the encoder
    before = digests(packed)
    changed = refresh(packed, ["importance", "resilience"], ours(None))
    assert set(changed) == {"importance", "answer_clusters", "runs"}
    rules = json.loads((packed / "about.json").read_text())["rules"]
    assert rules["importance"] == rules["resilience"] == importance.RULE and rules["rollouts"] == 1
    after = digests(packed)
    assert {table for table in before if before[table] != after.get(table)} == set(changed)
    assert json.loads((packed / "about.json").read_text())["tables"].keys() == after.keys()
    with closing(Store(unpack(packed, tmp_path / "again.duckdb"))) as store:
        rows = store.whole_table("importance")
        assert {row["command"] for row in store.whole_table("runs").to_pylist()} >= {"run", "refresh"}
        known = store.frame("SELECT DISTINCT chunk_id FROM rollouts")["chunk_id"]
        assert set(rows["chunk_id"].to_pylist()) >= set(known)
    refresh(packed, ["importance", "resilience"], ours(None))
    assert {t for t, digest in digests(packed).items() if digest != after[t]} == {"runs"}  # the same rows again


class Neighbours:
    """A stage of three units, which dies after the first as often as it is told to."""

    NAME, UNIT, RULE = "neighbourhoods", "chunk", 1

    def __init__(self, deaths: int):
        self.deaths, self.computed = deaths, []

    def units(self, context):
        found = context.store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id LIMIT 3")
        return [Unit(chunk, {"seed": context.study.seed}) for chunk in found["chunk_id"]]

    def compute(self, context, units):
        for unit in units:
            if self.computed and self.deaths:
                self.deaths -= 1
                raise KeyboardInterrupt
            self.computed.append(unit.unit_id)
            columns = TABLES["neighbourhoods"].columns
            row = dict.fromkeys(columns) | {"chunk_id": unit.unit_id, "model_id": "m", "layer": 0, "k": len(units)}
            yield Finished(unit, {"neighbourhoods": [row]})

    def estimate(self, of):
        return None


def test_a_stage_that_was_stopped_goes_on_where_it_was_and_the_pack_is_changed_at_its_end(packed, monkeypatch):
    stage = Neighbours(deaths=1)
    monkeypatch.setitem(FILLS, stage.NAME, (stage, ("neighbourhoods",)))
    before = digests(packed)
    with pytest.raises(KeyboardInterrupt):
        refresh(packed, [stage.NAME], ours(None))
    assert digests(packed) == before and len(stage.computed) == 1
    refresh(packed, [stage.NAME], ours(None))
    assert len(stage.computed) == len(set(stage.computed)) == 3
    with closing(Store(unpack(packed, packed.parent / "again.duckdb"))) as store:
        assert sorted(store.whole_table("neighbourhoods")["k"].to_pylist()) == [2, 2, 3]
    assert not list(Path("stores").iterdir())


def test_a_study_file_that_asks_for_more_is_what_the_pack_is_of_from_then_on(packed, monkeypatch):
    stage, study = Neighbours(deaths=0), load_study(QUICK)
    monkeypatch.setitem(FILLS, stage.NAME, (stage, ("neighbourhoods",)))
    refresh(packed, [stage.NAME], ours(None), study=study.model_copy(update={"seed": study.seed + 1}))
    with closing(Store(unpack(packed, packed.parent / "again.duckdb"))) as store:
        newest = max(store.whole_table("runs").to_pylist(), key=lambda run: run["started_at"])
    assert (newest["command"], newest["seed"]) == ("refresh", study.seed + 1)


def test_rows_of_equal_keys_give_way_and_of_several_the_last_stands(tmp_path):
    def rows(*pairs):
        columns = dict.fromkeys(TABLES["maps"].columns) | {"layer": 0, "method": "pca_3d"}
        return arrow_rows("maps", [columns | {"model_id": model, "n": n} for model, n in pairs])

    with duckdb.connect() as connection:
        create_tables(connection, ["maps"])
        replace_rows(connection, "maps", rows(("a", 1), ("b", 2)))
        replace_rows(connection, "maps", rows(("b", 3), ("c", 4), ("c", 5)))
        found = connection.execute("SELECT model_id, n FROM maps ORDER BY model_id").fetchall()
    assert found == [("a", 1), ("b", 3), ("c", 5)]


def test_a_stage_that_needs_more_than_stored_rows_or_leaves_half_a_table_is_refused(packed):
    before = digests(packed)
    for names, words in (
        (
            ["rollouts"],
            "'rollouts' cannot be computed from stored rows alone; expected some of categories, activations",
        ),
        ([], "No stage"),
        (["importance"], "importance and resilience both fill the table importance"),
    ):
        with pytest.raises(AnchorscopeError, match=words):
            refresh(packed, names, ours(None))
    assert digests(packed) == before


def test_a_pack_that_does_not_say_its_study_is_left_as_it_is(packed, monkeypatch):
    before = digests(packed)

    def no_study(parameters):
        return refreshing.Study.model_validate_json("{}")

    monkeypatch.setattr(refreshing, "stored_study", no_study)
    with pytest.raises(AnchorscopeError, match="is not one of this version: name: Field required"):
        refresh(packed, ["evidence"], ours(None))
    assert digests(packed) == before


def test_the_stages_that_can_be_refreshed_stand_in_the_order_in_which_they_run():
    order = [stage.NAME for stage in STAGES]
    assert sorted(FILLS, key=order.index) == list(FILLS)


class Weights(Neighbours):
    """A stage that keeps weights which no pack holds, and one after it that finds them beside the study."""

    def compute(self, context, units):
        for finished in super().compute(context, units):
            own = folder_of(context.weights) / f"w{finished.unit.unit_id}"
            own.mkdir(parents=True)
            (own / "weights").write_text(finished.unit.unit_id)
            yield finished


class Readers(Neighbours):
    NAME = "geometry"

    def compute(self, context, units):
        self.found = [(folder_with(context.store.path, f"w{unit.unit_id}") / "weights").read_text() for unit in units]
        yield from (Finished(unit, {}) for unit in units)


def test_weights_that_no_pack_holds_are_found_by_later_stages_and_stay_where_the_pack_is_opened_from(
    packed, monkeypatch
):
    weights, readers = Weights(deaths=1), Readers(deaths=0)
    monkeypatch.setitem(FILLS, weights.NAME, (weights, ("neighbourhoods",)))
    monkeypatch.setitem(FILLS, readers.NAME, (readers, ()))
    with pytest.raises(KeyboardInterrupt):
        refresh(packed, [weights.NAME], ours(None))
    refresh(packed, [weights.NAME], ours(None))
    (kept,) = Path("stores").iterdir()
    assert kept.name == "quick.dictionaries" and len(list(kept.iterdir())) == 3
    refresh(packed, [readers.NAME], ours(None))
    assert readers.found == weights.computed


def test_dictionaries_are_read_from_beside_the_store_and_only_their_trainer_writes_elsewhere():
    """In a refresh, what came with the pack lies beside the store, and what is trained in the run's own folder."""
    stages = Path(refreshing.__file__).parent / "stages"
    writers = {path.stem for path in stages.glob("*.py") if "context.weights" in path.read_text(encoding="utf-8")}
    assert writers == {"saes", "null_pairs"}
