"""What the keyboard does: each key is declared once, beside what it does, and stands on the sheet (`?`).

On which page a key does something is part of it; on any other page it does nothing, and is not on its sheet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.shell import selection
from backend.registry import Registry


@dataclass(frozen=True)
class Shortcut:
    name: str
    pressed: tuple[str, ...]
    words: str
    do: Callable[[str], None] | None  # with the key that was pressed; None: the browser does it
    page: str | None = None  # None: every page
    in_browser: Literal["walk", "search", "help"] | None = None
    shown: tuple[str, ...] | None = None  # on the sheet, where it is not every key

    @property
    def does(self) -> str:
        return self.in_browser or "python"


SHORTCUTS: Registry[Shortcut] = Registry("shortcut")


def declare(shortcut: Shortcut) -> Shortcut:
    """Raises AnchorscopeError where there is one of that name."""
    return SHORTCUTS.register(shortcut)


def on(page: str) -> list[Shortcut]:
    """The keys of a page."""
    return [one for one in SHORTCUTS.values() if one.page in (None, page)]


def press(page: str, key: str) -> None:
    """Do what the key does on the page; nothing where it does nothing."""
    for one in on(page):
        if key in one.pressed and one.do is not None:
            one.do(key)


declare(Shortcut("walk", ("j", "k"), "next and previous chunk of the chain", None, in_browser="walk"))
declare(Shortcut("search", ("/",), "search; in the Workspace, choose the chain", None, in_browser="search"))
declare(Shortcut("undo", ("u",), "undo the last choice", lambda key: selection.undo()))
declare(Shortcut("redo", ("U",), "redo what was undone", lambda key: selection.redo()))
declare(Shortcut("help", ("?",), "this sheet", None, in_browser="help"))
