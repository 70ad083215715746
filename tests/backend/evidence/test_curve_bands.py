"""A drawn curve has the planted parameters, and its band covers what is true about as often as it says."""

import numpy as np
import pandas as pd
import pytest

from backend.evidence import laws
from backend.evidence.curve_bands import CURVES, curve_through, value_at
from backend.evidence.sample import sample_of
from backend.evidence.selection import slopes_by_selection

TRUTH = {"A": 0.5, "x0": 0.4, "c": 0.1}


def inverse(x):
    return TRUTH["A"] / (x + TRUTH["x0"]) + TRUTH["c"]


def planted(seed, *, n_problems=24, noise=0.08, shared=0.05):
    """Chunks of problems with an offset of their own, on y = A/(x + x₀) + c."""
    rng = np.random.default_rng(seed)
    problems = np.repeat(np.arange(n_problems), 6)
    x = rng.gamma(1.5, 1.0, len(problems))
    y = inverse(x) + noise * rng.standard_normal(len(x)) + shared * rng.standard_normal(n_problems)[problems]
    return frame(x, y, problems)


def frame(x, y, problems):
    return pd.DataFrame(
        {"x": x, "y": y, "cot_id": [f"c{k}" for k in problems], "problem_id": [f"p{k}" for k in problems]}
    )


def test_planted_parameters_are_found_and_lie_in_their_intervals():
    found = curve_through(planted(3, n_problems=80, noise=0.02, shared=0.005), "inverse", seed=0, n_draws=100)
    for name, truth in TRUTH.items():
        own = found.parameters[name]
        assert own.value == pytest.approx(truth, rel=0.2) and own.low <= truth <= own.high, name
    assert (found.n, found.n_problems, found.n_draws) == (480, 80, 100)
    assert ((found.low <= found.y) & (found.y <= found.high)).mean() > 0.95


def test_the_band_covers_the_true_curve_about_as_often_as_it_says():
    at, inside = np.array([0.5, 1.5, 3.0]), []
    for seed in range(16):
        found = curve_through(planted(seed, n_problems=18), "inverse", seed=seed, n_draws=50)
        low, high = (np.interp(at, found.x, band) for band in (found.low, found.high))
        inside.append((low <= inverse(at)) & (inverse(at) <= high))
    assert 0.82 <= np.mean(inside) <= 1  # 95 % is said; of 48 looks, not independent


@pytest.mark.parametrize("curve", [name for name in CURVES if name != "theil_sen"])
def test_the_curve_is_that_of_the_evidence_and_a_draw_of_every_problem_once_finds_it_again(curve, monkeypatch):
    rows = planted(5)
    rows["y"] += 0.3  # above 0, so that the power has every chunk too
    sample = sample_of(rows)
    monkeypatch.setattr("backend.evidence.curve_bands.problem_draws", lambda n, n_draws, seed: np.ones((1, n), int))
    found = curve_through(rows, curve, seed=0)
    expected = next(
        fit for fit in laws.fits(sample, seed=0) if (fit.rows, fit.curve) in (("all", curve), ("positive", curve))
    )
    assert {name: own.value for name, own in found.parameters.items()} == expected.parameters
    assert found.low == pytest.approx(found.y, rel=2e-3) and found.high == pytest.approx(found.y, rel=2e-3)


def test_theil_and_sens_line_is_the_median_over_pairs_and_weights_count_as_copies():
    from scipy.stats import theilslopes

    rows, rng = planted(6, n_problems=12), np.random.default_rng(1)
    found = curve_through(rows, "theil_sen", seed=0, n_draws=40)
    expected = theilslopes(rows["y"], rows["x"])
    assert found.parameters["slope"].value == pytest.approx(expected.slope)
    assert found.parameters["intercept"].value == pytest.approx(expected.intercept)
    sample = sample_of(rows)
    from backend.evidence.curve_bands import _FITTED

    weights = rng.integers(0, 3, len(sample))
    copies = theilslopes(np.repeat(sample.y, weights), np.repeat(sample.x, weights)).slope
    assert _FITTED["theil_sen"](sample, 0)[1](weights.astype(float))["slope"] == pytest.approx(copies, rel=0.02)


def test_what_cannot_be_fitted_says_why_and_one_problem_has_no_band():
    few = frame(np.arange(5.0), np.arange(5.0), np.arange(5))
    assert "fewer than 6" in curve_through(few, "inverse", seed=0).note
    one = curve_through(frame(np.arange(1.0, 20), 1 / np.arange(1.0, 20), np.zeros(19, int)), "inverse", seed=0)
    assert np.isfinite(one.y).all() and np.isnan(one.low).all() and np.isnan(one.parameters["A"].low)
    assert np.isnan(value_at("log_log", {"factor": 1.0, "exponent": -1.0}, np.array([-1.0, 2.0]))).tolist() == [
        True,
        False,
    ]


def test_leaving_out_the_corner_makes_a_slope_of_unrelated_measures_and_shuffles_say_how_large():
    rng = np.random.default_rng(2)
    problems = np.repeat(np.arange(40), 6)
    found = slopes_by_selection(frame(rng.gamma(1, 1, 240), rng.gamma(1, 1, 240), problems), seed=0)
    assert found.whole.low < 0 < found.whole.high and found.whole.rho_low < 0 < found.whole.rho_high
    assert found.away.high < 0 and found.by_selection.high < 0  # a law, it would seem
    assert found.by_selection.low < found.away.slope < found.by_selection.high  # and none beyond the selection's own
    assert found.by_selection.rho_low < found.away.rho < found.by_selection.rho_high
    assert found.away.n < found.whole.n == 240


def test_slopes_are_those_of_least_squares_by_hand():
    rows = planted(8)
    found, sample = slopes_by_selection(rows, seed=0), sample_of(rows, "away_from_origin")
    assert found.whole.slope == pytest.approx(np.polyfit(rows["x"], rows["y"], 1)[0])
    assert found.away.slope == pytest.approx(np.polyfit(sample.x, sample.y, 1)[0])
    assert found.away.high < found.by_selection.low or found.away.slope < found.by_selection.slope  # a planted law
    empty = slopes_by_selection(rows.iloc[:2], seed=0)
    assert np.isnan(empty.whole.slope) and np.isnan(empty.by_selection.slope)
