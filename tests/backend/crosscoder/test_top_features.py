"""Strongest and most specific features, against loops over problems, and on planted ones."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.top_features import specific_to_category, specific_to_problem, strongest

DENSE, OF_P0, RARE = 0, 1, 2


@pytest.fixture(scope="module")
def planted() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Twelve problems of three chains: feature 0 fires nearly everywhere, 1 in problem p0, 2 now and then, 3 never."""
    rng = np.random.default_rng(0)
    tokens, sums = [], []
    for problem in range(12):
        for chain in range(3):
            name, n = f"c{problem}-{chain}", int(rng.integers(40, 200))
            tokens.append({"cot_id": name, "problem_id": f"p{problem}", "n_tokens": n})
            for feature, share, size in ((DENSE, 0.9, 5), (OF_P0, 0.3 if problem == 0 else 0.02, 2), (RARE, 0.05, 1)):
                fired = int(rng.binomial(n, share))
                if fired:
                    total = float(size * rng.exponential(1, fired).sum())
                    sums.append({"cot_id": name, "feature": feature, "total": total, "n_fired": fired})
    sums, tokens = pd.DataFrame(sums), pd.DataFrame(tokens)
    frequency = sums.groupby("feature")["n_fired"].sum().reindex(range(4), fill_value=0) / tokens["n_tokens"].sum()
    return sums, tokens, frequency


def test_the_strongest_are_by_the_mean_over_problems_of_the_mean_over_their_tokens(planted):
    sums, tokens, frequency = planted
    found = strongest(sums, tokens, frequency, n=2)
    means = {}
    for feature in range(4):
        by_problem = []
        for problem in tokens["problem_id"].unique():
            cots = tokens[tokens["problem_id"] == problem]
            total = sums[sums["cot_id"].isin(cots["cot_id"]) & (sums["feature"] == feature)]["total"].sum()
            by_problem.append(total / cots["n_tokens"].sum())
        means[feature] = np.mean(by_problem)
    assert found.rows["feature"].tolist() == sorted(means, key=means.__getitem__, reverse=True)[:2]
    assert found.rows["mean"].tolist() == pytest.approx([means[k] for k in found.rows["feature"]])
    assert (found.n_problems, found.n_tokens) == (12, tokens["n_tokens"].sum())
    assert found.rows["dense"].tolist() == [True, False] and found.n_dense == 1
    assert found.share_dense == pytest.approx(1 / 3)  # of the three that fire
    assert found.n_most_frequent == 1 + int(frequency[OF_P0] > frequency[RARE])


def test_the_planted_feature_is_the_most_specific_one_and_the_dense_one_is_not(planted):
    sums, tokens, _ = planted
    found = specific_to_problem(sums, tokens, "p0").set_index("feature")
    assert found.index[0] == OF_P0
    own = tokens[tokens["problem_id"] == "p0"]
    of_feature = sums[sums["feature"] == OF_P0]
    mean = of_feature[of_feature["cot_id"].isin(own["cot_id"])]["total"].sum() / own["n_tokens"].sum()
    others = []
    for problem in tokens["problem_id"].unique()[1:]:
        cots = tokens[tokens["problem_id"] == problem]
        others.append(of_feature[of_feature["cot_id"].isin(cots["cot_id"])]["total"].sum() / cots["n_tokens"].sum())
    assert found.loc[OF_P0, "lift"] == pytest.approx(mean / np.mean(others))
    assert found.loc[OF_P0, "low"] > 3 and found.loc[DENSE, "low"] < 1 < found.loc[DENSE, "high"] < 1.5
    assert found.loc[OF_P0, "n_chains"] == 3


def test_a_lift_has_no_interval_from_one_chain_and_no_value_where_it_fires_nowhere_else(planted):
    sums, tokens, _ = planted
    single = tokens[(tokens["problem_id"] != "p0") | (tokens["cot_id"] == "c0-0")]
    assert specific_to_problem(sums, single, "p0")["low"].isna().all()
    alone = sums[sums["feature"].isin([DENSE]) | sums["cot_id"].str.startswith("c0-")]
    found = specific_to_problem(alone, tokens, "p0").set_index("feature")
    assert np.isnan(found.loc[OF_P0, ["lift", "low", "high"]].astype(float)).all()
    assert np.isfinite(found.loc[DENSE, "lift"]) and found["lift"].isna().is_monotonic_increasing  # they come last
    assert specific_to_problem(sums, tokens, "nobody").empty


def test_what_is_specific_to_a_category_is_by_mean_sizes_there_and_everywhere():
    features = pd.DataFrame({"feature": [0, 1, 2], "frequency": [0.9, 0.1, 0.2], "mean_activation": [5.0, 2.0, 1.0]})
    there = pd.DataFrame(
        {
            "feature": [0, 1, 2],
            "n_fired": [90, 50, 4],
            "n_tokens": 100,
            "frequency": [0.9, 0.5, 0.04],
            "mean_activation": [5.0, 4.0, 9.0],
        }
    )
    found = specific_to_category(there, features)
    assert found["feature"].tolist() == [1, 0]  # the third fires on too few tokens
    assert found["lift"].tolist() == pytest.approx([(0.5 * 4) / (0.1 * 2), 1.0])
