"""Where the project's own files are, and what its modules and commands are called: in the repository, and installed.

Installed, everything lies inside the package `anchorscope` (`hatch_build.py` puts it there), whose name then stands
before every module's.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # assets, studies, pages; only read: an installed package is not written to
_PACKAGE = __name__.removesuffix("backend.root")  # empty in the repository
INSTALLED = bool(_PACKAGE)

PRECOMPUTE = "anchorscope precompute" if INSTALLED else "python -m precompute"
RUN = "anchorscope run" if INSTALLED else "make run"
PYTHON = [sys.executable, *["-P"] * INSTALLED]  # -P: nothing is imported from the folder in which somebody stands
WORKING = None if INSTALLED else ROOT  # where processes of ours are started; None: where the person is


def module(name: str) -> str:
    """What a module of ours is called where this one is, for `python -m`."""
    return _PACKAGE + name


def own_stores() -> Path:
    """The folder for what is unpacked once for this machine: the repository's `stores`, or the person's data folder."""
    if not INSTALLED:
        return ROOT / "stores"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".local" / "share") / "anchorscope"
