"""A pack whose derived tables are computed anew from its own rows, and all else stays byte for byte."""

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest

from backend.errors import AnchorscopeError
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import refresh as refreshing
from precompute.pipeline import run_row
from precompute.refresh import FILLS, refresh
from precompute.stages import STAGES, importance
from precompute.study import load_study
from precompute.terminal import ours
from tests import small_study

QUICK = Path(__file__).parents[2] / "studies" / "quick.toml"


def digests(folder: Path) -> dict[str, str]:
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}


@pytest.fixture
def packed(tmp_path) -> Path:
    """A small study that knows the study file it was run with, packed."""
    folder = StudyFolder(small_study.make(tmp_path / "small"))
    study = load_study(QUICK)
    with folder.writing("test") as writer:
        writer.add("runs", "r9", {"runs": [run_row("r9", "run", study.name, study.seed, study.model_dump_json())]})
        publish(writer)
    pack(folder.path, tmp_path / "pack")
    return tmp_path / "pack"


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


def test_a_stage_that_needs_more_than_stored_rows_or_leaves_half_a_table_is_refused(packed):
    before = digests(packed)
    for names, words in (
        (["sweep"], "'sweep' cannot be computed from stored rows alone; expected some of importance"),
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
