"""`make run` in small: stand-ins for the dashboard and for the study's commands,
and a Ctrl-C as a terminal sends it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_START = (
    "import json, sys; from pathlib import Path; from app.shell.start import run\n"
    "dashboard, background, log = json.loads(sys.argv[1])\n"
    "sys.exit(run(dashboard, background, Path(log)))"
)
_WAITS = (  # until Ctrl-C, which it counts
    "import pathlib, sys, time\n"
    "for k in range(9):\n"
    "    try:\n"
    "        pathlib.Path(sys.argv[1]).write_text(str(k))\n"
    "        time.sleep(30 if k == 0 else 0.5)\n"
    "        break\n"
    "    except KeyboardInterrupt:\n"
    "        pass\n"
)


def waits(heard: Path) -> list[str]:
    return [sys.executable, "-c", _WAITS, str(heard)]


def code(source: str) -> list[str]:
    return [sys.executable, "-c", source]


@pytest.fixture
def started(tmp_path):
    """`started(dashboard, *background)`: a process group of its own, as `make run` is in a terminal."""
    running: list[subprocess.Popen] = []

    def start(dashboard: list[str], *background: list[str]) -> subprocess.Popen:
        asked = json.dumps([dashboard, background, str(tmp_path / "stores" / "run.log")])
        command = [sys.executable, "-c", _START, asked]
        running.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.stderr.close()


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_ctrl_c_stops_both_and_each_hears_it_once(started, tmp_path, number):
    dashboard, study, never = tmp_path / "dashboard", tmp_path / "study", tmp_path / "never"
    process = started(waits(dashboard), waits(study), waits(never))
    until(lambda: dashboard.exists() and study.exists())
    os.killpg(process.pid, number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert (dashboard.read_text(), study.read_text()) == ("1", "1")
    assert not never.exists()
    assert "the same command goes on" in said and "could not be computed" not in said


def test_what_ended_the_study_is_said_in_the_terminal_and_the_dashboard_goes_on(started, tmp_path):
    dashboard, never = tmp_path / "dashboard", tmp_path / "never"
    fails = code("import sys; print('fetching'); sys.exit('error: the wheel could not be downloaded')")
    process = started(waits(dashboard), fails, waits(never))
    said = "".join(iter(process.stderr.readline, "    error: the wheel could not be downloaded\n"))
    assert "The study could not be computed" in said and "ended with code 1" in said and "    fetching\n" in said
    until(dashboard.exists)
    assert process.poll() is None and not never.exists()
    assert (tmp_path / "stores" / "run.log").read_text() == "fetching\nerror: the wheel could not be downloaded\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130


def test_when_the_dashboard_ends_by_itself_the_study_is_stopped_and_its_code_is_the_answer(started, tmp_path):
    study = tmp_path / "study"
    dashboard = code(
        f"import pathlib, sys, time\nwhile not pathlib.Path({str(study)!r}).exists(): time.sleep(0.02)\nsys.exit(3)"
    )
    process = started(dashboard, waits(study))
    assert process.wait(30) == 3
    assert study.read_text() == "1"


def test_the_commands_run_one_after_the_other_and_their_end_is_said(started, tmp_path):
    dashboard = tmp_path / "dashboard"
    process = started(waits(dashboard), code("print('first')"), code("print('second')"))
    assert any("The study is computed" in line for line in iter(process.stderr.readline, ""))
    assert (tmp_path / "stores" / "run.log").read_text() == "first\nsecond\n"
    until(dashboard.exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
