from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from backend.evidence.multiple import with_q
from backend.evidence.pairs import evidence
from backend.evidence.power import Power
from backend.evidence.rows import evidence_of, row_of
from backend.evidence.rule import RULE
from backend.evidence.verdict import conditions, verdict
from backend.evidence.words import in_words
from backend.importance.estimates import kl_divergence
from tests.simulated_studies import simulate

SAID = {"x_name": "steepness", "y_name": "counterfactual importance", "where": "random directions, layer 12"}

PAIR = {"x": "steepness", "kind": "random", "metric": "counterfactual_importance_kl"}


@pytest.fixture(scope="module")
def inverse():
    frame = simulate("inverse", 0)
    return evidence(frame, n_bootstrap=199, n_permutations=199, seed=0, covariates=("position",), describe=False)


@pytest.fixture(scope="module")
def none():
    return evidence(simulate("none", 0), n_bootstrap=199, n_permutations=199, seed=0, describe=False)


def test_turned_around_an_inverse_law_is_a_direct_one(inverse):
    assert verdict(inverse) == "inverse"
    frame = simulate("inverse", 0).eval("x = -x")
    assert verdict(evidence(frame, n_bootstrap=199, n_permutations=199, seed=0, describe=False)) == "direct"


@pytest.mark.parametrize(
    "change",
    [
        {"rank": {"p_permutation": 0.02}},
        {"rank": {"p_permutation": float("nan")}},
        {"rank": {"n_problems": 4}},
        {"within": {"high": 0.01}},
        {"within": {"p_problems": 0.02}},
        {"partial": {"p": 0.02}},
        {"partial": {"p_problems": 0.02}},
        {"partial": {"rho": 0.2}},
        {"zero_inflated": {"auc": 0.6, "auc_p": 0.01}},
        {"zero_inflated": {"positive_spearman": 0.3, "positive_p": 0.01}},
    ],
)
def test_one_condition_that_does_not_hold_is_enough_for_none(inverse, change):
    ((part, values),) = change.items()
    changed = replace(inverse, **{part: replace(getattr(inverse, part), **values)})
    assert verdict(changed) == "none"
    assert [condition.holds for condition in conditions(changed)].count(False) == 1


def test_a_large_q_takes_the_claim_back(inverse):
    assert verdict(replace(inverse, q=0.04)) == "inverse" and verdict(replace(inverse, q=0.06)) == "none"


def test_a_law_within_cots_is_claimed_though_problems_run_the_other_way_and_the_words_say_so():
    rng = np.random.default_rng(0)
    level, within = np.repeat(rng.normal(0, 3, 40), 15), rng.normal(size=600)
    frame = pd.DataFrame({"x": level - within, "y": level + within, "problem_id": np.repeat(range(40), 15)})
    found = evidence(frame.assign(cot_id=frame["problem_id"]), n_bootstrap=99, n_permutations=199, seed=0)
    assert found.rank.ci_low > 0.4 and found.within.high < 0
    assert verdict(found) == "inverse" and found.runs_the_other_way
    said = in_words(found, **SAID)
    assert "is inversely related" in said and "which runs the other way: there what differs between problems" in said


def test_a_law_between_problems_alone_is_not_claimed():
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(0, 3, 40), 15)
    frame = pd.DataFrame(
        {"x": level + rng.normal(size=600), "y": -level + rng.normal(size=600), "problem_id": np.repeat(range(40), 15)}
    )
    found = evidence(frame.assign(cot_id=frame["problem_id"]), n_bootstrap=99, n_permutations=199, seed=0)
    assert found.rank.ci_high < -0.7 and verdict(found) == "none"


