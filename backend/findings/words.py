"""Numbers and names as findings say them."""

import re

import pandas as pd

from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.models.names import short_names
from backend.plain import plain
from backend.store.registered import words_of
from backend.store.store import Store


def number(value: float | None) -> str:
    """Three significant digits, a true minus; "unknown" where it is."""
    if value is None or pd.isna(value):
        return "unknown"
    return "0" if value == 0 else f"{value:.3g}".replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    return "[unknown]" if pd.isna(low) or pd.isna(high) else f"[{number(low)}, {number(high)}]"


def some(n: int, what: str) -> str:
    """ "1 chunk", "3 chunks"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def line(text: object, most: int = 160) -> str:
    """A text of the study on one line."""
    flat = re.sub(r"\s+", " ", plain(str(text))).strip()
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"


def direction(kind: str) -> str:
    """What a kind of direction is called."""
    found = DIRECTION_KINDS.get(kind)
    said = words_of("direction", kind)
    return found.words if found else said.label if said else kind


def models(store: Store) -> dict[str, str]:
    """What each model is called, by its id."""
    return short_names(store.models())
