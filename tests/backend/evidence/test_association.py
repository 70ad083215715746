import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from backend.errors import AnchorscopeError
from backend.evidence.association import association
from backend.statistics.resampling import centred_ranks, spearman, weighted_spearman


def chunks(x, y, problems, cots=None):
    problems = [f"p{k}" for k in problems]
    return pd.DataFrame({"x": x, "y": y, "problem_id": problems, "cot_id": problems if cots is None else cots})


def heavy_tails(rng, n):
    """Importance as published: mostly exactly 0, the rest heavy-tailed."""
    return np.where(rng.random(n) < 0.6, 0.0, rng.pareto(1.2, n))


def test_rho_is_scipys_with_many_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_a_draw_of_problems_equals_repeating_their_rows():
    rng = np.random.default_rng(1)
    problems = np.sort(rng.integers(0, 6, 50))
    x, y = rng.integers(0, 8, 50).astype(float), rng.integers(0, 5, 50).astype(float)
    draws = rng.multinomial(6, np.full(6, 1 / 6), size=40)
    for draw, rho in zip(draws, weighted_spearman(x, y, draws, problems), strict=True):
        rows = np.repeat(np.arange(50), draw[problems])
        assert rho == pytest.approx(spearmanr(x[rows], y[rows]).statistic, abs=1e-12)


def test_a_draw_without_variation_is_unknown():
    rho = weighted_spearman(
        np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 4]), np.array([[2, 0], [1, 1]]), np.array([0, 0, 1, 1])
    )
    assert math.isnan(rho[0]) and not math.isnan(rho[1])


def test_a_planted_inverse_law_is_found():
    rng = np.random.default_rng(2)
    x = rng.pareto(1.5, 200) + 0.1
    frame = chunks(x, 1 / x * rng.lognormal(0, 0.2, 200), np.repeat(range(10), 20))
    found = association(frame, n_bootstrap=300, n_permutations=499, seed=0)
    assert found.spearman < -0.9
    assert found.ci_low < found.spearman < found.ci_high < -0.8
    assert found.p_permutation == 1 / 500
    assert found.null_low < 0 < found.null_high
    assert (found.n, found.n_problems, found.n_missing, found.notes) == (200, 10, 0, ())


def test_independent_heavy_tails_are_rejected_one_time_in_twenty():
    rng = np.random.default_rng(3)
    p = np.array(
        [
            association(
                chunks(rng.pareto(1.2, 60), heavy_tails(rng, 60), np.repeat(range(6), 10)),
                n_bootstrap=0,
                n_permutations=199,
                seed=k,
            ).p_permutation
            for k in range(300)
        ]
    )
    assert 5 <= (p <= 0.05).sum() <= 26  # 99.9 % of binomial(300, 0.05)
    assert 120 <= (p <= 0.5).sum() <= 180


def test_levels_of_cots_alone_are_no_law_within_cots():
    rng = np.random.default_rng(4)
    p = []
    for k in range(200):
        level = np.repeat(np.arange(6.0), 10)
        frame = chunks(level + rng.normal(size=60), level + rng.normal(size=60), np.repeat(range(6), 10))
        found = association(frame, n_bootstrap=0, n_permutations=199, seed=k)
        assert found.spearman > 0.4 and found.null_mean > 0.4
        p.append(found.p_permutation)
    assert 2 <= (np.array(p) <= 0.05).sum() <= 21


def test_a_law_within_cots_shows_though_levels_run_against_it():
    rng = np.random.default_rng(5)
    level, within = np.repeat(np.arange(8.0), 15), rng.normal(size=120)
    found = association(
        chunks(level - within, level + within, np.repeat(range(8), 15)), n_bootstrap=0, n_permutations=499, seed=0
    )
    assert found.spearman > 0.3
    assert found.spearman < found.null_low
    assert found.p_permutation == 1 / 500


def test_the_mean_of_the_null_is_the_mean_of_its_permutations():
    rng = np.random.default_rng(6)
    x, y, problems = (
        rng.integers(0, 9, 40) + np.repeat([0, 5], 20),
        rng.integers(0, 9, 40) + np.repeat([0, 5], 20),
        np.repeat([0, 1], 20),
    )
    permuted = []
    for _ in range(1500):
        shuffled = np.concatenate([rng.permutation(y[:20]), rng.permutation(y[20:])])
        permuted.append(spearman(x, shuffled))
    found = association(chunks(x, y, problems), n_bootstrap=0, n_permutations=1500, seed=0)
    assert found.null_mean == pytest.approx(np.mean(permuted), abs=0.01)
    assert (found.null_low, found.null_high) == pytest.approx(tuple(np.quantile(permuted, [0.025, 0.975])), abs=0.02)


def test_problems_that_differ_make_the_interval_wider_than_chunks_as_their_own_problems():
    rng = np.random.default_rng(7)
    level_x, level_y = (np.repeat(rng.normal(0, 2, 12), 20) for _ in range(2))
    x, y = level_x + rng.normal(size=240), level_y + rng.normal(size=240)
    clustered = association(chunks(x, y, np.repeat(range(12), 20)), n_bootstrap=400, n_permutations=0, seed=0)
    naive = association(chunks(x, y, range(240)), n_bootstrap=400, n_permutations=0, seed=0)
    assert clustered.spearman == naive.spearman
    assert clustered.ci_high - clustered.ci_low > 2 * (naive.ci_high - naive.ci_low)


