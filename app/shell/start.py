"""`make run`: the dashboard at once, and beside it, in the same terminal, a study that is being computed.

1. The background commands run one after another, their output in a log. When one fails, its last words are shown in the
   terminal too: in a log alone nobody would look for them. The dashboard goes on.
2. When the dashboard ends, or somebody presses Ctrl-C or closes the terminal, both are interrupted, once, and waited
   for.

A shell could not do this: what it starts in the background ignores Ctrl-C for good. So each child has a process group
of its own, which Ctrl-C does not reach, and is interrupted from here.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from backend import faults
from backend.plain import plain
from backend.root import PRECOMPUTE, PYTHON, ROOT, module

Command = Sequence[str]
LOG = Path("stores/run.log")
_LAST_WORDS = 8  # lines
_PATIENCE = 20.0  # seconds for a process to end after an interrupt: what a study has finished is safe in any case


class Background:
    """Commands that run one after another while something else goes on."""

    def __init__(self, commands: Sequence[Command], log: Path):
        self._commands, self._log = commands, log
        self._changing, self._stopping = threading.Lock(), False
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = False
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        self._begun = True
        self._thread.start()

    def stop(self) -> None:
        """Interrupt what runs, start nothing more, and return when it has ended."""
        with self._changing:
            self._stopping = True
        if self._process is not None:
            interrupt(self._process)
        if self._begun:
            self._thread.join()

    def _run(self) -> None:
        with self._log.open("ab") as log:
            for command in self._commands:
                with self._changing:
                    if self._stopping:
                        return
                    self._process = start(command, stdout=log, stderr=subprocess.STDOUT)
                code = self._process.wait()
                if code and not self._stopping:
                    self._complain(command, code)
                if code or self._stopping:
                    return
        say("The study is computed: it is in the dashboard's list of studies.")

    def _complain(self, command: Command, code: int) -> None:
        words = self._log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-_LAST_WORDS:]
        say(
            f"The study could not be computed: `{shlex.join(command)}` ended with code {code}.\n"
            + "".join(f"    {line}\n" for line in words)
            + f"Everything it said is in {self._log}. The dashboard goes on; `{PRECOMPUTE} run` tries again."
        )


def run(dashboard: Command, background: Sequence[Command], log: Path) -> int:
    """Exit code of the dashboard, once both have ended; 128 + n after signal n."""
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    study = Background(background, log)
    shown = start(dashboard)
    try:
        try:
            study.start()
        except OSError as error:  # the dashboard is worth having without
            say(f"The study cannot be computed. {faults.in_words(error)}")
        return shown.wait()
    except KeyboardInterrupt:
        say("Stopping. What was finished is kept; the same command goes on.")
        return 128 + (came[0] if came else signal.SIGINT)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the end is under way: a second Ctrl-C would only cut it short
        interrupt(shown)
        study.stop()


def start(
    command: Command, stdout: IO[bytes] | int | None = None, stderr: IO[bytes] | int | None = None
) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, which no Ctrl-C reaches and nobody types to."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, stdout=stdout, stderr=stderr)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """One Ctrl-C for the process and its children, and a kill for one that does not listen."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)


def say(words: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        print(f"\n{plain(words)}\n", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {module('app.shell.start')}",
        description="Open the dashboard while a study is computed beside it.",
    )
    parser.add_argument("study", help="a study file, such as studies/quick.toml")
    parser.add_argument("--port", type=int, default=8501, help="of the dashboard, on this machine alone")
    asked = parser.parse_args()
    return beside(asked.study, asked.port)


def dashboard(port: int) -> list[str]:
    """The command that opens it."""
    streamlit = [*PYTHON, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
    return [*streamlit, "--server.port", str(port), "--server.showEmailPrompt", "false"]


def beside(study: str, port: int) -> int:
    """Open the dashboard while `study` is computed; the exit code."""
    nice = ["nice", "-n", "10"]  # the person in front of the dashboard comes first
    precompute = [*nice, *PYTHON, "-u", "-m", module("precompute")]
    print(f"Computing {plain(study)} in the background; it says how far it is in {LOG}. Ctrl-C stops both.", flush=True)
    return run(dashboard(port), [[*precompute, "model"], [*precompute, "run", study]], LOG)


if __name__ == "__main__":
    sys.exit(main())
