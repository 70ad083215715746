"""Every CoT is read by the models that can, with attention to each of its chunks suppressed: all of it, and by part."""

from contextlib import closing

import pandas as pd
import pytest

from backend.geometry.before_after import answer_span, tokens_read
from backend.influence.suppression import SuppressionError, chunk_influences, influences
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_row, run_study
from precompute.refresh import refresh
from precompute.rules import units_of
from precompute.stages import influence
from precompute.study import Study
from precompute.terminal import ours
from precompute.units import Context
from tests import steerable_study

PARTS = ["all", "layers 0-1", "layers 2-3", "head 3.1"]


@pytest.fixture(scope="module")
def study(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "seed": 1,
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0, 2]},
            "influence": {"layer_ranges": 2, "heads": ["3.1"]},
            "engine": {"workers": 1},
        }
    )


def with_influence(study: Study, **changed) -> Study:
    return study.model_copy(update={"influence": study.its_influence.model_copy(update=changed)})


@pytest.fixture(scope="module")
def finished(study, tiny, tmp_path_factory) -> StudyFolder:
    """The study, read once for all tests."""
    made = StudyFolder(steerable_study.make(tmp_path_factory.mktemp("read") / "s", tiny("llama")))
    run_study(study, made, stages=[influence])
    return made


def frame(path, sql: str) -> pd.DataFrame:
    with closing(Store(path)) as store:
        return store.frame(sql)


def asked(study: Study, folder: StudyFolder) -> list[str]:
    with closing(Store(folder.path)) as store:
        return [unit.key for unit in units_of(influence, Context(study, "r", store, print))]


def test_every_pair_of_chunks_is_there_once_for_each_part(finished):
    rows = frame(finished.path, "SELECT * FROM influences")
    of_chunks = frame(finished.path, "SELECT * FROM chunk_influences")
    sizes = frame(finished.path, "SELECT cot_id, count(*) AS n FROM chunks GROUP BY cot_id")["n"]
    assert set(rows["suppressed"]) == set(of_chunks["suppressed"]) == set(PARTS)
    assert len(rows) == len(PARTS) * sum(sizes * (sizes - 1) // 2) and len(of_chunks) == len(PARTS) * sum(sizes)
    assert (rows["kl"] > 0).all() and (rows["n_tokens"] > 0).all()
    whole, parts = (rows[(rows["suppressed"] == "all") == is_all]["kl"].mean() for is_all in (True, False))
    assert whole > parts


def test_its_rows_are_those_of_the_text_as_the_model_reads_it(finished, tiny):
    loaded = tiny("llama")
    with closing(Store(finished.path)) as store:
        cot = store.tokenised_cots()[0]
        chunks = store.chunks_of([cot["cot_id"]])[cot["cot_id"]]
    spans = {chunk["chunk_id"]: (chunk["token_start"], chunk["token_end"]) for chunk in chunks}
    answer = answer_span(loaded.tokenizer, cot)
    found = list(influences(loaded, tokens_read(loaded.tokenizer, cot), spans, answer))
    stored = frame(finished.path, "SELECT * FROM influences WHERE suppressed = 'all'")
    stored = stored.set_index(["source_chunk_id", "target_chunk_id"])
    for row in (row for one in found for row in one.rows):
        own = stored.loc[(row["source_chunk_id"], row["target_chunk_id"])]
        assert own["kl"] == pytest.approx(row["kl"]) and own["model_id"] == loaded.model_id
    of_chunks = frame(finished.path, "SELECT * FROM chunk_influences WHERE suppressed = 'all'").set_index("chunk_id")
    for row in chunk_influences(found):
        own = of_chunks.loc[row["chunk_id"]]
        for column in ("answer_kl", "noise", "out_influence", "in_influence", "last_reader"):
            assert (pd.isna(own[column]) and row[column] is None) or own[column] == pytest.approx(row[column])


def test_what_is_read_is_not_read_again_and_another_part_is(study, finished):
    before = asked(study, finished)
    assert len(before) == 2 and set(before) <= finished.ledger().keys(influence.NAME)
    assert not set(asked(with_influence(study, heads=()), finished)) & set(before)
    assert set(asked(with_influence(study, top=3, n_permutations=99), finished)) == set(before)
    assert len(asked(with_influence(study, cots=1), finished)) == 1
    assert asked(study.model_copy(update={"influence": None}), finished) == []


def test_a_head_that_is_not_there_is_refused(study, tiny, tmp_path):
    folder = StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))
    with pytest.raises(SuppressionError, match=r"head 3\.4"):
        run_study(with_influence(study, heads=("3.4",)), folder, stages=[influence])


def test_a_pack_is_read_from_its_stored_rows_alone(study, finished, tiny, tmp_path, monkeypatch):
    """What a model reads of a pack is what it reads of the study itself, bit for bit."""
    monkeypatch.chdir(tmp_path)
    unread = StudyFolder(steerable_study.make(tmp_path / "s", tiny("llama")))
    with unread.writing("test") as writer:
        writer.add("runs", "r9", {"runs": [run_row("r9", "run", study.name, study.seed, study.model_dump_json())]})
        publish(writer)
    pack(unread.path, tmp_path / "pack")
    made = refresh(tmp_path / "pack", ["influence"], ours(None))
    assert set(made) == {"influences", "chunk_influences", "runs"}
    again = frame(unpack(tmp_path / "pack", tmp_path / "again.duckdb"), "SELECT * FROM influences ORDER BY ALL")
    assert again.equals(frame(finished.path, "SELECT * FROM influences ORDER BY ALL"))
