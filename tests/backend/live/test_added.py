"""Rollouts that were drawn later count among the study's own as soon as they are kept, and the next drawing goes on
where they end.
"""

import os
import shutil
from contextlib import closing
from dataclasses import replace

import duckdb
import pytest

from backend.live.added import keeper, rows_of
from backend.live.resample import resample_request
from backend.live.service import Status
from backend.store.experiments import Experiments, NotKept
from backend.store.publish import is_published, publish
from backend.store.store import Store, generation_of
from backend.store.unit_files import StudyFolder
from tests import steerable_study
from tests.backend.live.test_resample import Equal, encode, result_of, scripted

BATCH = 3


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    return steerable_study.make(tmp_path_factory.mktemp("study") / "s", tiny("llama"))


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "s")


@pytest.fixture
def portable(made, tmp_path):
    return shutil.copyfile(generation_of(made), tmp_path / "s.duckdb")


def by_number(chunk, number):
    return f"Something else. The answer is {42 if number % 2 else 8}."


def draw(path, *, most=BATCH, state="finished", write=by_number):
    """One *Resample now* at the first chunk, up to its end; the request and what came of it."""
    from backend.live.resample import followed

    with closing(Store(path)) as store:
        chunk = store.frame("SELECT min(chunk_id) AS c FROM chunks")["c"].item()
        request = resample_request(store, chunk, half_width=1e-6, most=most, batch=BATCH)
    found = result_of(followed(request, scripted(write), Equal, encode))
    return request, Status("x", state, None, found, None, None, None, 1.0)


def numbers(path, chunk) -> list[tuple[int, bool]]:
    """Number, and whether it was drawn later, of the chunk's rollouts."""
    with closing(Store(path)) as store:
        rows = store.rollouts_at(chunk).sort_values("sample")
        return list(zip(rows["sample"].tolist(), rows["added_id"].notna().tolist(), strict=True))


@pytest.mark.parametrize("kind", ["study", "portable"])
def test_they_count_at_once_and_a_second_drawing_goes_on_where_they_end(kind, request):
    path = request.getfixturevalue(kind)
    asked, status = draw(path)
    keeper(path, "m", asked)(status)
    own = [(k, False) for k in range(3)]
    assert numbers(path, asked.chunk_id) == [*own, *((k, True) for k in range(3, 6))]
    again, status = draw(path)
    assert [row["sample"] for row in status.result["samples"]] == [6, 7, 8] * 2
    assert (status.result["looks"][0]["n_all"], status.result["looks"][-1]["n_all"]) == (12, 18)
    keeper(path, "m", again)(status)
    assert numbers(path, asked.chunk_id) == [*own, *((k, True) for k in range(3, 9))]
    with closing(Store(path)) as store:
        drawings = store.added_at(asked.chunk_id)
        assert drawings["n"].tolist() == [6, 6] and drawings["n_here"].tolist() == [3, 3]
        assert len(store.added_rollouts(drawings["added_id"].iloc[0])) == 6
        assert store.answers_in_cot(asked.chunk_id.rpartition("_")[0])["n_added"].tolist()[:3] == [6, 6, 0]


def test_beside_a_store_of_before_there_were_such_tables_they_count_too(portable):
    with duckdb.connect(str(portable)) as connection:
        for table in ("added", "added_rollouts"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
    asked, status = draw(portable)
    keeper(portable, "m", asked)(status)
    assert numbers(portable, asked.chunk_id)[-1] == (5, True)
    with closing(Store(portable)) as store:
        assert len(store.frame("SELECT * FROM added")) == 1 and len(store.frame("SELECT * FROM added_rollouts")) == 6


def test_publishing_takes_them_in_and_counts_none_twice(study):
    asked, status = draw(study)
    keeper(study, "m", asked)(status)
    before = numbers(study, asked.chunk_id)
    assert not is_published(StudyFolder(study))
    with StudyFolder(study).writing("test") as writer:
        publish(writer)
    assert is_published(StudyFolder(study)) and numbers(study, asked.chunk_id) == before
    shutil.rmtree(study / "experiments")
    assert numbers(study, asked.chunk_id) == before


def test_the_study_s_own_counts_where_a_larger_n_has_drawn_the_same_number(study):
    asked, status = draw(study)
    keeper(study, "m", asked)(status)
    with closing(Store(study)) as store:
        row = store.arrow("SELECT * FROM rollouts ORDER BY rollout_id LIMIT 1").to_pylist()[0]
    _, (first, *_) = rows_of("m", asked, status)
    with StudyFolder(study).writing("test") as writer:
        writer.add("rollouts", "larger", {"rollouts": [row | {"rollout_id": first["rollout_id"], "sample": 3}]})
        publish(writer)
    assert numbers(study, asked.chunk_id) == [(0, False), (1, False), (2, False), (3, False), (4, True), (5, True)]


def test_importance_is_due_again_for_that_chain_alone(study):
    with closing(Store(study)) as store:
        before = {row["cot_id"]: row["digest"] for row in store.answers_by_rollout()}
    asked, status = draw(study)
    keeper(study, "m", asked)(status)
    with closing(Store(study)) as store:
        after = {row["cot_id"]: row["digest"] for row in store.answers_by_rollout()}
    own = asked.chunk_id.rpartition("_")[0]
    assert [before[cot] == after[cot] for cot in sorted(before)] == [cot != own for cot in sorted(before)]


def test_the_seeds_are_those_of_the_study_and_all_that_shaped_them_is_kept(study):
    asked, status = draw(study)
    drawing, rows = rows_of("m", asked, status)
    assert {row["seed"] for row in rows} == {3, 4, 5} and drawing["seed"] == 1  # scripted: the number itself
    assert [row["rollout_id"][-5:] for row in rows] == ["r0003", "r0004", "r0005"] * 2
    assert '"temperature": 1.0' in drawing["parameters"] and drawing["stopped"] == "most"


def test_of_a_stopped_drawing_whole_batches_are_kept_and_of_one_that_gave_none_nothing(study):
    asked, status = draw(study, state="stopped")
    del status.result["stopped"]
    drawing, rows = rows_of("m", asked, status)
    assert drawing["stopped"] == "person" and len(rows) == 2 * BATCH
    assert rows_of("m", asked, replace(status, result={"looks": [], "samples": []})) is None
    keeper(study, "m", asked)(replace(status, result={}))
    assert len(numbers(study, asked.chunk_id)) == 3


def test_what_is_kept_in_halves_is_refused_whole(study):
    drawing, rows = rows_of("m", *draw(study))
    with pytest.raises(ValueError, match="two rollouts"):
        Experiments(study).add_rollouts(drawing, [*rows, rows[0]])
    with pytest.raises(ValueError, match="given with drawing"):
        Experiments(study).add_rollouts(drawing, [rows[0] | {"added_id": "x0"}])
    with closing(Store(study)) as store:
        assert store.frame("SELECT * FROM added").empty and store.frame("SELECT * FROM added_rollouts").empty


def test_where_nothing_can_be_written_it_is_said_before_anything_is_drawn_why_and_how(portable, monkeypatch):
    assert Experiments(portable).why_not_kept() is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    why = Experiments(portable).why_not_kept()
    assert str(portable.parent) in why and "read-only" in why and "copy the study" in why


def test_a_ledger_that_cannot_be_made_says_why_and_how(portable):
    portable.with_suffix(".experiments").write_text("a file is in its place")
    asked, status = draw(portable)
    with pytest.raises(NotKept, match="cannot be written"):
        keeper(portable, "m", asked)(status)
