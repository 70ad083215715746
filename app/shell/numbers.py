"""Numbers as words: unknown is said to be unknown."""

import pandas as pd


def number(value: float | None) -> str:
    """Three significant digits; a real zero is "0", unknown is "unknown"."""
    if pd.isna(value):
        return "unknown"
    return "0" if value == 0 else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    return "unknown" if pd.isna(low) or pd.isna(high) else f"[{number(low)}, {number(high)}]"


def range_of(low: float | None, high: float | None) -> str | None:
    """The same in a cell of a table, which is empty where it is unknown."""
    return None if pd.isna(low) or pd.isna(high) else interval(low, high)


def small(p: float | None) -> str:
    """A p or q with two digits."""
    return "unknown" if p is None or pd.isna(p) else f"{p:.2g}"


def count(n: float | None) -> str:
    return "unknown" if n is None or pd.isna(n) else str(int(n))
