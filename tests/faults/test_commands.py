"""The machine's faults and interrupts, met by real commands: one sentence, an exit code, and everything that was
finished kept.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.store.publish import publish
from backend.store.store import Store, generations_of
from backend.store.unit_files import StudyFolder
from tests.backend.store.test_unit_files import add

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    add(folder, "a", "b")
    with folder.writing("publish") as writer:
        publish(writer)
    add(folder, "c")
    return folder


def hears_ctrl_c() -> None:
    """A shell that starts the tests in the background, or nohup, has them ignore some signals,
    and so what they start."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def command(*arguments: str, **how) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "precompute", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **how,
    )


def one_sentence(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    assert "Traceback" not in said and len(lines) == 1 and lines[0].startswith("error: "), said
    return lines[0]


def failing(number: int, *arguments: str, at: str = "fsync") -> subprocess.Popen:
    """The command on a machine whose `os.fsync` (or another function of os) says so:
    root is refused nothing for real."""
    code = (
        "import os, sys\n"
        f"def refuse(*_, **__): raise OSError({number}, os.strerror({number}), '/study/file')\n"
        f"os.{at} = refuse\n"
        "from precompute.cli import main\n"
        f"sys.argv = ['precompute', *{list(arguments)!r}]\n"
        "sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_files_that_may_not_grow_are_said_and_leave_what_was_there(folder):
    before = folder.manifest.read_bytes()
    process = command(
        "publish", str(folder.path), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    )
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the same command goes on" in one_sentence(said)
    assert folder.manifest.read_bytes() == before and not list(folder.generations.glob("building-*"))
    store = Store(folder.path)
    assert len(store.frame("SELECT 1 FROM problems")) == 2
    store.close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full (No space left on device: /study/file). Free space there."),
        (errno.EROFS, "The file system is read-only"),
    ],
)
def test_a_full_or_read_only_disk_is_one_sentence_and_the_same_command_goes_on(folder, number, words):
    process = failing(number, "publish", str(folder.path))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and words in one_sentence(said)
    with folder.writing("publish") as writer:
        assert publish(writer) == []
    assert len(generations_of(folder.path)) == 2


def test_on_a_full_file_system_the_command_ends_in_a_sentence_and_goes_on_when_there_is_room(folder, tmp_path):
    """A real one, where this machine lets a test mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        process = command("export", str(folder.path), "--duckdb", str(small / "one.duckdb"))
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1 and "The disk is full" in one_sentence(said)
        assert not (small / "one.duckdb").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_has_its_exit_code_and_says_what_is_kept(folder, number):
    with folder.writing("a long run"):
        process = command("publish", str(folder.path), "--wait", preexec_fn=hears_ctrl_c)
        line = process.stderr.readline()
        assert line.startswith("waiting: ") and "a long run" in line
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.strip() == "Stopped. What was finished is kept; the same command continues."


def test_an_interrupted_run_says_how_many_units_are_kept(tmp_path):
    code = (
        "import sys, time\n"
        "from tests.precompute import test_kills as k\n"
        "import precompute.stages, precompute.cli\n"
        "k.N_UNITS = 100_000\n"
        "precompute.stages.STAGES = (k.Ask,)\n"
        "sys.argv = ['precompute', 'run', sys.argv[1], '--store', sys.argv[2]]\n"
        "sys.exit(precompute.cli.main())"
    )
    file = tmp_path / "study.toml"
    file.write_text('name = "s"\n[[models]]\nname = "none"\n[problems]\nper_level = 1\n[sweep]\nlayers = [0]\n')
    folder = StudyFolder(tmp_path / "s")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file), str(folder.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while not folder.manifest.exists() or len(folder.ledger().keys("problems")) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    kept = len(folder.ledger().keys("problems"))
    assert process.returncode == 130, said
    assert f"interrupted at {kept} of 100000 units; {kept} are kept" in " ".join(out.split())
    assert "Stopped. What was finished is kept" in said
