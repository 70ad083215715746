"""The Jensen–Shannon importances against plain references and laws, and on answers whose divergence is known."""

import itertools
import math

import numpy as np
import pytest

from backend.importance.jsd import PRIOR, Sizes, divergence, jensen_shannon
from backend.importance.metric_registry import conventions_of
from backend.importance.metrics import importance_of_cot
from tests.backend.importance.test_metrics import of, rollout, table
from tests.planted_answers import measured

COUNTS = [
    ((3, 0, 7), (1, 8, 2), 3),
    ((0, 0, 30, 1), (5, 5, 5, 5), 9),
    ((1, 0), (0, 1), 2),
    ((40, 0), (0, 60), 2),
    ((4,), (6,), 1),
    ((2, 1, 1, 1, 1), (1, 1, 1, 2, 5), 40),
]


def found_of(p, q, n_outcomes):
    return jensen_shannon(np.array(p), np.array(q), n_outcomes)


@pytest.mark.parametrize(("p", "q", "n_outcomes"), COUNTS)
def test_the_posterior_mean_is_that_of_draws(p, q, n_outcomes):
    rng, width = np.random.default_rng(0), max(n_outcomes, len(p), 2)
    sides = [rng.dirichlet(np.pad(np.array(side), (0, width - len(side))) + PRIOR, 40_000) for side in (p, q)]
    draws, found = divergence(*sides), found_of(p, q, n_outcomes)
    assert found.value + found.by_chance == pytest.approx(draws.mean(), abs=4 * draws.std() / 200 + 4e-4)
    low, high = found.interval(np.random.default_rng(1))
    assert low + found.by_chance == pytest.approx(np.quantile(draws, 0.025), abs=0.01)
    assert high == pytest.approx(np.quantile(draws, 0.975), abs=0.01)


@pytest.mark.parametrize(("p", "q", "n_outcomes"), [case for case in COUNTS if sum(case[0]) <= 10])
def test_chance_and_p_are_those_of_all_permutations(p, q, n_outcomes):
    """Every way to choose which rollouts are in P, one by one."""
    pool = np.repeat(np.arange(len(p)), np.add(p, q))[:14]
    n_p = min(sum(p), 6)
    split = [np.bincount(pool[list(own)], minlength=len(p)) for own in itertools.combinations(range(len(pool)), n_p)]
    totals = np.bincount(pool, minlength=len(p))
    sizes, unseen = Sizes(n_p, len(pool) - n_p, max(n_outcomes, len(p), 2)), max(n_outcomes, len(p), 2) - len(p)
    nobody = unseen * sizes.terms(np.array(0), np.array(0))
    means = np.array([sizes.terms(one, totals - one).sum() + nobody for one in split])
    for one in (0, len(split) // 2):
        found = found_of(split[one], totals - split[one], n_outcomes)
        assert found.by_chance == pytest.approx(means.mean(), abs=1e-9)
        assert found.value == pytest.approx(means[one] - means.mean(), abs=1e-9)
        p_of_all = (means >= means[one] - 1e-9).mean()
        assert found.p(np.random.default_rng(0)) == pytest.approx(p_of_all, abs=1e-9)


def test_many_tables_are_drawn_and_p_is_never_0():
    p, q = np.eye(2, dtype=int)[[0] * 8 + [1] * 8].T * 6
    found = found_of(p, q, 16)
    assert math.prod(len(own) for own in found.tables.terms[:-1]) > 1e6
    assert found.p(np.random.default_rng(0)) == 1e-4


def test_it_is_symmetric_and_at_most_ln_2_and_below_0_where_groups_are_alike():
    for p, q, n_outcomes in COUNTS:
        there, back = found_of(p, q, n_outcomes), found_of(q, p, n_outcomes)
        assert there.value == pytest.approx(back.value, abs=1e-12) and there.value <= math.log(2)
        assert there.interval(np.random.default_rng(0)).high <= math.log(2)
    alike = found_of((10, 10), (10, 10), 2)
    assert alike.value < 0 and alike.p(np.random.default_rng(0)) == pytest.approx(1)
    apart = found_of((1000, 0), (0, 1000), 2)
    assert apart.value == pytest.approx(math.log(2), abs=0.01)


def test_answers_that_only_other_rollouts_of_the_problem_gave_draw_the_estimate_towards_0():
    values = [found_of((9, 1), (1, 9), n).value for n in (2, 5, 20, 100)]
    assert values == sorted(values, reverse=True) and values[-1] > 0


def test_of_a_chunk_either_pool_may_be_empty_and_the_last_has_no_next():
    rows = [rollout("c0", "7", True, 0.9)] * 5 + [rollout("c1", "8", False, 0.2)] * 5
    found = importance_of_cot(table(rows), ["c0", "c1"], seed=0)
    own = of(found, "c0", "counterfactual_importance_jsd", "jsd")
    assert math.isnan(own.value) and math.isnan(own.p) and (own.n, own.n_comparator) == (0, 5)
    assert of(found, "c0", "resampling_importance_jsd", "jsd").p == pytest.approx(2 / 252)
    last = found[(found["chunk_id"] == "c1") & found["metric"].str.endswith("_jsd")]
    assert len(last) == 4 and last[["value", "ci_low", "ci_high", "p"]].isna().all().all()
    others = found[~found["metric"].str.endswith("_jsd")]
    assert others["p"].isna().all()


def test_numbers_move_rollouts_to_the_other_side():
    """Alike by their embeddings, of other numbers: dissimilar under `numbers` alone."""
    rows = [rollout("c0", "41", False, 0.93)] * 6 + [rollout("c0", "40", True, 0.93)] * 2
    rows += [rollout("c0", "40", True, 0.1)] * 2 + [rollout("c1", "40", True, 0.9)] * 10
    frame = table(rows).assign(same_numbers=[False] * 6 + [True] * 2 + [True] * 2 + [True] * 10)
    found = importance_of_cot(frame, ["c0", "c1"], seed=0)
    plain, strict = (of(found, "c0", "counterfactual_importance_jsd", name) for name in ("jsd", "jsd_numbers"))
    assert (plain.n, strict.n) == (2, 8) and plain.value <= 0 < strict.value
    share = {name: of(found, "c0", name, "all").value for name in found["metric"] if name.startswith("different")}
    assert share == {"different_trajectories_fraction": 0.2, "different_trajectories_fraction_numbers": 0.8}
    assert conventions_of("resampling_importance_jsd") == ("jsd",)


def test_the_interval_holds_the_truth_and_p_claims_nothing_that_is_not_there():
    """A small version of `python benchmarks/jsd_coverage.py`, whose table is in docs/importance.md."""
    rng = np.random.default_rng(0)
    apart = [measured(truth, n, n, rng) for truth in (0.1, 0.2, 0.35, 0.5) for n in (20, 50) for _ in range(15)]
    same = [measured(0.0, n, n, rng) for n in (10, 20, 50) for _ in range(60)]
    assert np.mean([one.holds for one in apart]) >= 0.9
    assert np.mean([one.p <= 0.05 for one in same]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(same))
    assert abs(np.mean([one.value for one in same])) < 0.005 and min(one.value for one in same) < 0
    assert np.mean([one.p <= 0.05 for one in apart if one.truth >= 0.2]) > 0.9
    strayed = np.mean([one.high - one.low for one in apart])
    assert strayed < math.log(2) * 0.6, "an interval of the whole scale holds everything"
