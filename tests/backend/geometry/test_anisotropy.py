"""How unequal random directions are: the floor is no ratio, and chance is that of a planted G."""

import numpy as np
import pandas as pd
import pytest

from backend.geometry.anisotropy import (
    Ratio,
    anisotropy,
    expected_cv,
    ratio_at_the_usual_variation,
    ratio_by_chance,
    variations,
)


def on_the_sphere(n, d, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("eigenvalues", [np.ones(96), 1 / np.arange(1, 97), np.r_[[40.0], np.ones(95)]])
def test_the_variation_to_expect_is_that_of_directions_drawn_on_the_sphere(eigenvalues):
    costs = (on_the_sphere(60_000, 96) ** 2 * eigenvalues).sum(1)  # vᵀGv of a diagonal G
    participation = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert float(expected_cv(participation, 96)) == pytest.approx(costs.std() / costs.mean(), rel=0.05, abs=1e-7)


@pytest.mark.parametrize("decay", [0.3, 0.7])
def test_the_ratio_to_expect_is_that_of_a_planted_metric(decay):
    eigenvalues = np.arange(1, 129) ** -decay
    costs = (on_the_sphere(16 * 2000, 128) ** 2 * eigenvalues).sum(1).reshape(2000, 16)
    ratios = costs.max(1) / costs.min(1)
    found = ratio_by_chance(float(expected_cv(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), 128)), 16)
    assert found.median == pytest.approx(np.median(ratios), rel=0.06)
    assert found.low == pytest.approx(np.quantile(ratios, 0.025), rel=0.1)
    assert found.high == pytest.approx(np.quantile(ratios, 0.975), rel=0.15)


def test_a_metric_that_is_the_same_in_all_directions_has_no_anisotropy():
    assert ratio_by_chance(float(expected_cv(576, 576)), 16) == Ratio(1.0, 1.0, 1.0)
    assert np.isnan(ratio_by_chance(float("nan"), 16).median)
    assert ratio_by_chance(0.5, 32).median > ratio_by_chance(0.5, 8).median > 1  # more directions, larger extremes


def step_rows(**changes) -> pd.DataFrame:
    row = {
        "chunk_id": "c",
        "number": 1,
        "text": "",
        "epsilons": [0.1, 1.0],
        "random_kl": [0.03, 3.0],
        "random_cv": [0.5, 0.4],
        "kl_at_1": [1.0, 3.0, 5.0],
        "n_random": 3,
        "n_below_floor": 0,
        "anisotropy_ratio": 5.0,
        "noise_floor": 1e-6,
        "participation_ratio": None,
        "d_model": 576,
    }
    return pd.DataFrame([row | changes])


def test_a_ratio_at_the_floor_is_clipped_and_counted_and_of_an_older_study_unknown():
    whole = anisotropy(step_rows()).iloc[0]
    assert (whole.ratio, bool(whole.is_clipped), whole.mean_kl, whole.cv) == (5.0, False, 3.0, 0.4)
    at_floor = {"kl_at_1": [1e-9, 3.0, 5.0], "n_below_floor": 1, "anisotropy_ratio": None}
    clipped = anisotropy(step_rows(**at_floor)).iloc[0]
    assert (clipped.ratio, bool(clipped.is_clipped)) == (5.0 / 1e-6, True)
    old = anisotropy(step_rows(**(at_floor | {"kl_at_1": None}))).iloc[0]
    assert np.isnan(old.ratio) and bool(old.is_clipped)
    assert anisotropy(step_rows(kl_at_1=None))["ratio"].tolist() == [5.0]
    assert np.isnan(anisotropy(step_rows(epsilons=[0.1, 0.5]))["mean_kl"][0])


def test_the_usual_variation_is_the_median_and_what_g_says_stands_beside_what_was_measured():
    rows = pd.concat([step_rows(), step_rows(random_cv=[0.5, 0.8]), step_rows(random_cv=[None, None])])
    assert ratio_at_the_usual_variation(anisotropy(rows)) == ratio_by_chance(np.median([0.4, 0.8]), 3)
    found = variations(pd.concat([step_rows(participation_ratio=9.0), step_rows()]))
    assert found["measured"].tolist() == [0.5] and found["expected"].tolist() == [float(expected_cv(9.0, 576))]
    assert variations(step_rows()).empty and np.isnan(
        ratio_at_the_usual_variation(anisotropy(step_rows().iloc[:0])).median
    )
