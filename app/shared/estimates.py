"""Estimates in words."""

from app.shell.numbers import interval, number, small
from backend.findings.finding import Number


def in_words(one: Number) -> str:
    """A number with its interval, its control, n, and how it is told from chance."""
    unit = f" {one.unit}" if one.unit else ""
    said = [f"{one.label}: {number(one.value)}{unit}"]
    said += [f"95 % {interval(one.low, one.high)}"] if one.low == one.low else []
    said += [] if one.control is None else [f"control {number(one.control)}"]
    said += [f"n = {one.n}"]
    said += [] if one.q is None else [f"q = {small(one.q)}"]
    said += [] if one.p is None else [f"p = {small(one.p)}"]
    return " · ".join(said).replace("-", "−")
