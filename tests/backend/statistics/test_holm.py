import numpy as np
from statsmodels.stats.multitest import multipletests

from backend.statistics.holm import holm


def test_adjusted_p_are_those_of_a_reference():
    rng = np.random.default_rng(0)
    for n in (1, 2, 30, 90):
        p = np.concatenate([rng.random(n) ** 4, [0.001, 0.001]])
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_what_is_unknown_does_not_count():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert holm([]).tolist() == [] and np.isnan(holm([np.nan])).all()


def test_of_maps_without_any_effect_one_in_twenty_has_a_significant_cell():
    p = np.random.default_rng(1).random((2000, 90))
    false = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert 0.035 < false < 0.06
