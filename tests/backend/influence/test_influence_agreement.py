"""Rank correlations within chains of ways to the same question, and what distance alone gives."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from backend.influence.agreement import agreement
from backend.influence.over_study import FEWEST_PAIRS

DRAWS = {"n_bootstrap": 300, "n_permutations": 199, "seed": 0}


def pairs(n_cots: int, n_chunks: int = 6, *, seed: int, shared: float, by_distance: float = 0.0) -> pd.DataFrame:
    """x and y share a part by pair, and a part by distance."""
    rng, rows = np.random.default_rng(seed), []
    for cot in range(n_cots):
        for source in range(n_chunks):
            for target in range(source + 1, n_chunks):
                both, near = rng.normal() * shared, by_distance / (target - source)
                x, y = (both + near + rng.normal() * 0.3 + 10 * cot for _ in range(2))
                rows.append((f"c{cot}", f"p{cot // 2}", target - source, x, y))
    return pd.DataFrame(rows, columns=["cot_id", "problem_id", "distance", "x", "y"]).sample(frac=1, random_state=0)


def test_it_is_the_mean_over_chains_of_spearmans_rho():
    own = pairs(8, seed=1, shared=0.3)
    found = agreement(own, **DRAWS)
    wanted = np.mean([spearmanr(one.x, one.y).statistic for _, one in own.groupby("cot_id")])
    assert found.spearman == pytest.approx(wanted)
    assert found.low < found.spearman < found.high
    assert (found.n_cots, found.n_problems, found.n_pairs) == (8, 4, 8 * 15)


def test_what_chains_differ_in_is_no_agreement():
    """Values rise from chain to chain in both; within chains they have nothing in common."""
    own = pairs(30, seed=2, shared=0.0)
    assert spearmanr(own.x, own.y).statistic > 0.9
    found = agreement(own, **DRAWS)
    assert abs(found.spearman) < 0.15 and found.p > 0.01


def test_what_distance_gives_is_told_from_more():
    by_distance = agreement(pairs(30, seed=3, shared=0.0, by_distance=3.0), **DRAWS)
    assert by_distance.spearman > 0.7
    assert by_distance.at_distance == pytest.approx(by_distance.spearman, abs=0.08) and by_distance.p > 0.01
    more = agreement(pairs(30, seed=3, shared=1.0, by_distance=1.0), **DRAWS)
    assert more.spearman > more.at_distance + 0.2 and more.p == 1 / 200


def test_unknown_pairs_and_short_or_flat_chains_take_no_part():
    own = pairs(4, seed=4, shared=1.0)
    own.loc[own["cot_id"] == "c0", "x"] = own.loc[own["cot_id"] == "c0", "x"].where(own["distance"] < 2)  # 5 are left
    own.loc[own["cot_id"] == "c1", "y"] = 1.0
    found = agreement(own, **DRAWS)
    assert FEWEST_PAIRS == 6 and (found.n_cots, found.n_pairs) == (2, 30)
    assert found.spearman == pytest.approx(agreement(own[own["cot_id"].isin(["c2", "c3"])], **DRAWS).spearman)


def test_without_a_chain_everything_is_unknown():
    found = agreement(pairs(3, n_chunks=3, seed=5, shared=1.0), **DRAWS)
    assert np.isnan([found.spearman, found.low, found.high, found.at_distance, found.p]).all()
    assert (found.n_cots, found.n_problems, found.n_pairs) == (0, 0, 0)


def test_one_problem_has_no_interval():
    found = agreement(pairs(2, seed=6, shared=1.0), **DRAWS)
    assert np.isnan(found.low) and not np.isnan(found.spearman)
