"""More rollouts, narrower intervals: by the square root, and the whole is the metric itself."""

import numpy as np
import pandas as pd
import pytest

from backend.importance.convergence import convergence
from backend.importance.metrics import RolloutsError, importance_of_cot
from backend.statistics.intervals import wilson
from tests.backend.importance.test_metrics import rollout, table


def planted(n, share=0.3, seed=0):
    """Two chunks with n rollouts each; so many are correct, and half are dissimilar."""
    draw = np.random.default_rng(seed)
    return table(
        [
            rollout(chunk, "7" if right else "8", bool(right), 0.1 if k % 2 else 0.9, f"{k}")
            for chunk in ("c0", "c1")
            for k, right in enumerate(draw.permutation(np.arange(n) < share * n))
        ]
    )


def of(rollouts, metric, convention="all", chunk="c0", **options):
    return convergence(
        rollouts, ["c0", "c1"], chunk, metric, convention, **({"sizes": [5], "seed": 0} | options)
    ).set_index("m")


def test_the_interval_of_a_binomial_narrows_with_the_square_root():
    found = of(planted(400), "counterfactual_accuracy", sizes=[25, 100, 400])
    assert found["half_width"][25] / found["half_width"][100] == pytest.approx(2, rel=0.1)
    assert found["half_width"][100] / found["half_width"][400] == pytest.approx(2, rel=0.1)
    assert found["half_width"][100] == pytest.approx(1.96 * (0.3 * 0.7 / 100) ** 0.5, rel=0.1)
    assert (found["mean"] - 0.3).abs().max() < 0.03 and found["n_unknown"].sum() == 0


def test_orders_agree_on_all_rollouts_and_that_is_the_metric():
    rollouts = planted(20)
    whole = importance_of_cot(rollouts, ["c0", "c1"], n_bootstrap=0, seed=0).set_index(
        ["chunk_id", "metric", "convention"]
    )["value"]
    conventions = {
        "counterfactual_importance_jsd": "jsd",
        "resampling_importance_jsd": "jsd",
        "counterfactual_importance_kl": "ta",
        "resampling_importance_accuracy": "all",
        "overdeterminedness": "all",
    }
    for metric, convention in conventions.items():
        row = of(rollouts, metric, convention, sizes=[20]).loc[20]
        assert row["mean"] == pytest.approx(whole["c0", metric, convention]) and row["high"] - row[
            "low"
        ] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("convention", ["jsd", "jsd_numbers"])
def test_under_jsd_the_whole_counts_those_from_earlier_and_the_answers_of_the_problem(convention):
    """The estimate and its interval are those that the study stores, with n_outcomes of the problem; of fewer at each
    chunk fewer come from earlier.
    """
    draw = np.random.default_rng(2)
    rows = [
        rollout(chunk, str(draw.integers(3)), bool(draw.integers(2)), 0.1 if k % 3 else 0.9, f"{k}")
        for chunk in ("c0", "c1", "c2")
        for k in range(20)
    ]
    rollouts = table(rows).assign(
        n_kept=lambda own: [int(chunk == "c0" and k % 2) for k, chunk in enumerate(own["chunk_id"])],
        departing_similarity=0.1,
        same_numbers=True,
        departing_same_numbers=False,
    )
    ids, metric = ["c0", "c1", "c2"], "counterfactual_importance_jsd"
    stored = importance_of_cot(rollouts, ids, n_bootstrap=1, seed=0, n_outcomes=7)
    stored = stored.set_index(["chunk_id", "metric", "convention"]).loc[("c1", metric, convention)]

    def at_20(of_rollouts, **options):
        found = convergence(of_rollouts, ids, "c1", metric, convention, sizes=[8, 20], seed=0, n_orders=5, **options)
        return found.set_index("m")["mean"][20]

    assert at_20(rollouts, n_outcomes=7) == pytest.approx(stored["value"])
    assert at_20(rollouts) != pytest.approx(stored["value"])
    assert at_20(rollouts.drop(columns="n_kept"), n_outcomes=7) != pytest.approx(stored["value"])
    half = convergence(rollouts, ids, "c1", metric, convention, sizes=[8, 20], seed=0, n_orders=12)["half_width"]
    assert half[1] < half[0]


def test_subsets_spread_more_the_smaller_they_are():
    found = of(planted(40), "counterfactual_accuracy", sizes=[5, 20, 35])
    spread = (found["high"] - found["low"]).to_numpy()
    assert (np.diff(spread) < 0).all() and (found["low"] < 0.3).all() and (found["high"] > 0.3).all()


def test_what_cannot_be_known_is_unknown():
    rollouts = planted(10)
    beyond = of(rollouts, "counterfactual_importance_kl", "fl", sizes=[10, 11])
    assert not np.isnan(beyond["mean"][10]) and beyond.loc[11, ["mean", "low", "high", "half_width"]].isna().all()
    assert beyond["n_unknown"][11] == 100
    assert (
        of(rollouts, "counterfactual_importance_kl", "fl", chunk="c1")["mean"].isna().all()
    )  # nothing comes after the last chunk
    assert of(rollouts, "counterfactual_accuracy", chunk="c1")["mean"].notna().all()
    assert np.isnan(of(rollouts, "overdeterminedness")["half_width"][5])
    some = of(
        rollouts, "counterfactual_importance_accuracy", "paper", sizes=[2]
    )  # sometimes neither of two is dissimilar
    assert 0 < some["n_unknown"][2] < 100 and not np.isnan(some["mean"][2])


def test_resilience_needs_to_know_what_comes_back():
    rollouts = planted(12)
    assert of(rollouts, "resilience")["mean"].isna().all()
    known = of(
        rollouts.assign(returns=rollouts["similarity"].map({0.1: True, 0.9: pd.NA})), "resilience", sizes=[12]
    ).loc[12]
    assert known["mean"] == 1 and known["half_width"] > 0.1  # all of six: Wilson's interval has a width


def test_the_same_seed_gives_the_same_table_and_wrong_questions_are_refused():
    rollouts = planted(12)
    pd.testing.assert_frame_equal(of(rollouts, "counterfactual_accuracy"), of(rollouts, "counterfactual_accuracy"))
    for wrong in ({"chunk": "c9"}, {"convention": "ta"}, {"sizes": [0]}):
        with pytest.raises(RolloutsError):
            of(rollouts, "counterfactual_accuracy", **wrong)


@pytest.mark.parametrize(
    ("metric", "convention"), [("resampling_importance_kl", "ta"), ("resampling_importance_kl", "fl")]
)
def test_groups_that_all_agree_have_no_half_width_and_not_one_of_0(metric, convention):
    agreed = of(planted(40, share=1.0), metric, convention, sizes=[10, 40])
    assert agreed["half_width"].isna().all() and (agreed["mean"] == 0).all()
    assert of(planted(40, share=0.5), metric, convention, sizes=[40])["half_width"].notna().all()


def test_a_share_of_rollouts_that_all_agree_has_wilsons_half_width():
    found = of(planted(40, share=1.0), "counterfactual_accuracy", sizes=[40]).loc[40]
    low, high = wilson(40, 40)
    assert found["half_width"] == pytest.approx((high - low) / 2) and found["half_width"] > 0.04
