"""Small state files may hold anything: no reader falls over, and nothing in them is taken for what it is not."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import psutil
import pytest

from backend.store import labels
from backend.store.packed import DamagedPack, _read_about
from backend.store.progress import Progress, read_progress, write_progress
from backend.store.state import parsed, record_in
from backend.store.unit_files import Holder, StudyFolder

WHOLE = asdict(Progress("cots", 3, 12, 0.5, 18.0, "running", 1.0))
GARBAGE = {
    "empty": b"",
    "cut": b'{"stage": "cots", "do',
    "null": b"null",
    "list": b"[]",
    "number": b"17",
    "binary": bytes(range(256)),
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "utf-16": json.dumps(WHOLE).encode("utf-16"),
    "zeros": b"\0" * 4096,
    "huge": b" " * (3 << 20) + b"{}",
    "huge number": b'{"done": ' + b"9" * 10_000 + b"}",
    **{
        f"{name} = {value!r}": json.dumps(WHOLE | {name: value}).encode()
        for name, value in [
            ("done", "three"),
            ("done", -1),
            ("done", 1.5),
            ("done", None),
            ("total", [12]),
            ("total", 10**30),
            ("rate", float("nan")),
            ("rate", float("inf")),
            ("rate", "fast"),
            ("seconds_left", -5),
            ("seconds_left", {}),
            ("state", "dancing"),
            ("state", None),
            ("updated_at", "now"),
            ("updated_at", float("-inf")),
            ("stage", 5),
            ("stage", "x" * 100_000),
            ("pid", "me"),
            ("pid", True),
        ]
    },
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_progress_that_is_none_is_none(tmp_path, content):
    (tmp_path / "progress.json").write_bytes(content)
    assert read_progress(tmp_path) is None


def test_progress_that_is_no_file_is_none(tmp_path):
    assert read_progress(tmp_path / "nowhere") is None
    (tmp_path / "progress.json").mkdir()
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").rmdir()
    os.mkfifo(tmp_path / "progress.json")
    assert read_progress(tmp_path) is None


def test_progress_of_an_older_and_of_a_newer_version_is_read(tmp_path):
    old = {name: value for name, value in WHOLE.items() if name not in ("pid", "began", "host")}
    for written in (old, WHOLE | {"colour": "blue"}):
        (tmp_path / "progress.json").write_text(json.dumps(written))
        assert read_progress(tmp_path).done == 3


def test_what_cannot_be_shown_ends_no_run(tmp_path):
    write_progress(tmp_path / "nowhere", Progress(**WHOLE))  # the folder is gone, or the disk full: nothing is raised


def test_a_dead_run_is_dead_at_once_and_another_process_of_its_number_is_not_it():
    now = Progress("cots", 3, 12, 0.5, 18.0, "running", time.time()).by_this_process()
    assert not now.stale
    silent = Progress(**asdict(now) | {"updated_at": time.time() - 3600})
    assert not silent.stale  # a long unit: the process is there
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = Progress(**asdict(now) | {"pid": process.pid, "began": psutil.Process(process.pid).create_time()})
    assert not other.stale
    assert Progress(**asdict(other) | {"began": other.began - 100}).stale  # the number was given away anew
    process.kill()
    deadline = time.monotonic() + 10
    while not other.stale:  # also while nobody has waited for it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()
    process.stdin.close()
    assert other.stale


def test_of_a_run_on_another_machine_a_minute_of_silence_is_what_can_be_known():
    elsewhere = {**WHOLE, "pid": 1, "began": 5.0, "host": socket.gethostname() + "-2"}
    assert not Progress(**elsewhere | {"updated_at": time.time() - 30}).stale
    assert Progress(**elsewhere | {"updated_at": time.time() - 90}).stale


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", bytes(range(256)), b"[" * 200_000, b'{"pid": "x"}', b'{"pid": 5, "host": 7}']
)
def test_a_lock_file_may_hold_anything(tmp_path, content):
    folder = StudyFolder(tmp_path)
    folder.lock.write_bytes(content)
    assert folder.holder() is None
    with folder.writing("run quick"):
        assert folder.holder()["command"] == "run quick"
        folder.lock.write_bytes(content)
        assert folder.holder() == {}  # somebody; who, is unknown
    folder.lock.unlink()
    folder.lock.mkdir()
    assert folder.holder() is None


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "null",
        "[]",
        '{"dictionary_id": "d"}',
        "\x00\x01",
        '{"dictionary_id": "d", "feature": 1e400, "label": "x", "author": "me", "created_at": "2026"}',
        '{"dictionary_id": "d", "feature": true, "label": "x", "author": "me", "created_at": "2026"}',
        '{"dictionary_id": "d", "feature": -1, "label": "x", "author": "me", "created_at": "2026"}',
        (
            '{"dictionary_id": "d", "feature": 99999999999999999999999, "label": "x", "author": "me", "created_at":'
            ' "2026"}'
        ),
        '{"dictionary_id": "d", "feature": 1, "label": ["x"], "author": "me", "created_at": "2026"}',
    ],
)
def test_a_line_that_is_no_label_is_left_out_and_those_beside_it_are_read(tmp_path, line):
    labels.add_label(tmp_path, "d", 1, "first", "me")
    with labels.file_of(tmp_path).open("a") as file:
        file.write(line + "\n")
    labels.add_label(tmp_path, "d", 2, "second", "me")
    assert labels.labels(tmp_path, "d")["label"].tolist() == ["first", "second"]


def test_a_label_that_cannot_be_kept_is_a_sentence(tmp_path):
    with pytest.raises(labels.LabelError, match=r"was not kept. There is no such file or folder"):
        labels.add_label(tmp_path / "nowhere" / "study", "d", 1, "first", "me")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 200_000,
        bytes(range(256)),
        b'{"study": NaN}',
        b'{"tables": []}',
        b'{"study": "s", "schema_version": 1e999, "published_at": "p", "tables": {}}',
        b'{"study": "s", "schema_version": "one", "published_at": "p", "tables": {}}',
        b'{"study": "s", "schema_version": 1, "published_at": "p", "tables": {"cots": 5}}',
    ],
)
def test_a_pack_that_does_not_say_what_it_is_is_refused_by_name(tmp_path, content):
    (tmp_path / "about.json").write_bytes(content)
    with pytest.raises(DamagedPack, match=r"about\.json"):
        _read_about(tmp_path)


def test_the_reader_takes_what_is_whole():
    assert parsed('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    with pytest.raises(ValueError, match="NaN"):
        parsed("[NaN]")


def test_a_record_of_another_kind_is_none(tmp_path):
    (tmp_path / "f").write_text(json.dumps(WHOLE))
    assert record_in(tmp_path / "f", Holder) is None
