"""The key test of the evidence: simulated studies whose truth is known (tests/simulated_studies.py), judged as a study would be."""

import numpy as np
import pytest

from backend.evidence.pairs import evidence
from backend.evidence.verdict import verdict
from tests.simulated_studies import simulate


def claims(kind, n=200):
    """Verdicts of `n` studies. Few draws, and no part that the verdict does not need: 40 ms a study."""
    drawn = {"n_bootstrap": 199, "n_permutations": 199, "seed": 0, "covariates": ("position", "n_tokens"), "describe": False}
    return np.array([verdict(evidence(simulate(kind, seed), **drawn)) for seed in range(n)])


def test_an_inverse_law_is_found_in_at_least_95_percent():
    found = claims("inverse")
    assert (found == "inverse").mean() >= 0.95
    assert (found == "direct").mean() == 0


@pytest.mark.parametrize("kind", ["none", "l_shape"])
def test_where_there_is_no_law_one_is_claimed_in_at_most_5_percent(kind):
    assert (claims(kind) != "none").mean() <= 0.05


def test_what_only_the_position_explains_is_no_law():
    assert (claims("confounded", n=60) != "none").mean() <= 0.1  # at most 5 % of 200 too


def test_the_simulated_studies_are_what_they_are_said_to_be():
    inverse, l_shape = simulate("inverse", 0), simulate("l_shape", 0)
    for study in (inverse, l_shape, simulate("none", 0), simulate("confounded", 0)):
        assert (len(study), study["cot_id"].nunique(), study["problem_id"].nunique()) == (600, 100, 40)
        assert 0.58 < (study["y"] == 0).mean() < 0.75
        assert (study.groupby("cot_id")["problem_id"].nunique() == 1).all()
    assert 0.02 < (simulate("inverse", 1)["y"] == 0).mean() < 0.2  # rollouts: noise where there was nothing
    high_x, high_y = (l_shape[name] > 0.2 * l_shape[name].max() for name in ("x", "y"))
    assert not (high_x & high_y).any()  # the corner is empty, and yet there is no law
    assert simulate("inverse", 0).equals(inverse) and not simulate("inverse", 2)["x"].equals(inverse["x"])
