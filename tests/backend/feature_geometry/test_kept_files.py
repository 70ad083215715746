import math

import pytest

from backend.feature_geometry.kept import kept


def test_a_kept_number_is_off_by_a_ten_thousandth_and_whole_ones_are_exact():
    for value in (math.pi, 1e-9 / 3, -12345.678, 2e300 / 3):
        assert kept(value) == pytest.approx(value, rel=1e-4) and kept(kept(value)) == kept(value)
    assert [kept(float(whole)) for whole in (0, 1, 3, 1023)] == [0, 1, 3, 1023]


def test_what_is_not_finite_is_unknown():
    assert kept(None) is kept(math.nan) is kept(math.inf) is None
