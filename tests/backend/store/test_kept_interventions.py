"""Interventions that were asked for: kept at once, worked off pair by pair, and never lost."""

import contextlib
from datetime import datetime
from pathlib import Path

import pytest

from backend.schema.tables import TABLES
from backend.store.experiments import Experiments, NotKept
from backend.store.intervention_queries import Interventions, left
from backend.store.packed import pack, unpack
from backend.store.publish import is_published, publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.export import export_duckdb
from tests import small_study

ARMS = ("base", "changed")


def row(name: str, **values) -> dict:
    known = {
        "intervention_id": name,
        "created_at": datetime(2026, 1, 2),
        "operation": "zero",
        "features": [3],
        "problems": ["p1", "p2"],
        "n_samples": 1,
        "seed": 1,
    }
    return dict.fromkeys(TABLES["feature_interventions"].columns) | known | values


def arms(name: str, *ids: str) -> list[dict]:
    return [
        {"intervention_id": name, "model_id": "m", "arm": arm, "arm_id": own, "feature_sets": "[]", "null_id": None}
        for arm, own in zip(ARMS, ids, strict=True)
    ]


def sample(arm: str, problem: str, number: int = 0, **values) -> dict:
    known = {"arm_id": arm, "problem_id": problem, "sample": number, "model_id": "m", "seed": 2**62 + 1, "features": []}
    known["text"] = "naïve\x00🙂"
    return dict.fromkeys(TABLES["feature_intervention_samples"].columns) | known | values


def todo(study: Path) -> list:
    kept = Interventions(study)
    return left(kept.asked(), kept.arms(), kept.done())


@pytest.fixture
def study(tmp_path) -> Path:
    return small_study.make(tmp_path / "small", steering=False)


def test_asking_makes_work_and_keeping_samples_does_it(study):
    kept = Interventions(study)
    assert kept.ask(row("i1"), arms("i1", "ab", "ac")) and not kept.ask(row("i1"), arms("i1", "ab", "ac"))
    assert todo(study) == [("ab", "p1"), ("ac", "p1"), ("ab", "p2"), ("ac", "p2")]
    thought = {"arm_id": "ac", "problem_id": "p1", "sample": 1, "n_thinking": 5, "n_answer": 2, "thought": "closed"}
    kept.keep("ac", "p1", [sample("ac", "p1", 1, is_correct=True), sample("ac", "p1", 0, answer="7")], [thought])
    assert todo(study) == [("ab", "p1"), ("ab", "p2"), ("ac", "p2")] and kept.done() == {("ac", "p1")}
    found = kept.samples(["ac", "ab"])
    assert (
        found["sample"].tolist() == [0, 1]
        and found["seed"].tolist() == [2**62 + 1] * 2
        and found["text"][0] == "naïve\x00🙂"
    )
    assert found["is_correct"].isna().tolist() == [True, False]
    assert found["n_thinking"].isna().tolist() == [True, False] and found["n_answer"].tolist()[1] == 2
    assert kept.asked()["intervention_id"].tolist() == ["i1"] and kept.arms(["i1"])["arm_id"].tolist() == ["ab", "ac"]


def test_an_arm_that_two_interventions_share_is_done_once(study):
    kept = Interventions(study)
    kept.ask(row("i2", problems=["p2", "p3"], created_at=datetime(2026, 1, 3)), arms("i2", "ab", "ad"))
    kept.ask(row("i1"), arms("i1", "ab", "ac"))
    asked_first = [("ab", "p1"), ("ac", "p1"), ("ab", "p2"), ("ac", "p2")]
    assert todo(study) == [*asked_first, ("ad", "p2"), ("ab", "p3"), ("ad", "p3")]
    assert kept.asked()["intervention_id"].tolist() == ["i2", "i1"]
    kept.forget("i1")
    assert (
        todo(study) == [("ab", "p2"), ("ad", "p2"), ("ab", "p3"), ("ad", "p3")]
        and kept.arms()["intervention_id"].nunique() == 1
    )
    assert kept.ask(row("i1"), arms("i1", "ab", "ac")) and len(kept.asked()) == 2


