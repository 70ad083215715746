import math
import warnings

import numpy as np
import pandas as pd
import pytest

from backend.evidence.mixed import mixed
from backend.evidence.sample import sample_of
from backend.statistics.resampling import centred_ranks


def study(rng, *, level, slope=-0.5, n_problems=20, size=8):
    problem = np.repeat(np.arange(n_problems), size)
    x = rng.normal(size=len(problem)) + level * rng.normal(size=n_problems)[problem]
    y = slope * x + rng.normal(size=len(problem)) + level * rng.normal(size=n_problems)[problem]
    return sample_of(pd.DataFrame({"x": x, "y": y, "cot_id": problem, "problem_id": problem}))


@pytest.mark.parametrize("level", [0.3, 1.0, 3.0])
def test_the_fit_is_that_of_statsmodels(level):
    from statsmodels.regression.mixed_linear_model import MixedLM

    sample = study(np.random.default_rng(0), level=level)
    x, y = (ranks / ranks.std() for ranks in map(centred_ranks, (sample.x, sample.y)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM(y, np.column_stack([np.ones(len(x)), x]), groups=sample.problems).fit(
            reml=True, method=["powell"]
        )
    ours = mixed(sample)
    assert ours.slope == pytest.approx(theirs.fe_params[1], abs=1e-4)
    assert ours.high - ours.slope == pytest.approx(1.96 * theirs.bse_fe[1], rel=0.03)  # ours takes γ for known
    assert ours.problem_share == pytest.approx(theirs.cov_re[0, 0] / (theirs.cov_re[0, 0] + theirs.scale), abs=1e-3)


def test_levels_of_problems_hide_no_slope():
    found = mixed(study(np.random.default_rng(1), level=4.0, slope=-1.0))
    assert found.high < 0 and found.problem_share > 0.3 and found.note == ""


def test_no_variance_between_problems_is_said_and_gives_least_squares():
    sample = sample_of(
        pd.DataFrame(
            {"x": [1, 2, 3, 4] * 4, "y": [4.0, 3, 1, 2] * 4, "cot_id": 0, "problem_id": np.repeat(range(4), 4)}
        )
    )
    found = mixed(sample)
    assert found.problem_share == 0 and "no variance" in found.note
    assert found.slope == pytest.approx(-0.8)


def test_what_cannot_be_fitted_is_unknown_with_a_reason():
    rng = np.random.default_rng(2)
    one_problem, one_chunk_each = study(rng, level=1, n_problems=1), study(rng, level=1, size=1)
    level_only = sample_of(
        pd.DataFrame(
            {
                "x": np.repeat(range(6), 5),
                "y": np.repeat([3, 1, 2, 6, 5, 4], 5),
                "cot_id": 0,
                "problem_id": np.repeat(range(6), 5),
            }
        )
    )
    for sample in (one_problem, one_chunk_each, level_only):
        found = mixed(sample)
        assert math.isnan(found.slope) and math.isnan(found.p) and found.note


def test_a_perfect_line_has_a_slope():
    x = np.random.default_rng(3).normal(size=40)
    assert mixed(
        sample_of(pd.DataFrame({"x": x, "y": -x, "cot_id": 0, "problem_id": np.repeat(range(8), 5)}))
    ).slope == pytest.approx(-1)
