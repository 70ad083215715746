import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, mannwhitneyu

from backend.errors import AnchorscopeError
from backend.evidence.pairs import evidence
from backend.evidence.partial import held_fixed, partial
from backend.evidence.rows import evidence_of, row_of
from backend.evidence.sample import sample_of
from backend.schema.tables import TABLES
from tests.simulated_studies import simulate

PAIR = {"x", "kind", "model_id", "layer", "position", "unit", "metric", "convention"}
FEW = {"n_bootstrap": 60, "n_permutations": 60, "seed": 0}


@pytest.fixture(scope="module")
def study():
    return simulate("inverse", 0)


@pytest.fixture(scope="module")
def found(study):
    return evidence(study, **FEW, covariates=("position", "n_tokens"))


def test_a_row_has_the_columns_of_the_table_and_reads_back(found):
    row = row_of(found)
    assert set(row) | PAIR == set(TABLES["associations"].columns)
    assert repr(evidence_of(row)) == repr(found)
    assert repr(evidence_of(pd.DataFrame([row]).iloc[0])) == repr(found)
    json.loads(row["details"], parse_constant=pytest.fail)


def test_what_is_unknown_is_null_in_a_row_and_nan_when_read_back(study):
    nothing = evidence(study.assign(y=0.0, position=np.nan), **FEW, covariates=("position",))
    row = row_of(nothing)
    assert [row[name] for name in ("spearman", "p", "kendall", "partial")] == [None] * 4
    assert (row["n"], row["n_zero_y"], row["verdict"], row["covariates"]) == (600, 600, "none", [])
    assert any("position is known for 0 of 600 chunks" in note for note in nothing.notes)
    assert math.isnan(evidence_of(row).rank.spearman)


def test_kendall_and_auc_are_scipys(found, study):
    assert found.kendall.tau == pytest.approx(kendalltau(study["x"], study["y"]).statistic, abs=1e-12)
    positive = study["y"] > 0
    auc = mannwhitneyu(study["x"][positive], study["x"][~positive]).statistic / positive.sum() / (~positive).sum()
    assert found.zero_inflated.auc == pytest.approx(auc, abs=1e-12)
    assert found.kendall.low < found.kendall.tau < found.kendall.high < 0
    assert found.zero_inflated.auc_low < auc < found.zero_inflated.auc_high


def test_a_draw_of_problems_repeats_their_chunks_in_kendalls_tau():
    from backend.evidence.kendall import _pair_sums, _tau
    from backend.evidence.sample import sample_of

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.integers(0, 9, 40), "y": rng.integers(0, 5, 40), "problem_id": np.repeat(range(5), 8), "cot_id": 0}
    )
    sample, draws = sample_of(frame), rng.multinomial(5, np.full(5, 0.2), size=10)
    for draw, tau in zip(draws, _tau(_pair_sums(sample), draws), strict=True):
        rows = np.repeat(np.arange(40), draw[sample.problems])
        assert tau == pytest.approx(kendalltau(sample.x[rows], sample.y[rows]).statistic, abs=1e-12)


def test_a_common_cause_shows_in_rho_and_goes_when_held_fixed():
    rng = np.random.default_rng(1)
    cause = rng.normal(size=400)
    frame = pd.DataFrame(
        {
            "x": np.exp(cause + 0.5 * rng.normal(size=400)),
            "y": cause + 0.5 * rng.normal(size=400),
            "cause": cause,
            "cot_id": np.repeat(range(40), 10),
            "problem_id": np.repeat(range(20), 20),
        }
    )
    found = evidence(frame, **FEW, covariates=("cause",), describe=False)
    assert found.within.rho > 0.7 and found.rank.p_permutation == 1 / 61
    assert abs(found.partial.rho) < 0.2 and found.partial.p > 0.01
    assert found.partial.covariates == ("cause",)


def test_given_what_says_nothing_the_partial_correlation_is_that_within_cots(study):
    noise = np.random.default_rng(2).normal(size=len(study))
    found = evidence(study.assign(noise=noise), **FEW, covariates=("noise",), describe=False)
    assert found.partial.rho == pytest.approx(found.within.rho, abs=0.03)


