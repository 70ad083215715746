"""The null of a cosine against vectors that are drawn, and its laws."""

import math

import numpy as np
import pytest

from backend.statistics.cosines import cosines, random_bound, random_p


def test_cosines_are_those_of_plain_arithmetic_and_unknown_where_a_row_is_zero():
    found = cosines(np.array([1.0, 0]), np.array([[2.0, 0], [0, 3], [-1, 1], [0, 0]]))
    assert found[:3] == pytest.approx([1, 0, -math.sqrt(0.5)]) and math.isnan(found[3])


@pytest.mark.parametrize(("d", "n"), [(8, 1), (64, 1), (64, 20)])
def test_drawn_vectors_exceed_the_bound_as_often_as_it_says(d, n):
    drawn = np.random.default_rng(d + n).standard_normal((2000, n, d))
    largest = np.abs(drawn[..., 0] / np.linalg.norm(drawn, axis=-1)).max(-1)
    assert 0.035 < (largest >= random_bound(d, n=n)).mean() < 0.065
    middle = float(np.median(largest))
    assert random_p(middle, d, n=n) == pytest.approx(0.5, abs=0.04)


def test_bound_and_p_are_each_others_inverse_and_in_two_dimensions_the_angle_is_uniform():
    assert random_p(random_bound(576, n=40), 576, n=40) == pytest.approx(0.05)
    assert random_p(math.cos(math.pi / 8), 2) == pytest.approx(0.25)
    assert (random_p(0.0, 9), random_p(1.0, 9)) == (1.0, 0.0)
