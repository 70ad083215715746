"""The marginal likelihoods are those of plain numerical integration; what is planted is found; a null is a null."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from backend.statistics.commitment import (
    KNOWN,
    NormalPrior,
    change_of_counts,
    change_of_values,
    factors_under_other_priors,
    share,
)

PRIOR = NormalPrior(0.5)


def bernoulli_marginal(k: int, n: int) -> float:
    """∫ p^k (1 − p)^(n − k) Beta(½, ½) dp by plain quadrature, with p = sin² t to take the ends' poles away."""
    value, _ = integrate.quad(lambda t: math.sin(t) ** (2 * k) * math.cos(t) ** (2 * (n - k)), 0, math.pi / 2)
    return value * 2 / math.pi


def test_the_factor_of_counts_is_that_of_numerical_integration():
    counts = np.array([[0, 4], [1, 3], [4, 1], [3, 0]])
    total = bernoulli_marginal(8, 16)
    splits = []
    for gap in (1, 2, 3):
        (k, a), (m, b) = counts[:gap].sum(0), counts[gap:].sum(0)
        splits.append(bernoulli_marginal(k, k + a) * bernoulli_marginal(m, m + b))
    found = change_of_counts(counts)
    assert found.factor == pytest.approx(np.mean(splits) / total)
    assert found.posterior == pytest.approx(np.array(splits) / sum(splits))
    assert found.gaps == ((0, 1), (1, 2), (2, 3)) and found.likeliest == (1, 2)


def test_three_outcomes_are_integrated_over_their_simplex():
    """A Dirichlet is a stick broken twice: a share Beta(½, 1) of the first outcome, then Beta(½, ½) of what is left."""
    counts = np.array([[2, 1, 0], [0, 1, 2]])

    def marginal(counts):
        first, second, third = counts
        # ∫ p^k (1 − p)^m Beta(½, 1) dp, Beta(½, 1) being p^(−½) / 2, with p = u²
        stick, _ = integrate.quad(lambda u: u ** (2 * first) * (1 - u * u) ** (second + third), 0, 1)
        return stick * bernoulli_marginal(second, second + third)

    wanted = marginal(counts[0]) * marginal(counts[1]) / marginal(counts.sum(0))
    assert change_of_counts(counts).factor == pytest.approx(wanted)


def test_the_factor_of_values_is_that_of_numerical_integration():
    """Mean, step and variance on a grid: nothing of the closed form is used."""
    y = np.array([-5.0, -4.2, -1.0, 0.3])
    prior = NormalPrior(shape=2.0, scale=0.7, step=3.0)
    log_variance = np.linspace(-4, 6, 61)
    variance = np.exp(log_variance)
    weight = stats.invgamma.pdf(variance, prior.shape, scale=prior.scale) * variance  # d(variance) = variance d(log)
    mean, z = np.linspace(-25, 25, 301), np.linspace(-5, 5, 61)

    def marginal(steps):
        """Integral over the three; `steps` is 0 before the gap and 1 after it, or 0 throughout."""
        total = 0.0
        for s2, w in zip(variance, weight, strict=True):
            step = prior.step * math.sqrt(s2) * z  # the step is z standard deviations of its prior
            centred = y - steps * step[:, None]  # (z, points)
            squares = ((centred[:, None, :] - mean[None, :, None]) ** 2).sum(-1)
            inner = np.exp(-squares / (2 * s2)) / (2 * math.pi * s2) ** (len(y) / 2)
            total += w * (inner.sum(1) * stats.norm.pdf(z)).sum()
        return total

    none = marginal(np.zeros(4))
    splits = [marginal((np.arange(4) >= gap).astype(float)) for gap in (1, 2, 3)]
    found = change_of_values(y, prior)
    assert found.factor == pytest.approx(np.mean(splits) / none, rel=2e-3)
    assert found.posterior == pytest.approx(np.array(splits) / sum(splits), rel=2e-3)


def test_under_no_change_the_mean_factor_of_counts_is_exactly_one():
    """Every table of three points with two rollouts each, weighted by how likely no change makes it."""
    mean, often = 0.0, 0.0
    for sequence in itertools.product((0, 1), repeat=6):
        right = np.reshape(sequence, (3, 2)).sum(1)
        table = np.column_stack([2 - right, right])
        likely = bernoulli_marginal(sum(sequence), 6)
        factor = change_of_counts(table).factor
        mean, often = mean + likely * factor, often + likely * (factor >= KNOWN)
    assert mean == pytest.approx(1)
    assert often <= 1 / KNOWN


def test_under_no_change_the_mean_factor_of_values_is_exactly_one():
    """Two points: their difference is Student's t under no change, and its law is integrated over."""
    law = stats.t(2 * PRIOR.shape, scale=math.sqrt(2 * PRIOR.scale / PRIOR.shape))
    mean, _ = integrate.quad(lambda d: law.pdf(d) * change_of_values([0.0, d], PRIOR).factor, -np.inf, np.inf)
    assert mean == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("deviation", "at_most"), [(0.3, 0.01), (0.8, 0.05), (10.0, 0.2)])
