"""A course along a chain of thought in words: each number with its own interval, which says whose it is."""

import math

from app.shell.numbers import interval
from backend.statistics.changepoint import MIN_X, Changepoint
from backend.statistics.course import ORDERED_FROM, Course


def course_in_words(found: Course, what: str) -> str:
    """Gradual or sharp; `what` is the quantity whose log runs along the chain, and x the number of chunks before a
    place."""
    if found.verdict is None:
        return (
            f"Gradual or sharp is unknown: {what} is known at {found.n_places} places of this chain, and {MIN_X} are"
            " needed."
        )
    n = f"n = {found.n_samples} samples at {found.n_places} places"
    if found.step is None or found.verdict == "no change":
        p = "" if found.step is None else f" (best step: p = {found.step.p:.2g} against places that do not differ)"
        return f"No change: log of {what} does not change along this chain beyond chance{p}, {n}."
    step = f"{_size(found, found.step)} {_place(found.step)}"
    tests = (
        f"p = {found.step.p:.2g} against places that do not differ,"
        f" {'unknown' if math.isnan(found.p_order) else f'{found.p_order:.2g}'} against any order of them; {n}"
    )
    if found.verdict == "sharp":
        return f"Sharp: log of {what} changes in one step, {step}; {tests}."
    if found.verdict == "gradual":
        return f"Gradual: log of {what} changes by {_slope(found)}; its best single step is {step}; {tests}."
    few = (
        f"with fewer than {ORDERED_FROM} places no order can be told from chance"
        if found.n_places < ORDERED_FROM
        else "chance would put such places into such an order"
    )
    like = {"sharp": "a step", "gradual": "a slope", "no change": "neither a step nor a slope"}[
        found.best or "no change"
    ]
    return (
        f"Uneven: places differ, but {few}. It looks most like {like}: the best single step of log of {what} is {step};"
        f" its slope is {_slope(found)}; {tests}."
    )


def _size(found: Course, step: Changepoint) -> str:
    return f"{step.size:+.2g} in size ({_of('size', *found.size)})"


def _place(step: Changepoint) -> str:
    at = (
        f"at chunk {step.x_after:g}"
        if step.x_after - step.x_before == 1
        else f"between chunks {step.x_before + 1:g} and {step.x_after:g}"
    )
    if math.isnan(step.low) or math.isnan(step.high):
        return f"{at} (95 % interval of the place unknown)"
    first, last = step.low + 1, step.high
    chunks = f"chunk {first:g}" if first == last else f"chunks {first:g} to {last:g}"
    return f"{at} (95 % interval of the place: {chunks})"


def _slope(found: Course) -> str:
    return f"{found.slope:+.2g} a chunk ({_of('slope', *found.slope_interval)})"


def _of(name: str, low: float, high: float) -> str:
    """The interval with the name of its number."""
    return f"95 % interval of the {name} {interval(low, high)}"