def test_interventions_and_live_runs_do_not_meet_in_their_ledger(study):
    live = dict.fromkeys(TABLES["experiments"].columns) | {
        "experiment_id": "x1",
        "kind": "stream",
        "created_at": datetime(2026, 1, 2),
    }
    Interventions(study).ask(row("i1"), arms("i1", "ab", "ac"))
    Experiments(study).keep(live)
    Interventions(study).keep("ab", "p1", [sample("ab", "p1")])
    assert Experiments(study).history()["experiment_id"].tolist() == ["x1"] and len(Interventions(study).asked()) == 1
    assert Experiments(study).get("i1") is None


def test_what_is_kept_travels_with_the_study_and_can_be_gone_on_with(study, tmp_path):
    kept = Interventions(study)
    kept.ask(row("i1"), arms("i1", "ab", "ac"))
    thought = {"arm_id": "ab", "problem_id": "p1", "sample": 0, "n_thinking": 5, "n_answer": 2, "thought": "closed"}
    kept.keep("ab", "p1", [sample("ab", "p1")], [thought])
    assert not is_published(StudyFolder(study))
    with StudyFolder(study).writing("publish") as writer:
        assert publish(writer) == [] and is_published(StudyFolder(study))
    with contextlib.closing(Store(study)) as store:
        tables = [table for table in TABLES if table.startswith("feature_intervention")]
        assert [store.whole_table(table).num_rows for table in tables] == [1, 2, 1, 1]
    export_duckdb(study, tmp_path / "one.duckdb")
    pack(study, tmp_path / "pack")
    for portable in (tmp_path / "one.duckdb", unpack(tmp_path / "pack", tmp_path / "demo.duckdb")):
        there = Interventions(portable)
        assert todo(portable) == [("ac", "p1"), ("ab", "p2"), ("ac", "p2")] and there.samples(["ab"])[
            "seed"
        ].tolist() == [2**62 + 1]
        assert there.samples(["ab"])["n_thinking"].tolist() == [5]
        there.keep("ac", "p1", [sample("ac", "p1")])
        assert todo(portable) == [("ab", "p2"), ("ac", "p2")] and len(there.samples(["ab", "ac"])) == 2
        there.ask(row("i2", created_at=datetime(2026, 1, 3)), arms("i2", "ab", "ad"))
        assert there.asked()["intervention_id"].tolist() == ["i2", "i1"] and there.asked(["i1"])["problems"][
            0
        ].tolist() == ["p1", "p2"]
        there.forget("i1")
        assert there.asked()["intervention_id"].tolist() == ["i2"] and set(there.arms()["arm_id"]) == {"ab", "ad"}
    assert len(Interventions(study).asked()) == 1


def test_damaged_samples_are_work_again_once_that_is_noticed(study):
    kept = Interventions(study)
    kept.ask(row("i1", problems=["p1"]), arms("i1", "ab", "ac"))
    for arm in ("ab", "ac"):
        kept.keep(arm, "p1", [sample(arm, "p1")])
    assert todo(study) == []
    ledger = Experiments(study).folder
    line = ledger.ledger().live["intervention samples", "ab.p1"]
    (ledger.path / line.files[0].name).write_bytes(b"damaged")
    assert kept.samples(["ab", "ac"])["arm_id"].tolist() == ["ac"]
    with StudyFolder(study).writing("publish") as writer:
        assert [lost.key for lost in publish(writer)] == ["ab.p1"]
    assert todo(study) == [("ab", "p1")]


def test_what_cannot_be_kept_says_so_and_changes_nothing(study, tmp_path):
    kept = Interventions(study)
    with pytest.raises(ValueError, match="given with arm ab"):
        kept.keep("ab", "p1", [sample("ac", "p1")])
    (study / "experiments").write_text("no folder")
    with pytest.raises(NotKept, match="keep an intervention"):
        kept.ask(row("i1"), arms("i1", "ab", "ac"))
    assert kept.asked().empty and Interventions(tmp_path / "nothing").asked().empty
