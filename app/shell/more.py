"""The door to the settings that few change: a page shows four controls at most, and the rest of each row behind it.

A view in a dock has no room for a row: all its controls stand behind one such door, beside its title.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.shell import selection
from app.shell.fields import Field

MOST = 4  # controls in sight on a page that is opened for the first time
LABEL = "More"


@dataclass
class _Corner:
    """Where the controls of a view in a dock are kept, once it has any."""

    head: DeltaGenerator
    door: DeltaGenerator | None = None

    def opened(self) -> DeltaGenerator:
        if self.door is None:
            self.door = self.head.popover(LABEL, type="tertiary")
        return self.door.container()


_CORNER: ContextVar[_Corner | None] = ContextVar("corner of the view that is drawn in a dock", default=None)


@contextmanager
def cornered(head: DeltaGenerator) -> Iterator[None]:
    """All controls that are drawn inside by `controls` and `more` stand behind one door in `head`."""
    before = _CORNER.set(_Corner(head))
    try:
        yield
    finally:
        _CORNER.reset(before)


def controls(**how: Any) -> DeltaGenerator:
    """A row of a view's controls."""
    if (corner := _CORNER.get()) is not None:
        return corner.opened()
    row: dict[str, Any] = {"horizontal": True, "vertical_alignment": "bottom", "gap": "small"}
    return st.container(**(row | how))


def more(*fields: Field) -> DeltaGenerator:
    """The popover for the controls of these choices; it says how many of them are not as they are at first."""
    if (corner := _CORNER.get()) is not None:
        return corner.opened()
    n_changed = sum(selection.get(field) not in (None, field.default) for field in fields)
    return st.popover(f"{LABEL} ({n_changed})" if n_changed else LABEL, icon=":material/tune:")