@pytest.mark.parametrize("shape", [lambda u: 3.0 * (u > 0.8), lambda u: 3.0 * (u == 0), lambda u: -12 * (u - 0.5) ** 2])
def test_what_happens_at_the_ends_or_in_the_middle_of_chains_alone_is_taken_out(shape):
    rng = np.random.default_rng(4)
    place = np.tile(np.arange(10) / 10, 60)
    x, y = (shape(place) + rng.normal(size=600) for _ in range(2))
    frame = pd.DataFrame(
        {"x": x, "y": y, "place": place, "cot_id": np.repeat(range(60), 10), "problem_id": np.repeat(range(30), 20)}
    )
    found = evidence(frame, **FEW, covariates=("place",), describe=False)
    assert found.within.rho > 0.25 and abs(found.partial.rho) < 0.1


def test_the_p_given_covariates_is_wide_enough_for_what_they_took_out():
    """y's residuals are smaller than its noise by the terms: without widening them 23 of these worlds have p at most
    0.05.
    """
    rng, low = np.random.default_rng(5), 0
    ids = {"cot_id": np.repeat(range(30), 5), "problem_id": np.repeat(range(15), 10)}
    for seed in range(300):
        columns = dict(zip(("x", "y", "a", "b"), rng.normal(size=(4, 150)), strict=True))
        sample = sample_of(pd.DataFrame({**columns, **ids}))
        held = held_fixed(sample, ("a", "b")).values
        low += partial(sample, held, n_permutations=99, seed=seed).p <= 0.05
    assert low <= 18  # 15 on average; 13 here


def test_zeros_and_sizes_are_told_apart():
    rng = np.random.default_rng(3)
    x, ids = rng.random(600), {"cot_id": np.repeat(range(60), 10), "problem_id": np.repeat(range(30), 20)}
    zeros_only = pd.DataFrame({"x": x, "y": np.where(rng.random(600) < x, 0.0, rng.random(600)), **ids})
    sizes_only = pd.DataFrame({"x": x, "y": np.where(rng.random(600) < 0.5, 0.0, 2 - x), **ids})
    a, b = (evidence(frame, **FEW).zero_inflated for frame in (zeros_only, sizes_only))
    assert a.auc < 0.3 and a.auc_high < 0.5 and a.auc_p == 1 / 61 and a.positive_p > 0.05
    assert b.positive_spearman == pytest.approx(-1) and b.positive_p == 1 / 61 and b.auc_p > 0.05
    assert a.n_positive == (zeros_only["y"] > 0).sum() and a.n_negative == 0


def test_leaving_out_the_corner_alone_makes_rho_fall_and_the_null_knows_it():
    p = []
    for seed in range(20):
        found = evidence(
            simulate("l_shape", seed),
            n_bootstrap=50,
            n_permutations=99,
            seed=0,
            subset="away_from_origin",
            describe=False,
        )
        assert found.rank.spearman < -0.1 and found.rank.null_high < 0
        assert found.rank.null_mean == pytest.approx(found.rank.spearman, abs=0.12)
        p.append(found.rank.p_permutation)
    assert np.mean(np.array(p) <= 0.05) < 0.2
    assert "leaving them out gives ρ" in found.notes[0]


def test_away_from_the_origin_are_the_chunks_above_a_median(study):
    away = evidence(study, **FEW, subset="away_from_origin", describe=False)
    kept = (study["x"] > study["x"].median()) | (study["y"] > study["y"].median())
    assert (away.rank.n, away.subset) == (kept.sum(), "away_from_origin")
    with pytest.raises(AnchorscopeError, match="the subsets are all, away_from_origin"):
        evidence(study, **FEW, subset="near")


def test_covariates_that_are_no_columns_are_named(study):
    with pytest.raises(AnchorscopeError, match="entropy"):
        evidence(study, **FEW, covariates=("entropy",))


def test_row_order_changes_nothing(study, found):
    again = evidence(study.sample(frac=1, random_state=0), **FEW, covariates=("position", "n_tokens"))
    assert row_of(again)["details"] == row_of(found)["details"]
