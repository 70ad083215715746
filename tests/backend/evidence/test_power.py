"""What a "none" is worth: stated power against what the rule then does."""

import numpy as np
import pandas as pd
import pytest

from backend.evidence.pairs import evidence
from backend.evidence.partial import held_fixed
from backend.evidence.power import SIZES, Power, _arranged, _ascending, _orders, _Rule, power
from backend.evidence.sample import sample_of
from backend.evidence.verdict import verdict
from backend.evidence.within import aligned
from backend.statistics.intervals import wilson
from tests.planted_worlds import GENERATORS

RANKS = GENERATORS["ranks"]
FEW = {"n_bootstrap": 199, "n_permutations": 199}
COVARIATES = ("position", "n_tokens")


def part(frame: pd.DataFrame, n_cots: int = 50) -> pd.DataFrame:
    """Every chunk of some chains: a study in which a law of −0.25 is found about every other time."""
    chosen = frame["cot_id"].drop_duplicates().sample(n_cots, random_state=0)
    return frame[frame["cot_id"].isin(chosen)]


def test_the_rule_about_planted_worlds_is_the_verdict_on_each_of_them():
    frame = part(RANKS.world("zeros", 0, 0.0))  # most of y is 0, so that its parts are asked too
    sample = sample_of(frame)
    scores, ascending = aligned(sample), _ascending(sample)
    noise = np.random.default_rng(0).standard_normal((24, len(sample)))
    orders = np.concatenate([_orders(scores, strength, noise) for strength in (0.3, 0.7)])
    p = _Rule(sample, held_fixed(sample, COVARIATES).values, scores, 199, 199, 3).p(orders)
    worlds = [sample.rows.assign(y=y) for y in _arranged(sample.y, orders, ascending)]
    found = [verdict(evidence(world, **FEW, seed=3, covariates=COVARIATES, describe=False)) for world in worlds]
    assert list(p <= 0.01) == [one == "inverse" for one in found] and 5 < found.count("inverse") < 43


def test_stated_power_is_the_share_of_planted_laws_that_are_then_found():
    worlds = [part(RANKS.world("law", seed, 0.3)) for seed in range(40)]
    stated, claimed, rho = [], 0, []
    for seed, world in enumerate(worlds):
        found = evidence(world, **FEW, seed=seed, covariates=COVARIATES, describe=False, n_planted=40)
        stated.append(found.power.at(-0.25))
        rho.append(found.within.rho)
        claimed += verdict(found) == "inverse"
    assert np.mean(rho) == pytest.approx(-0.25, abs=0.02)
    low, high = wilson(claimed, len(worlds))
    assert low < np.mean(stated) < high and 0.3 < np.mean(stated) < 0.9


def test_a_planted_world_has_the_asked_for_correlation_and_all_that_the_study_has():
    sample = sample_of(part(RANKS.world("none", 1, 0.0)))
    scores, ascending = aligned(sample), _ascending(sample)
    found = power(sample, {}, n_planted=60, **FEW, seed=0)
    assert found.rho == SIZES and list(found.found) == sorted(found.found) and found.found[-1] == 1
    orders = _orders(scores, 0.5, np.random.default_rng(0).standard_normal((5, len(sample))))
    for y in _arranged(sample.y, orders, ascending):
        for cot in range(sample.n_cots):
            own = sample.cots == cot
            assert sorted(y[own]) == sorted(sample.y[own])


def test_the_smallest_effect_that_is_found_depends_on_the_p_that_is_allowed():
    found = Power(100, (-0.15, -0.25, -0.4), (0.2, 0.92, 1.0), (1.0, 0.008, 0.001))
    assert (found.least(0.01), found.least(0.002)) == (-0.25, -0.4) and np.isnan(found.least(0.0005))
    assert found.at(-0.25) == 0.92 and np.isnan(found.at(-0.3))


def test_power_is_unknown_with_the_reason_where_nothing_can_be_planted():
    frame = part(RANKS.world("none", 1, 0.0))
    how = FEW | {"seed": 0, "describe": False}
    assert evidence(frame, **how).power.note == "no effects were planted"
    assert "among all chunks alone" in evidence(frame, **how, n_planted=9, subset="away_from_origin").power.note
    assert "nothing can be planted" in evidence(frame.assign(y=1.0), **how, n_planted=9).power.note
    one_differs = frame.assign(y=(frame.index == frame.index[7]) * 1.0)
    few = evidence(one_differs, **how, n_planted=9).power
    assert (few.n == 9 and set(few.found) == {0.0}) or "does not reach" in few.note
