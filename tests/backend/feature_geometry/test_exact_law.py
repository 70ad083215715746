"""The law of cosines of isotropic vectors, against closed forms and against vectors that are drawn."""

import math

import numpy as np
import pytest

from backend.errors import AnchorscopeError
from backend.feature_geometry.exact_law import exceedance, expected_counts, threshold

CLOSED = {  # P(|cos| > t) by elementary functions: of a circle, a sphere, and the next two
    2: lambda t: 2 / math.pi * math.acos(t),
    3: lambda t: 1 - t,
    4: lambda t: 1 - 2 / math.pi * (math.asin(t) + t * math.sqrt(1 - t * t)),
    5: lambda t: 1 - (3 * t - t**3) / 2,
}


@pytest.mark.parametrize("d", CLOSED)
@pytest.mark.parametrize("t", [0.0, 0.03, 0.1, 0.5, 0.9, 1.0])
def test_in_few_dimensions_it_is_elementary(d, t):
    assert exceedance(t, d) == pytest.approx(CLOSED[d](t), abs=1e-14)


@pytest.mark.parametrize("d", [8, 64, 576])
def test_ten_million_pairs_of_drawn_vectors_obey_it(d):
    # Pairs that share a row are independent of each other when rows are isotropic: the count is binomial in variance.
    draw = np.random.default_rng(d)
    left, right = (draw.standard_normal((n, d), dtype=np.float32) for n in (4000, 2500))
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    n, sizes = left.shape[0] * right.shape[0], np.abs(left @ right.T)
    assert n == 10**7
    for p in (0.3, 0.016, 1e-3, 1e-5):
        found = np.count_nonzero(sizes > threshold(p, d))
        assert abs(found - n * p) < 4.5 * math.sqrt(n * p * (1 - p)), (d, p)


@pytest.mark.parametrize(("d", "p"), [(576, 0.0163), (2304, 1.5e-6), (3584, 2.0e-9)])
def test_a_tenth_means_something_else_at_every_width(d, p):
    assert exceedance(0.1, d) == pytest.approx(p, rel=0.04)


@pytest.mark.parametrize("d", [64, 576, 3584, 65536])
@pytest.mark.parametrize("p", [0.5, 1e-3, 1e-6, 1e-12])
def test_the_threshold_is_exceeded_as_often_as_was_asked(d, p):
    assert exceedance(threshold(p, d), d) == pytest.approx(p, rel=1e-6)


def test_the_sign_does_not_matter_and_expected_counts_of_both_sides_make_all_pairs():
    assert exceedance(-0.2, 50) == exceedance(0.2, 50)
    assert 2 * expected_counts(np.linspace(0, 1, 33), 50, 1000).sum() == pytest.approx(1000)


def test_what_has_no_angle_is_refused():
    with pytest.raises(AnchorscopeError, match="width 1 have no angles"):
        exceedance(0.1, 1)
    with pytest.raises(AnchorscopeError, match="between 0 and 1"):
        threshold(0.0, 10)
