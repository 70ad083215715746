"""What cannot be read is not damaged, what was lost can come back,
and a damaged generation never hides the one before."""

import errno
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from backend.store import store as stores
from backend.store.publish import digest_file, is_published, is_whole, left_out, publish
from backend.store.store import DamagedGeneration, NoStore, Store, generations_of
from backend.store.unit_files import DamagedFile, MissingFile, StudyFolder, UnreadableFile
from tests.backend.store.test_unit_files import add, problem

MACHINE = [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTDIR]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("made") / "study")
    add(folder, "a")
    republish(folder)
    add(folder, "b")
    republish(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> StudyFolder:
    """Two units, published twice: a generation and the one before."""
    return StudyFolder(shutil.copytree(made.path, tmp_path / "study"))


def republish(folder: StudyFolder) -> list[str]:
    with folder.writing("publish") as writer:
        return [line.key for line in publish(writer)]


def file_of(folder: StudyFolder, key: str) -> Path:
    return folder.path / folder.ledger().live["problems", key].files[0].name


def ids(folder: StudyFolder) -> list[str]:
    store = Store(folder.path)
    try:
        return store.frame("SELECT problem_id FROM problems ORDER BY ALL")["problem_id"].tolist()
    finally:
        store.close()


def refuse_to_read(monkeypatch, number: int, where: str = ".parquet") -> None:
    real = Path.read_bytes

    def refused(self):
        if self.name.endswith(where):
            raise OSError(number, os.strerror(number), str(self))
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", refused)


@pytest.mark.parametrize("number", MACHINE, ids=errno.errorcode.get)
def test_what_the_machine_does_not_let_be_read_stops_the_work_and_records_nothing(folder, monkeypatch, number):
    before = folder.manifest.read_bytes()
    refuse_to_read(monkeypatch, number)
    with pytest.raises(UnreadableFile, match=r"cannot be read: .*Nothing was recorded"):
        republish(folder)
    monkeypatch.undo()
    assert folder.manifest.read_bytes() == before
    assert not list(folder.generations.glob("building-*")) and len(generations_of(folder.path)) == 2


@pytest.mark.parametrize("how", ["gone", "empty mount point", "a file", "a link to nowhere"])
def test_a_folder_of_units_that_is_not_mounted_stops_everything_that_writes(folder, tmp_path, how):
    before = folder.manifest.read_bytes()
    shutil.move(folder.path / "units", tmp_path / "elsewhere")
    place = folder.path / "units"
    {
        "gone": lambda: None,
        "empty mount point": place.mkdir,
        "a file": place.touch,
        "a link to nowhere": lambda: place.symlink_to(tmp_path / "nowhere"),
    }[how]()
    with pytest.raises(UnreadableFile, match="mounted"):
        republish(folder)
    with pytest.raises(UnreadableFile), folder.writing("run") as writer:  # a run must not begin beside it
        writer.add("problems", "c@1", {"problems": [problem("c")]})
    assert folder.manifest.read_bytes() == before and ids(folder) == ["a", "b"]


def test_the_folder_of_one_stage_that_is_gone_is_no_lost_file(folder, tmp_path):
    with folder.writing("run") as writer:
        writer.add("others", "c@1", {"problems": [problem("c")]})
    before = folder.manifest.read_bytes()
    shutil.move(folder.path / "units" / "others", tmp_path / "elsewhere")
    with pytest.raises(UnreadableFile, match=r"units/others is gone"):
        republish(folder)
    assert folder.manifest.read_bytes() == before
    shutil.move(tmp_path / "elsewhere", folder.path / "units" / "others")
    assert republish(folder) == [] and ids(folder) == ["a", "b", "c"]


def test_one_missing_file_is_said_is_work_again_and_counts_as_before_when_it_is_back(folder):
    file, line = file_of(folder, "a@1"), folder.ledger().live["problems", "a@1"]
    raw = file.read_bytes()
    file.unlink()
    with pytest.raises(MissingFile):
        folder.read(line.files[0])
    assert left_out(folder, line).startswith("missing unit a@1")
    assert republish(folder) == ["a@1"]
    assert folder.ledger().keys("problems") == {"b@1"} and ids(folder) == ["b"]
    file.write_bytes(raw)
    assert republish(folder) == []
    assert folder.ledger().keys("problems") == {"a@1", "b@1"} and ids(folder) == ["a", "b"]


def test_a_damaged_file_that_a_backup_restores_counts_again(folder):
    file, line = file_of(folder, "a@1"), folder.ledger().live["problems", "a@1"]
    raw = file.read_bytes()
    file.write_bytes(raw[:-20])
    assert left_out(folder, line).startswith("damaged unit a@1")
    assert republish(folder) == ["a@1"] and republish(folder) == []
    assert folder.ledger().keys("problems") == {"b@1"}
    file.write_bytes(raw)
    with folder.writing("run") as writer:
        assert [line.key for line in writer.found] == ["a@1"]


def test_a_unit_that_was_lost_and_computed_again_is_the_new_one(folder):
    file = file_of(folder, "a@1")
    raw = file.read_bytes()
    file.write_bytes(b"")
    republish(folder)
    with folder.writing("run") as writer:
        writer.add("problems", "a@1", {"problems": [problem("a", "2 + 2?")]})
    file.write_bytes(raw)
    with folder.writing("run") as writer:
        assert writer.found == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "17",
        '"unit"',
        "{}",
        '{"kind": "unit"}',
        '{"kind": "forgotten", "stage": "s", "keys": []}',
        "[" * 100_000,
        '{"kind": "unit", "stage": "s", "key": "k", "schema": 1, "files": 5}',
        '{"kind": "lost", "stage": "s", "keys": 5}',
        '{"kind": "unit", "stage": "s", "key": "k", "schema": NaN, "files": []}',
        '{"kind": ["unit"]}',
        "\x00\x01\x02",
    ],
)
def test_a_manifest_line_that_is_none_is_named_with_what_to_do(folder, line):
    with folder.manifest.open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(DamagedFile, match=r"manifest.jsonl, line 3: .*delete this line"):
        folder.ledger()


