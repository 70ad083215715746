"""The key test of the evidence: worlds whose truth is known, made in two ways (tests/planted_worlds.py), judged as a
study would be.

A few worlds of each kind; `python benchmarks/evidence.py` judges many, and docs/evidence.md has what it printed.
"""

import numpy as np
import pytest

from backend.evidence.pairs import evidence
from backend.evidence.verdict import verdict
from tests.planted_worlds import GENERATORS, N_CHUNKS, N_COTS, N_PROBLEMS
from tests.simulated_studies import simulate

FEW = {"n_bootstrap": 199, "n_permutations": 199, "describe": False}


def judged(generator, kind, seeds):
    made = GENERATORS[generator]
    strength = made.strength.get(kind, 0.0)
    return [evidence(made.world(kind, seed, strength), **FEW, seed=seed, covariates=made.covariates) for seed in seeds]


@pytest.mark.parametrize("generator", GENERATORS)
def test_where_there_is_no_law_one_is_hardly_ever_claimed(generator):
    """Of many worlds 0.8 % of `ranks` and 0.2 % of `rollouts` have a claim: 3 among a hundred would come once in 20 at
    0.8 %.
    """
    found = [verdict(one) for kind in GENERATORS[generator].nulls for one in judged(generator, kind, range(14))]
    assert len(found) > 80 and sum(verdict != "none" for verdict in found) <= 3


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_law_within_chains_is_found_also_where_problems_run_the_other_way(generator):
    for kind in GENERATORS[generator].laws:
        worlds = judged(generator, kind, range(20))
        assert -0.3 < np.mean([world.within.rho for world in worlds]) < -0.2
        found = [verdict(world) for world in worlds]
        assert found.count("inverse") >= 17 and "direct" not in found, kind
    pooled = [world.rank.spearman for world in worlds]  # of the last kind, whose problems run the other way
    assert generator != "ranks" or np.mean(pooled) > 0.15


def test_what_only_the_place_or_the_length_explains_is_there_and_is_no_law():
    for generator in GENERATORS:
        for kind in ("position", "length"):
            worlds = judged(generator, kind, range(4))
            assert np.mean([world.rank.p_permutation <= 0.01 for world in worlds]) >= 0.5  # chance does not explain it
            assert [verdict(world) for world in worlds] == ["none"] * 4


def test_the_worlds_are_what_they_are_said_to_be():
    for made in GENERATORS.values():
        world = made.world("none", 0, 0.0)
        assert (
            (len(world), world["cot_id"].nunique(), world["problem_id"].nunique())
            == (N_CHUNKS, N_COTS, N_PROBLEMS)
            == (611, 118, 42)
        )
        assert set(world.groupby("cot_id").size()) == {4, 5, 6, 7} and set(made.covariates) <= set(world.columns)
        assert made.world("none", 0, 0.0).equals(world) and not made.world("none", 2, 0.0)["x"].equals(world["x"])
    zeros = GENERATORS["ranks"].world("zeros", 0, 0.0)["y"]
    assert (zeros == 0).mean() == pytest.approx(0.8, abs=0.01) and zeros.max() > 10 * zeros[zeros > 0].median()
    rollouts = GENERATORS["rollouts"].world("none", 0, 0.0)
    assert (
        rollouts["y"].isna().sum() == N_COTS
        and (rollouts["y"] == 0).mean() > 0.05
        and rollouts["n_rollouts"].nunique() > 20
    )


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
