import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backend.statistics import paired
from backend.statistics.paired import detectable, mcnemar, mcnemar_of_counts, paired_difference


def verdicts(both=0, only_base=0, only_changed=0, neither=0):
    cells = (
        [(True, True)] * both
        + [(True, False)] * only_base
        + [(False, True)] * only_changed
        + [(False, False)] * neither
    )
    return [base for base, _ in cells], [changed for _, changed in cells]


@pytest.mark.parametrize(("only_base", "only_changed"), [(0, 5), (1, 9), (3, 3), (12, 2), (0, 1)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(only_base, only_changed):
    found = mcnemar(*verdicts(4, only_base, only_changed, 3))
    assert found.p == pytest.approx(stats.binomtest(only_changed, only_base + only_changed).pvalue)
    assert found.difference == pytest.approx((only_changed - only_base) / found.n)


@pytest.mark.parametrize(
    ("cells", "difference", "low", "high"),
    [((36, 12, 2, 0), -0.2, -0.3404, -0.0569), ((1, 1, 7, 12), 6 / 21, 0.026, 0.507)],
)
def test_the_interval_of_two_shares_is_the_published_one(cells, difference, low, high):
    """The table with a difference of 0.2 is Newcombe's (1998); the other Bentur's, as in Fagerland et al. (2014)."""
    found = mcnemar(*verdicts(*cells))
    assert (found.difference, found.low, found.high) == pytest.approx((difference, low, high), abs=5e-4)


def test_unknown_pairs_are_left_out_and_counted():
    verdict = mcnemar([True, None, False, True, math.nan], [False, True, pd.NA, True, False])
    assert (verdict.n, verdict.n_left_out, verdict.difference) == (2, 3, -0.5)
    quantity = paired_difference([1.0, None, 3.0], [2.0, 5.0, math.nan])
    assert (quantity.n, quantity.n_left_out, quantity.difference) == (1, 2, 1.0)
    assert math.isnan(quantity.low) and quantity.p == 1


@pytest.mark.parametrize("compare", [mcnemar, paired_difference])
def test_no_pairs_say_nothing(compare):
    found = compare([None, True], [True, None])
    assert (found.n, found.n_left_out) == (0, 2)
    assert all(math.isnan(number) for number in (found.difference, found.low, found.high, found.p))


@pytest.mark.parametrize("compare", [mcnemar, paired_difference])
def test_identical_arms_differ_by_nothing(compare):
    arm = [True, False, True, True, False] * 5
    found = compare(arm, arm)
    assert (found.difference, found.p) == (0, 1)


def test_when_all_pairs_agree_the_interval_of_two_shares_still_has_a_width():
    found = mcnemar([True] * 10, [True] * 10)
    assert found.low < -0.1 and found.high > 0.1


@pytest.mark.parametrize("n", [7, 60])
@pytest.mark.parametrize("compare", [mcnemar, paired_difference])
def test_swapping_the_arms_flips_the_sign_and_nothing_else(compare, n):
    rng = np.random.default_rng(n)
    base, changed = rng.random((2, n)) < [[0.7], [0.4]]
    if compare is paired_difference:
        base, changed = base + rng.normal(size=n), changed + rng.normal(size=n)
    there, back = compare(base, changed), compare(changed, base)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.p, back.n, back.test) == (there.p, there.n, there.test)


def test_few_pairs_are_tested_against_every_sign():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.5, 1, size=8)
    by_hand = [
        abs(np.dot(signs, difference)) >= abs(difference.sum()) - 1e-12
        for signs in itertools.product((-1, 1), repeat=8)
    ]
    found = paired_difference(np.zeros(8), difference)
    assert found.p == np.mean(by_hand)
    assert found.test == "exact sign flips"


def test_many_pairs_give_nearly_the_exact_p(monkeypatch):
    difference = np.random.default_rng(1).normal(0.4, 1, size=14)
    exact = paired_difference(np.zeros(14), difference)
    monkeypatch.setattr(paired, "EXACT_PAIRS", 0)
    drawn = paired_difference(np.zeros(14), difference)
    assert drawn.test == "9999 sign flips"
    assert drawn.p == pytest.approx(exact.p, abs=0.015)


@pytest.mark.parametrize("n", [10, 16])
def test_without_an_effect_small_p_are_rare(n):
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(500, n))  # common random numbers: the arms go up and down together
    arms = shared + rng.standard_t(3, size=(2, 500, n))
    p = np.array([paired_difference(base, changed).p for base, changed in arms.swapaxes(0, 1)])
    assert 0.02 <= (p < 0.05).mean() <= 0.07
    p = np.array([mcnemar(base > 0, changed > 0).p for base, changed in arms.swapaxes(0, 1)])
    assert (p < 0.05).mean() <= 0.07


def test_a_planted_effect_is_found_within_its_interval():
    rng = np.random.default_rng(3)
    base = rng.normal(100, 30, size=16)
    found = paired_difference(base, base + 12 + rng.normal(0, 8, size=16))
    assert found.p < 0.01
    assert found.low < 12 < found.high
    correct = rng.random(40) < 0.8
    found = mcnemar(correct, correct & (rng.random(40) < 0.4))
    assert found.p < 0.001
    assert found.low < -0.48 < found.high < 0


def test_intervals_hold_the_true_difference_about_19_times_in_20():
    rng = np.random.default_rng(4)
    held = {"share": 0, "mean": 0}
    for _ in range(300):
        luck = rng.random(30)
        share = mcnemar(luck < 0.6, np.where(rng.random(30) < 0.7, luck, rng.random(30)) < 0.4)
        held["share"] += share.low <= -0.2 <= share.high
        base = rng.normal(size=30)
        mean = paired_difference(base, base + 0.5 + rng.normal(size=30))
        held["mean"] += mean.low <= 0.5 <= mean.high
    assert 0.92 <= held["share"] / 300 <= 0.99
    assert 0.90 <= held["mean"] / 300 <= 0.98


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="got 2 and 1"):
        paired_difference([1, 2], [1])
    with pytest.raises(ValueError, match="verdicts"):
        mcnemar([0.5], [1])
    with pytest.raises(ValueError, match="infinite"):
        paired_difference([1.0], [math.inf])


def test_a_difference_that_can_be_found_is_found_in_four_of_five_studies():
    rng = np.random.default_rng(3)
    size, discordant, n = detectable(500, 0.10), 0.10, 500
    gained, lost = (discordant + size) / 2, (discordant - size) / 2
    found = [
        mcnemar_of_counts(0, int(a), int(b), n).p <= 0.05
        for b, a, _ in rng.multinomial(n, [gained, lost, 1 - discordant], size=1500)
    ]
    assert 0.75 < np.mean(found) < 0.85


def test_what_can_be_found_grows_with_noise_and_shrinks_with_pairs():
    assert detectable(500, 0.02) < detectable(500, 0.2) < detectable(100, 0.2)
    assert detectable(500, 0.1, alpha=0.05 / 90) > detectable(500, 0.1)
    assert math.isnan(detectable(0, 0.1)) and math.isnan(detectable(3, 0.1))