GARBAGE = {
    "empty": b"",
    "spaces": b"  \n",
    "binary": bytes(range(256)),
    "another file": b"../../../etc/passwd\n",
    "zeros": b"\0" * 50,
    "endless": b"gen-" + b"9" * 100_000,
    "a name that is none": b"gen-abc.duckdb",
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_pointer_that_says_nothing_leaves_the_newest_generation_with_a_word_and_a_run_mends_it(folder, content):
    folder.pointer.write_bytes(content)
    store = Store(folder.path)
    assert "does not say which results are the newest" in store.older
    store.close()
    assert not is_published(folder)


def test_publishing_makes_the_pointer_whole(folder):
    folder.pointer.write_bytes(b"")
    republish(folder)
    assert is_published(folder)


@pytest.mark.parametrize("keep", [0, 8192, 300_000])
def test_a_generation_that_was_cut_is_noticed_and_the_one_before_is_shown_with_a_word(folder, keep):
    newest = generations_of(folder.path)[0]
    newest.write_bytes(newest.read_bytes()[:keep])
    assert not is_published(folder)
    try:
        assert ids(folder) == ["a"]
    except (
        DamagedGeneration
    ):  # DuckDB met the end of the file in the middle of a query: the next time, the one before is open
        assert ids(folder) == ["a"]
    store = Store(folder.path)
    assert (
        f"newest results of this study are damaged ({newest.name})" in store.older and "nothing is lost" in store.older
    )
    store.close()
    republish(folder)
    assert is_published(folder) and ids(folder) == ["a", "b"]


def test_a_garbled_block_is_noticed_by_a_run_and_by_whoever_reads_it(folder):
    newest = generations_of(folder.path)[0]
    raw = bytearray(newest.read_bytes())
    for place in range(12_288 + 64, len(raw), 4096):  # behind the headers
        raw[place : place + 16] = bytes(16) if raw[place : place + 16] != bytes(16) else b"\xff" * 16
    newest.write_bytes(raw)
    assert not is_whole(newest) and not is_published(folder)
    for _ in range(2):
        try:
            assert ids(folder) == ["a"]
            break
        except DamagedGeneration:
            continue
    assert Store(folder.path).older


def test_the_digest_is_of_the_file_and_goes_with_it(folder):
    newest, before = generations_of(folder.path)
    assert is_whole(newest) and is_whole(before)
    republish(folder)
    republish(folder)
    assert not before.exists() and not digest_file(before).exists()


def test_a_query_of_ours_that_is_wrong_is_no_damage(folder):
    store = Store(folder.path)
    with pytest.raises(duckdb.Error):
        store.frame("SELECT nothing FROM nowhere")
    assert stores._as_it_is(store.generation) not in stores._known_damage and store.older is None
    store.close()


def test_where_no_generation_can_be_opened_the_command_that_rebuilds_is_said(folder):
    for file in generations_of(folder.path):
        file.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(NoStore, match="python -m precompute publish"):
        Store(folder.path)
    assert republish(folder) == [] and ids(folder) == ["a", "b"]
