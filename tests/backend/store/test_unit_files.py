"""Unit files and the manifest: what is finished stays, what is cut or damaged is work to do again."""

import json
import threading
import time

import pyarrow.parquet as pq
import pytest

from backend.errors import AnchorscopeError
from backend.store.unit_files import DamagedFile, StudyBusy, StudyFolder, arrow_rows


def problem(name: str, question: str = "1 + 1?") -> dict:
    return {
        "problem_id": name,
        "source": "test",
        "source_key": name,
        "level": None,
        "difficulty": None,
        "question": question,
        "answer": "2",
        "solution": None,
    }


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def add(folder: StudyFolder, *names: str) -> None:
    with folder.writing("test") as writer:
        for name in names:
            writer.add("problems", f"{name}@1", {"problems": [problem(name)]}, provenance={"seed": 7})


def test_a_finished_unit_is_in_the_ledger_and_its_rows_come_back(folder):
    add(folder, "a")
    (line,) = folder.ledger().live.values()
    assert folder.read(line.files[0]).to_pylist() == [problem("a")]


def test_a_unit_file_says_how_it_was_made(folder):
    add(folder, "a")
    (line,) = folder.ledger().live.values()
    metadata = json.loads(pq.read_schema(folder.path / line.files[0].name).metadata[b"anchorscope"])
    assert metadata["seed"] == 7 and metadata["schema_version"] == line.schema and metadata["key"] == "a@1"


def test_a_line_cut_by_a_crash_is_dropped_and_the_next_line_starts_clean(folder):
    add(folder, "a", "b")
    raw = folder.manifest.read_bytes()
    folder.manifest.write_bytes(raw[:-10])
    assert folder.ledger().keys("problems") == {"a@1"}
    add(folder, "c")
    assert folder.ledger().keys("problems") == {"a@1", "c@1"}


def test_a_damaged_line_in_the_middle_is_named(folder):
    add(folder, "a", "b")
    lines = folder.manifest.read_text().splitlines()
    folder.manifest.write_text("\n".join(["{broken", *lines[1:], ""]))
    with pytest.raises(DamagedFile, match=r"manifest.jsonl, line 1"):
        folder.ledger()


def test_one_flipped_bit_in_a_unit_file_is_noticed(folder):
    add(folder, "a")
    (line,) = folder.ledger().live.values()
    path = folder.path / line.files[0].name
    raw = bytearray(path.read_bytes())
    for place in range(4, 200, 7):
        raw[place] ^= 1
        path.write_bytes(raw)
        with pytest.raises(DamagedFile, match="damaged"):
            folder.read(line.files[0])
        raw[place] ^= 1


def test_a_second_writer_is_told_who_holds_the_study(folder):
    with (
        folder.writing("run quick"),
        pytest.raises(StudyBusy, match=r"process \d+ on .*run quick.*--wait"),
        folder.writing("another"),
    ):
        pass
    assert folder.holder() is None


def test_the_holder_is_known_while_it_writes(folder):
    with folder.writing("run quick"):
        assert folder.holder()["command"] == "run quick"


def test_units_no_longer_asked_for_are_hidden_and_come_back_without_being_computed(folder):
    add(folder, "a", "b")
    with folder.writing("test") as writer:
        assert writer.keep_only("problems", {"b@1", "c@1"}) == (1, 0)
        assert writer.ledger.keys("problems") == {"b@1"}
        assert writer.keep_only("problems", {"a@1", "b@1"}) == (0, 1)
    assert folder.ledger().keys("problems") == {"a@1", "b@1"}


def test_the_files_of_a_unit_stay_whole_when_it_is_added_anew(folder):
    add(folder, "a")
    (before,) = folder.ledger().live.values()
    with folder.writing("test") as writer:
        writer.add("problems", "a@1", {"problems": [problem("a", "2 + 2?")]})
    (after,) = folder.ledger().live.values()
    assert [folder.read(line.files[0])["question"].to_pylist() for line in (before, after)] == [["1 + 1?"], ["2 + 2?"]]


def test_the_size_of_the_manifest_counts_whole_lines_alone(folder):
    assert folder.manifest_bytes() == 0
    add(folder, "a")
    size = folder.manifest_bytes()
    with open(folder.manifest, "a") as handle:
        handle.write('{"kind": "un')
    assert folder.manifest_bytes() == size == folder.manifest.stat().st_size - 12


def test_rows_with_missing_or_unknown_columns_are_refused_by_name():
    row = problem("a")
    row["colour"] = row.pop("level")
    with pytest.raises(AnchorscopeError, match=r"missing columns \['level'\], unknown columns \['colour'\]"):
        arrow_rows("problems", [row])


def test_unknown_values_are_null_not_zero():
    table = arrow_rows("problems", [problem("a")])
    assert table["level"].null_count == 1
    nan = {
        "problem_id": "p",
        "model_id": "m",
        "prompt_name": "boxed",
        "n": 0,
        "n_correct": 0,
        "accuracy": float("nan"),
        "ci_low": None,
        "ci_high": None,
        "candidate": None,
    }
    assert arrow_rows("problem_accuracy", [nan])["accuracy"].null_count == 1


def test_a_patient_writer_is_refused_only_after_its_patience(folder):
    with folder.writing("first"):
        started = time.monotonic()
        with pytest.raises(StudyBusy), folder.writing("second", patience=0.2):
            pass
        assert time.monotonic() - started >= 0.2


def test_a_writer_that_waits_starts_when_the_other_is_done(folder):
    begun = threading.Event()
    order = []

    def first() -> None:
        with folder.writing("first"):
            begun.set()
            time.sleep(0.3)
            order.append("first ends")

    holder = threading.Thread(target=first)
    holder.start()
    begun.wait()
    with folder.writing("second", wait=True):
        order.append("second starts")
    holder.join()
    assert order == ["first ends", "second starts"]
