"""Odd against even steps: calibrated where steps are exchangeable, found where planted, blind to a mere trend."""

from itertools import combinations

import numpy as np
import pytest

from backend.latent.parity import contrast, parity, parity_rows, without_line

RNG = np.random.default_rng(0)


def test_the_difference_is_even_less_odd():
    values = np.array([[1.0, 5.0, 2.0, 6.0], [1.0, 7.0, 2.0, 4.0]])[..., None]
    found = parity(values)
    assert (found.odd[0], found.even[0], found.difference.mean[0]) == (1.5, 5.5, 4.0)


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_weights_leave_a_constant_out_and_those_without_a_line_a_trend_too(k):
    assert contrast(k).sum() == pytest.approx(0)
    if k < 4:
        assert np.isnan(without_line(k)).all()
        return
    assert without_line(k) @ np.ones(k) == pytest.approx(0) and without_line(k) @ np.arange(k) == pytest.approx(0)


@pytest.mark.parametrize("which", ["difference", "without_line"])
def test_p_is_uniform_where_the_steps_of_a_problem_are_exchangeable(which):
    found = parity(RNG.standard_normal((40, 6, 800)))
    p = np.sort(getattr(found, which).p)
    assert np.abs(p - (np.arange(800) + 0.5) / 800).max() < 0.06  # Kolmogorov: above 0.06 once in a hundred


def test_p_over_steps_is_never_too_small_where_steps_are_exchangeable():
    p = parity(RNG.standard_normal((1, 6, 2000))).p_steps
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.03) and p.min() == pytest.approx(0.1)


def test_an_alternation_that_was_planted_is_found_and_a_trend_is_none():
    noise, trend = RNG.standard_normal((60, 6, 300)), np.arange(6)[None, :, None]
    alternates = np.where(np.arange(6) % 2, 0.4, -0.4)[None, :, None]
    planted, rising = parity(noise + alternates + trend), parity(noise + trend)
    assert (planted.without_line.p < 0.01).mean() > 0.95 and planted.without_line.mean.mean() > 0.6
    assert (rising.difference.p < 0.001).all()  # the trend alone
    assert (rising.without_line.p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert (rising.p_steps > 0.1).all()


def test_p_over_steps_counts_divisions_by_hand():
    means = np.array([0.0, 3.0, 1.0, 4.0, 0.0])
    own = abs(means[[1, 3]].mean() - means[[0, 2, 4]].mean())
    every = [abs(means[list(even)].mean() - np.delete(means, list(even)).mean()) for even in combinations(range(5), 2)]
    found = parity(means[None, :, None])
    assert found.n_divisions == 10 and found.p_steps[0] == np.mean([one >= own - 1e-12 for one in every])


def test_a_problem_that_is_unknown_at_a_step_takes_no_part_in_that_column_alone():
    values = RNG.standard_normal((5, 4, 2))
    values[2, 1, 0] = np.nan
    (first, second) = parity_rows({"a": values[..., 0], "b": values[..., 1]}, seed=0)
    assert (first["n_problems"], second["n_problems"]) == (4, 5)
    rest = parity_rows({"a": np.delete(values[..., 0], 2, 0)}, seed=0)[0]
    assert (first["odd"], first["difference"]) == (pytest.approx(rest["odd"]), pytest.approx(rest["difference"]))


def test_one_latent_has_no_parity():
    assert parity_rows({"a": np.ones((5, 1))}, seed=0) == []