def test_one_problem_that_carries_a_law_alone_is_not_enough():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 600))
    y[:90] = -x[:90]  # all chunks of two problems in forty
    frame = pd.DataFrame({"x": x, "y": y, "problem_id": np.arange(600) // 45, "cot_id": np.arange(600) // 15})
    found = evidence(frame, n_bootstrap=199, n_permutations=999, seed=0, describe=False)
    assert found.rank.p_permutation <= 0.01 < found.within.p_problems and verdict(found) == "none"


def test_the_rule_names_its_thresholds():
    assert all(threshold in RULE for threshold in ("0.01", "0.05", "5 problems", "within chains"))


def test_q_is_that_of_benjamini_and_hochberg_within_each_subset(inverse):
    row, p = PAIR | row_of(inverse) | {"partial_p": None}, [0.01, 0.02, 0.03, 0.04]
    rows = [row | {"subset": "all", "p": value} for value in p] + [
        row | {"subset": "away_from_origin", "p": 0.04},
        row | {"p": None},
    ]
    found = with_q(rows)
    assert [r["q"] for r in found] == [pytest.approx(0.04)] * 5 + [None]
    assert [r["p"] for r in found] == [r["p"] for r in rows] and "q" not in rows[0]
    assert with_q([]) == []


def test_q_is_made_of_the_larger_p_with_and_without_covariates_and_says_what_p_would_do(inverse):
    row = PAIR | row_of(inverse)
    rows = [row | {"p": 0.001, "partial_p": p} for p in (0.01, 0.02, 0.001, 0.5)]
    found = with_q(rows)
    assert [r["q"] for r in found] == pytest.approx([0.02, 0.02 * 4 / 3, 0.004, 0.5])
    for k, judged in enumerate(found):  # at the p that is allowed a pair is claimed, and above it is not
        allowed = judged["p_allowed"]
        again = [
            with_q([r | ({"p": p, "partial_p": p} if j == k else {}) for j, r in enumerate(rows)])[k]["q"]
            for p in (allowed, 0.06)
        ]
        assert allowed == 0.01 and again[0] <= 0.05 < again[1]
    alone, *_ = with_q([row | {"p": 0.3}] + [row | {"p": 0.9}] * 49)
    assert alone["p_allowed"] == pytest.approx(0.05 / 50)


def test_a_pair_that_only_a_rule_of_before_has_judged_stays_unjudged_and_does_not_count(inverse):
    row = PAIR | row_of(inverse)
    now, before = with_q([row | {"p": 0.04}, row | {"p": 0.001, "verdict": None}])
    assert (now["q"], before["q"], before["verdict"]) == (pytest.approx(0.04), None, None)


@pytest.mark.parametrize("stored", ["inverse", "direct", "none"])
def test_a_stored_verdict_is_not_believed_but_judged_anew_from_the_rows_own_numbers(inverse, stored):
    """A rule that was made stricter since would else stand in the list of pairs, and not where one pair is shown."""
    row = PAIR | row_of(inverse)
    lost, kept = with_q([row | {"p": 0.02, "verdict": stored}, row | {"verdict": stored}])
    assert (lost["verdict"], kept["verdict"]) == ("none", "inverse")
    assert verdict(evidence_of(lost)) == "none" and verdict(evidence_of(kept)) == "inverse"


def test_where_a_hundred_pairs_were_looked_at_the_one_that_chance_gives_is_no_law(inverse):
    row = PAIR | row_of(inverse)
    rows = [row | {"p": 0.01}] + [row | {"p": p, "verdict": "none"} for p in np.linspace(0.02, 1, 99)]
    assert rows[0]["verdict"] == "inverse" and with_q(rows)[0]["verdict"] == "none"


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ({"kind": "diff_in_means"}, "the direction was made from the same rollouts"),
        (
            {"kind": "diff_in_means", "metric": "different_trajectories_fraction"},
            "the direction was made from the same rollouts",
        ),
        ({"kind": "diff_in_means", "metric": "forced_importance_kl"}, ""),
        ({"x": "different_trajectories_fraction", "metric": "resilience"}, "both are measured on the same rollouts"),
        ({"x": "different_trajectories_fraction", "metric": "forced_importance_kl"}, ""),
    ],
)
def test_what_is_not_measured_apart_is_never_claimed_and_does_not_count_among_those_looked_at(inverse, pair, why):
    row = row_of(inverse) | {"partial": None, "partial_p": None}  # no covariate is known
    first, second = with_q([PAIR | row | {"p": 0.001}, PAIR | pair | row | {"p": 0.008}])
    assert second["shared"] == why and second["verdict"] == ("none" if why else "inverse")
    assert (second["q"], first["q"]) == (pytest.approx((None, 0.001) if why else (0.008, 0.002)))
    if why:
        shared = replace(inverse, shared=why)
        assert verdict(shared) == "none" and f"measured apart: no, {why}" in in_words(shared, **SAID)


