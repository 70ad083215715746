"""Every number of a course is said with an interval that bears its name, and with no other's."""

import re

import numpy as np
import pytest

from app.steepness.course_words import course_in_words
from backend.statistics.course import course


def planted(means, n=6, noise=0.3):
    rng = np.random.default_rng(1)
    return course({place: (mean + noise * rng.standard_normal(n)).tolist() for place, mean in enumerate(means)})


def interval_after(said: str, name: str) -> tuple[float, float]:
    low, high = re.search(rf"95 % interval of the {name} \[(\S+), (\S+)\]", said).groups()
    return float(low), float(high)


def test_a_steps_size_has_the_interval_of_the_size_and_its_place_that_of_the_place():
    found = planted([0] * 6 + [-3] * 4)
    said = course_in_words(found, "KL")
    assert interval_after(said, "size") == pytest.approx(found.size, rel=0.01)
    at = said.index("at chunk 6 (95 % interval of the place: chunk 6)")
    assert said.index("in size (95 % interval of the size") < at
    assert f"{found.step.low + 0.5:g}" not in said


def test_a_slope_has_the_interval_of_the_slope():
    found = planted(-0.5 * np.arange(10))
    said = course_in_words(found, "KL")
    assert said.startswith("Gradual: log of KL changes by ") and "a chunk (95 % interval of the slope" in said
    assert interval_after(said, "slope") == pytest.approx(found.slope_interval, rel=0.01)
    assert interval_after(said, "size") == pytest.approx(found.size, rel=0.01)


def test_a_place_that_is_not_sure_is_a_range_of_chunks():
    found = planted([0, 0, 0, -1, -1.5, -3, -3, -3, -3], noise=1.5)
    first, last = found.step.low + 1, found.step.high
    assert first < last and f"95 % interval of the place: chunks {first:g} to {last:g}" in course_in_words(found, "KL")


def test_too_few_places_are_said_to_be_too_few():
    assert course_in_words(planted([0, 0, -3]), "KL").startswith("Gradual or sharp is unknown: KL is known at 3 places")
    short = course_in_words(planted([0, 0, 0, -3, -3, -3]), "KL")
    assert short.startswith("Uneven") and "fewer than 8 places" in short and "looks most like a step" in short


def test_no_change_says_so_with_its_p_and_n():
    said = course_in_words(planted([1.0] * 10), "KL")
    assert said.startswith("No change") and "p = 0." in said and "n = 60 samples at 10 places" in said


def test_unknown_intervals_are_said_to_be_unknown():
    single = course({place: [float(place > 4)] for place in range(10)})
    said = course_in_words(single, "KL")
    assert "95 % interval of the place unknown" in said or "No change" in said
