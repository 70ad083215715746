"""Anchorscope from a notebook: `open_study` opens a study for reading."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.store.store import Store

__version__ = "0.1.0"
__all__ = ["open_study"]


def open_study(study: str | Path | None = None) -> "Store":
    """A study opened for reading: by its name, by the path of its folder or portable file, or the shipped demo.

    Names are those of `stores/` here, of ANCHORSCOPE_STORES, and `demo`. The answer has a method for each question that
    the dashboard asks (`help` lists them), and `frame(sql)` for one of your own; both give pandas frames.
    Raises NoStore, which says what studies there are.
    """
    from backend.store.known import open_study as opened

    return opened(study)
