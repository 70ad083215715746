import math

import numpy as np
import pandas as pd
import pytest

from backend.evidence.laws import fits, theil_sen
from backend.evidence.sample import sample_of


def sample(x, y):
    n = len(x)
    return sample_of(pd.DataFrame({"x": x, "y": y, "cot_id": np.arange(n) // 10, "problem_id": np.arange(n) // 20}))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).lognormal(0, 1, 300)


def by_name(found):
    return {(fit.rows, fit.curve): fit for fit in found}


def test_an_exact_inverse_law_gives_back_its_parameters(x):
    found = by_name(fits(sample(x, 2 / (x + 0.5) + 0.1), seed=0))["all", "inverse"]
    assert found.parameters == pytest.approx({"A": 2, "x0": 0.5, "c": 0.1}, rel=1e-3)
    assert found.r2 == pytest.approx(1) and found.cv_r2 == pytest.approx(1)


def test_outliers_hardly_move_the_inverse_law(x):
    rng = np.random.default_rng(1)
    y = 2 / (x + 0.5) + rng.normal(0, 0.05, 300) + np.where(rng.random(300) < 0.05, 20, 0)
    found = by_name(fits(sample(x, y), seed=0))["all", "inverse"]
    assert found.parameters["A"] == pytest.approx(2, rel=0.15) and found.parameters["x0"] == pytest.approx(
        0.5, rel=0.25
    )


@pytest.mark.parametrize(
    ("curve", "law"),
    [
        ("linear", lambda x: 50 - 0.7 * x),
        ("log_log", lambda x: 3 * x**-0.5),
        ("inverse", lambda x: 4 / (x + 0.3)),
    ],
)
def test_the_curve_that_made_the_data_has_the_least_aic_and_predicts_held_out_problems_best(x, curve, law):
    y = law(x)
    noise = 0.02 * np.std(y) * np.random.default_rng(2).normal(size=300)
    found = {fit.curve: fit for fit in fits(sample(x, np.maximum(y + noise, 1e-3)), seed=0) if fit.rows == "positive"}
    assert set(found) == {"constant", "linear", "log_log", "inverse"} and len({fit.n for fit in found.values()}) == 1
    assert min(found, key=lambda name: found[name].aic) == curve
    assert max(found, key=lambda name: found[name].cv_r2) == curve


def test_a_constant_predicts_held_out_problems_exactly_as_well_as_nothing_and_noise_no_better(x):
    found = by_name(fits(sample(x, np.random.default_rng(3).pareto(1.5, 300)), seed=0))
    assert found["all", "constant"].cv_r2 == 0
    assert all(fit.cv_r2 < 0.05 for fit in found.values())


def test_zeros_are_in_one_comparison_and_not_in_the_other(x):
    y = np.where(np.arange(300) % 3, 0, 1 / x)
    assert {(fit.rows, fit.n) for fit in fits(sample(x, y), seed=0)} == {("all", 300), ("positive", 100)}


def test_values_below_zero_have_no_pole_among_them():
    x = np.random.default_rng(4).normal(size=200)
    found = by_name(fits(sample(x, 1 / (x + 6)), seed=0))["all", "inverse"]
    assert found.parameters["x0"] > -x.min() and found.cv_r2 > 0.99


def test_few_rows_one_problem_or_no_variation_are_unknown(x):
    assert all(math.isnan(fit.aic) and not fit.parameters for fit in fits(sample(x[:5], x[:5]), seed=0))
    assert all(math.isnan(fit.cv_r2) for fit in fits(sample(x[:20], 1 / x[:20]), seed=0))
    assert all(math.isnan(fit.r2) for fit in fits(sample(x, np.ones(300)), seed=0))


def test_the_median_slope_withstands_outliers(x):
    y = 1 - 3 * x
    y[:30] += 1000
    found = theil_sen(sample(x, y), seed=0)
    assert found.slope == pytest.approx(-3, abs=0.01) and found.low <= found.slope <= found.high
    assert math.isnan(theil_sen(sample(np.ones(10), y[:10]), seed=0).slope)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.7, 0.9])
def test_the_inverse_contains_the_constant_and_so_never_loses_to_it_in_sample(x, share):
    """On data that are mostly zero a robust fit lies at zero, and its squared residuals are worse than the mean's."""
    rng = np.random.default_rng(5)
    y = np.where(rng.random(300) < share, 0.0, rng.lognormal(0, 1.5, 300))
    found = by_name(fits(sample(x, y), seed=0))
    assert (
        found["all", "inverse"].r2 >= -1e-9 and found["all", "inverse"].aic <= found["all", "constant"].aic + 4 + 1e-9
    )
