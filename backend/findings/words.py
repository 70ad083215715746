"""Numbers and names as findings say them."""

import re

import pandas as pd

from backend.plain import plain
from backend.store.store import Store

_ROLES = {"base": "base", "distilled": "reasoner"}


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


def models(store: Store) -> dict[str, str]:
    """What each model is called, by its id: by its role where that is its alone."""
    rows = store.models()
    alone = set(rows["role"].value_counts().loc[lambda n: n == 1].index)
    return {
        row.model_id: _ROLES[row.role]
        if row.role in alone and row.role in _ROLES
        else line(str(row.name).rpartition("/")[2].removeprefix("embedded:"), 32)
        for row in rows.itertuples(index=False)
    }