def test_a_smoothed_kl_of_few_rollouts_is_no_law_once_their_number_is_held_fixed():
    """No effect at all: right or wrong, Laplace 1, of n dissimilar rollouts against 40, n falling with x as different
    trajectories do.
    """
    rng = np.random.default_rng(0)
    x = rng.random(600)
    n = rng.binomial(19, 1 - 0.9 * x) + 1
    counts = [np.column_stack([right := rng.binomial(m, 0.9), m - right]) for m in (n, np.full(600, 40))]
    places = {"cot_id": np.arange(600) // 6, "problem_id": np.arange(600) // 15}
    frame = pd.DataFrame({"x": x, "y": kl_divergence(*counts, 1.0), "n": n, **places})
    how = {"n_bootstrap": 199, "n_permutations": 199, "seed": 0, "describe": False}
    assert verdict(evidence(frame, **how)) == "direct"
    assert verdict(evidence(frame, **how, covariates=("n",))) == "none"


def test_the_words_answer_with_direction_strength_and_chance(inverse, none):
    said = in_words(inverse, **SAID)
    assert said.startswith(
        "Steepness is inversely related to counterfactual importance here (random directions, layer 12): within CoTs"
    )
    assert "Over all chunks ρ = −" in said and "the other way" not in said and "would have been found" not in said
    assert (
        "600 chunks of 100 CoTs of 40 problems" in said
        and "Chance would not do as well" in said
        and "p ≤ 0.005" in said
    )
    said = in_words(none, **SAID | {"where": ""})
    assert said.startswith(
        "No association between steepness and counterfactual importance is shown here: within CoTs ρ"
    )
    assert (
        "Chance does as well" in said
        and "How strong an association would have been found is unknown: no effects were planted." in said
    )


def test_what_lies_outside_the_band_of_chance_fails_by_the_conditions_that_are_said(inverse):
    rank = replace(inverse.rank, p_permutation=0.034)
    said = in_words(replace(inverse, rank=rank), **SAID)
    assert "Chance seldom does as well" in said and "may do as well" not in said
    assert "this does not hold: p within CoTs = 0.034, at most 0.01." in said
    within = replace(inverse.within, null_low=-1.0, null_high=1.0)
    assert "Chance may do as well" in in_words(replace(inverse, rank=rank, within=within), **SAID)


@pytest.mark.parametrize(
    ("found", "p_needed", "p_allowed", "said"),
    [
        (
            (0.4, 0.93, 1.0),
            (1.0, 0.008, 0.001),
            0.01,
            "ρ = −0.25 within CoTs would have been found 9 times in 10; 9 times in 10 from",
        ),
        (
            (0.1, 0.52, 0.95),
            (1.0, 0.02, 0.001),
            0.01,
            "would have been found 5 times in 10; 9 times in 10 from ρ = −0.40 on.",
        ),
        (
            (0.4, 0.93, 1.0),
            (1.0, 0.008, 0.001),
            0.002,
            "as a pair by itself; 9 times in 10 from ρ = −0.40 on among all pairs, where p",
        ),
        (
            (0.0, 0.01, 0.2),
            (1.0, 1.0, 1.0),
            0.01,
            "would have been found hardly ever; not even ρ = −0.40 is found 9 times in 10.",
        ),
    ],
)
def test_a_none_says_what_it_would_have_found(none, found, p_needed, p_allowed, said):
    power = Power(200, (-0.15, -0.25, -0.4), found, p_needed)
    assert said in in_words(replace(none, power=power, p_allowed=p_allowed), **SAID)


def test_the_words_say_what_stands_against_a_claim(inverse):
    said = in_words(replace(inverse, q=0.2), **SAID)
    assert (
        "No association" in said
        and "Chance would not do as well" in said
        and "this does not hold: q over the grid = 0.2" in said
    )


def test_the_words_say_what_is_unknown(none):
    constant = evidence(simulate("none", 0).assign(y=0.0), n_bootstrap=9, n_permutations=9, seed=0, describe=False)
    assert "is unknown: y is the same for all 600 chunks" in in_words(constant, **SAID)
    nan = float("nan")
    undealt = replace(none, rank=replace(none.rank, p_permutation=nan), within=replace(none.within, low=nan))
    assert "interval unknown" in in_words(undealt, **SAID) and "Whether chance would do as well is unknown" in in_words(
        undealt, **SAID
    )