def test_one_problem_has_no_interval_and_says_so():
    rng = np.random.default_rng(8)
    found = association(chunks(rng.normal(size=20), rng.normal(size=20), [0] * 20), n_permutations=99, seed=0)
    assert math.isnan(found.ci_low) and math.isnan(found.ci_high)
    assert "one problem" in found.notes[0]
    assert 0 < found.p_permutation <= 1 and found.null_mean == pytest.approx(0)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [0, 0, 0, 0]), ([1, 2], [2, 1]), ([], [])]
)
def test_without_variation_rho_is_unknown_and_not_zero(x, y):
    found = association(chunks(x, y, range(len(x))), seed=0)
    assert all(
        math.isnan(v) for v in (found.spearman, found.ci_low, found.p_permutation, found.null_low, found.null_mean)
    )
    assert len(found.notes) == 1


def test_permutations_stay_within_cots_and_draws_take_whole_problems():
    rng = np.random.default_rng(12)
    level = np.repeat(np.arange(8.0), 10)  # two CoTs a problem, and a CoT's level in both measures
    frame = chunks(
        level + rng.normal(size=80), level + rng.normal(size=80), np.repeat(range(4), 20), cots=np.repeat(range(8), 10)
    )
    found = association(frame, n_bootstrap=200, n_permutations=500, seed=0)
    assert found.p_permutation > 0.05 and found.null_low < found.spearman < found.null_high
    merged = association(frame.assign(cot_id=frame["problem_id"]), n_bootstrap=200, n_permutations=500, seed=0)
    assert merged.p_permutation < 0.05
    assert (merged.ci_low, merged.ci_high) == pytest.approx((found.ci_low, found.ci_high), abs=1e-9)


def test_one_chunk_a_cot_leaves_nothing_to_permute():
    found = association(chunks([1, 2, 3, 4], [1, 3, 2, 4], range(4)), n_bootstrap=50, seed=0)
    assert found.spearman == pytest.approx(0.8)
    assert math.isnan(found.p_permutation)
    assert any("permuting" in note for note in found.notes)


def test_unknown_values_are_left_out_and_zeros_counted():
    frame = chunks(
        [1, 2, None, 4, 5, 0], [0, 0, 1, None, 3, 4], [0, 0, 0, 1, 1, 1], cots=["a", "b", "a", "c", "c", "d"]
    )
    found = association(frame, n_bootstrap=10, n_permutations=10, seed=0)
    assert (found.n, found.n_missing, found.n_zero_x, found.n_zero_y, found.n_cots, found.n_problems) == (
        4,
        2,
        1,
        2,
        4,
        2,
    )
    assert found.spearman == spearman(np.array([1, 2, 5, 0]), np.array([0, 0, 3, 4]))


def test_row_order_changes_nothing_and_the_seed_does():
    rng = np.random.default_rng(9)
    frame = chunks(rng.normal(size=80), heavy_tails(rng, 80), np.repeat(range(8), 10))
    found = association(frame, n_bootstrap=100, n_permutations=100, seed=1)
    assert association(frame.sample(frac=1, random_state=0), n_bootstrap=100, n_permutations=100, seed=1) == found
    other = association(frame, n_bootstrap=100, n_permutations=100, seed=2)
    assert (other.ci_low, other.null_low) != (found.ci_low, found.null_low)


def test_rho_keeps_its_value_when_x_is_stretched_and_its_sign_turns_with_x():
    rng = np.random.default_rng(10)
    x, y, problems = rng.normal(size=40), rng.normal(size=40), np.repeat(range(4), 10)
    plain, stretched, turned = (
        association(chunks(v, y, problems), n_bootstrap=0, n_permutations=9, seed=0) for v in (x, np.exp(3 * x), -x)
    )
    assert stretched.spearman == plain.spearman
    assert turned.spearman == pytest.approx(-plain.spearman)


def test_missing_columns_and_chunks_without_a_problem_are_named():
    frame = chunks([1, 2, 3], [3, 2, 1], [0, 0, 1])
    with pytest.raises(AnchorscopeError, match="problem_id"):
        association(frame.drop(columns="problem_id"), seed=0)
    with pytest.raises(AnchorscopeError, match="1 chunks have no problem_id"):
        association(frame.assign(problem_id=["a", "a", None]), seed=0)
    with pytest.raises(AnchorscopeError, match="2 chunks have no cot_id"):
        association(frame.assign(cot_id=[None, "a", None]), seed=0)


def test_centred_ranks_are_scipys_mid_ranks_less_their_mean():
    rng = np.random.default_rng(4)
    for n in (1, 2, 7, 40):
        values = rng.choice(rng.normal(size=max(1, n // 2)), n)
        assert np.array_equal(centred_ranks(values), rankdata(values) - (n + 1) / 2)
    assert np.isnan(centred_ranks(np.array([1.0, np.nan, 2.0]))).all()
