"""Intervals of tail masses, against rows that are drawn again and again."""

import numpy as np
import pytest

from backend.feature_geometry.cosine_tails import GROUPS, directions, tails
from backend.feature_geometry.exact_law import exceedance
from backend.feature_geometry.tail_mass import Grouped, design_effect, mass, ratio

MARK = {"mark": 0.35}
TRUE = float(exceedance(0.35, 32))


def drawn(seed: int, *, n: int = 120, spread: float = 0.0, d: int = 32) -> np.ndarray:
    """Independent rows of one law: isotropic, or around a few fixed centres."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((5, d))
    return draw.standard_normal((n, d)) + spread * centres[draw.integers(5, size=n)]


def counted(rows: np.ndarray):
    found = tails(directions(rows), MARK)
    return found.beyond["mark"], found


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_the_variance_is_that_of_sets_drawn_again(spread):
    shares, variances, effects = [], [], []
    for seed in range(400):
        beyond, found = counted(drawn(seed, spread=spread))
        share = beyond.n / found.n_pairs
        shares.append(share)
        effects.append(design_effect(beyond.n, beyond.degrees))
        variances.append(effects[-1] * share * (1 - share) / found.n_pairs)
    assert np.mean(variances) == pytest.approx(np.var(shares), rel=0.25)
    assert (np.mean(effects) > 2) == (spread > 0)


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_the_interval_covers_what_it_should(spread):
    true = TRUE if spread == 0 else np.mean([counted(drawn(s, n=400, spread=spread))[0].n / 79800 for s in range(30)])
    found = [
        mass(beyond.n, beyond.degrees) for beyond, _ in (counted(drawn(1000 + s, spread=spread)) for s in range(200))
    ]
    assert 0.90 < np.mean([one.low <= true <= one.high for one in found]) <= 0.99


def test_where_all_pairs_lie_beyond_the_interval_ends_at_one():
    found = mass(4950, np.full(100, 99))
    assert (found.share, found.high) == (1, 1) and 0.999 < found.low < 1


def test_no_pair_beyond_leaves_an_upper_bound_and_three_rows_leave_nothing():
    found = mass(0, np.zeros(100, int))
    assert (found.share, found.low) == (0, 0) and found.high == pytest.approx(3.689 / 4950, rel=1e-3)
    assert mass(1, np.array([1, 1, 0])) is None


def grouped(rows: np.ndarray) -> Grouped:
    beyond, found = counted(rows)
    return Grouped(beyond.n, beyond.touching, found.group_rows)


def test_the_ratio_of_two_sets_of_one_law_covers_one():
    found = [
        ratio(grouped(drawn(s, spread=0.6)), grouped(drawn(5000 + s, spread=0.6)), paired=False) for s in range(120)
    ]
    assert np.mean([one.low <= 1 <= one.high for one in found]) > 0.92


def test_of_rows_that_correspond_the_ratio_is_surer():
    base = drawn(0, n=400, spread=0.6)
    tuned = base + 0.3 * np.random.default_rng(8).standard_normal(base.shape)
    paired, alone = (ratio(grouped(tuned), grouped(base), paired=one) for one in (True, False))
    assert paired.value == alone.value and paired.high - paired.low < 0.5 * (alone.high - alone.low)
    same = ratio(grouped(base), grouped(base), paired=True)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_a_set_without_a_pair_beyond_has_no_ratio():
    empty = Grouped(0, np.zeros(GROUPS, int), np.full(GROUPS, 10))
    assert ratio(empty, grouped(drawn(1)), paired=False) is None
    assert ratio(grouped(drawn(1)), empty, paired=False) is None