def test_noise_alone_is_seldom_taken_for_a_change_of_values(deviation, at_most):
    """Most often where the deviation is far beyond what the prior expects."""
    rng = np.random.default_rng(0)
    known = [change_of_values(rng.normal(-7, deviation, size=6), PRIOR).is_known for _ in range(500)]
    assert np.mean(known) <= at_most


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.5])
def test_chance_alone_is_seldom_taken_for_a_change_of_counts(accuracy):
    rng = np.random.default_rng(1)
    right = rng.binomial(20, accuracy, size=(500, 6))
    known = [change_of_counts(np.column_stack([row, 20 - row])).is_known for row in right]
    assert np.mean(known) <= 0.05


def test_planted_changes_are_found_within_their_credible_sets():
    rng = np.random.default_rng(2)
    held, known = 0, 0
    for _ in range(200):
        gap = int(rng.integers(1, 6))
        right = rng.binomial(20, [0.2 if point < gap else 0.7 for point in range(6)])
        found = change_of_counts(np.column_stack([right, 20 - right]))
        held, known = held + ((gap - 1, gap) in found.credible), known + found.is_known
    assert held >= 185 and known >= 185


def test_planted_steps_of_values_are_found_within_their_credible_sets():
    rng = np.random.default_rng(3)
    held, known = 0, 0
    for _ in range(200):
        gap = int(rng.integers(1, 6))
        found = change_of_values([rng.normal(-8 if point < gap else -1, 1) for point in range(6)], PRIOR)
        held, known = held + ((gap - 1, gap) in found.credible), known + found.is_known
    assert held >= 185 and known >= 180


def test_the_order_reversed_reverses_the_posterior_and_leaves_the_factor():
    rng = np.random.default_rng(4)
    table, values = rng.integers(0, 9, size=(7, 4)), rng.normal(size=7).cumsum()
    for change, back in (
        (change_of_counts(table), change_of_counts(table[::-1])),
        (change_of_values(values, PRIOR), change_of_values(values[::-1], PRIOR)),
    ):
        assert back.factor == pytest.approx(change.factor)
        assert back.posterior == pytest.approx(change.posterior[::-1])
        assert (back.before, back.after) == pytest.approx((change.after, change.before))


def test_a_place_without_counts_takes_no_part_and_the_gap_spans_it():
    table = np.array([[3, 1], [0, 0], [1, 4], [0, 5], [0, 0]])
    found, dense = change_of_counts(table), change_of_counts(table[[0, 2, 3]])
    assert found.gaps == ((0, 2), (2, 3)) and (found.n_points, found.n) == (3, 14)
    assert (found.posterior, found.factor) == (dense.posterior, dense.factor)
    known = change_of_values([0.0, math.nan, 5.0], PRIOR)
    assert known.gaps == ((0, 2),) and known.factor == change_of_values([0.0, 5.0], PRIOR).factor
    assert change_of_counts(table[[0, 1]]) is None and change_of_values([1.0, math.nan], PRIOR) is None


def test_the_names_of_outcomes_change_nothing():
    table = np.random.default_rng(5).integers(0, 9, size=(5, 4))
    order = [2, 0, 3, 1]
    found, renamed = change_of_counts(table, followed=2), change_of_counts(table[:, order], followed=0)
    assert renamed.posterior == pytest.approx(found.posterior) and renamed.factor == pytest.approx(found.factor)
    assert renamed.before == found.before


def test_a_level_of_the_values_changes_nothing_and_equal_ones_speak_for_none():
    values = [-9.0, -8.5, -2.0, -1.0]
    found, moved = change_of_values(values, PRIOR), change_of_values([value + 100 for value in values], PRIOR)
    assert moved.factor == pytest.approx(found.factor) and moved.posterior == pytest.approx(found.posterior)
    assert change_of_values([-3.0] * 5, PRIOR).factor < 1


def test_a_large_factor_is_finite_and_a_set_of_all_its_gaps_is_allowed():
    found = change_of_counts(np.array([[10_000, 0], [0, 10_000]]))
    assert math.isfinite(found.factor) and found.credible == ((0, 1),)
    low, high = factors_under_other_priors([-9.0, -8.5, -2.0, -1.0], PRIOR)
    assert low < change_of_values([-9.0, -8.5, -2.0, -1.0], PRIOR).factor < high


def test_a_share_is_the_dirichlet_posterior_of_one_outcome():
    found = share([3, 1, 0])
    draws = np.random.default_rng(6).dirichlet([3.5, 1.5, 0.5], size=200_000)[:, 0]
    assert found.mean == pytest.approx(3.5 / 5.5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=5e-3)
    assert share([0, 0]).mean == 0.5


def test_what_is_no_curve_is_refused():
    with pytest.raises(ValueError, match="n_points, n_outcomes"):
        change_of_counts(np.array([1, 2]))
    with pytest.raises(ValueError, match="infinite"):
        change_of_values([0.0, -math.inf], PRIOR)
