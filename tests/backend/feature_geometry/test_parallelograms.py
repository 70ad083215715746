"""The loss against its formula, its null against the exact law, intervals against simulation."""

import numpy as np
import pytest
from scipy import stats

from backend.feature_geometry.parallelograms import (
    Pairs,
    clusters,
    compare,
    extremes,
    loss,
    measure,
    random_loss,
)


def pairs(inputs, outputs, *, input_ids=None, output_ids=None, part=None):
    n = len(inputs)
    own = np.arange(2 * n)
    return Pairs(
        np.asarray(inputs, float),
        np.asarray(outputs, float),
        own[:n] if input_ids is None else np.asarray(input_ids),
        own[n:] if output_ids is None else np.asarray(output_ids),
        np.zeros(n, int) if part is None else np.asarray(part),
    )


def random_pairs(n=12, d=20, seed=0, planted=0.0):
    """Random words; `planted` is the length of what every output has beyond its input's own scatter."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n, d))
    if not planted:
        return pairs(inputs, rng.standard_normal((n, d)))
    return pairs(inputs, inputs + planted * rng.standard_normal(d))


def test_every_loss_is_that_of_the_formula_word_by_word():
    given = random_pairs(n=5, d=3)
    found = measure(given, shuffles=2, seed=0).losses
    for i in range(5):
        for j in range(5):
            if i == j:
                assert np.isnan(found[i, j])
                continue
            a, b, c, d = given.inputs[i], given.outputs[i], given.inputs[j], given.outputs[j]
            norms = np.sqrt(sum(one @ one for one in (a, b, c, d)))
            assert found[i, j] == pytest.approx(np.linalg.norm(a - b - c + d) / norms)
            assert loss(a, b, c, d) == pytest.approx(found[i, j])


def test_planted_parallelograms_have_no_loss_and_their_shuffles_have():
    found = measure(random_pairs(planted=2.0), shuffles=100, seed=1)
    assert found.mean < 1e-6 and found.null > 0.5
    assert found.ratio < 1e-6 and found.p == pytest.approx(1 / 101)


def test_random_words_have_the_exact_law_and_a_ratio_of_one():
    n, d = 60, 8
    found = measure(random_pairs(n=n, d=d, seed=3), shuffles=200, seed=1)
    alone = [loss(*np.random.default_rng(k).standard_normal((4, d))) for k in range(4000)]
    assert stats.kstest(np.square(alone) / 4, random_loss(d).cdf).pvalue > 0.01
    law = np.sqrt(4 * random_loss(d).ppf(0.5))
    assert found.null_curve[10] == pytest.approx(law, abs=0.02)
    assert found.ratio_interval.low < 1 < found.ratio_interval.high
    assert found.ratio == pytest.approx(1, abs=0.05) and found.p > 0.02


def test_losses_do_not_change_under_rotation_and_scale():
    given = random_pairs()
    q, _ = np.linalg.qr(np.random.default_rng(9).standard_normal((20, 20)))
    turned = pairs(3.5 * given.inputs @ q, 3.5 * given.outputs @ q)
    one, other = (measure(each, shuffles=20, seed=4) for each in (given, turned))
    assert one.losses == pytest.approx(other.losses, nan_ok=True)
    assert one.null_means == pytest.approx(other.null_means)


def test_two_clouds_without_pairing_are_in_the_null_too():
    """Inputs in one place and outputs in another: the loss is small, and so is that of shuffled pairs."""
    rng = np.random.default_rng(0)
    shift = np.array([20.0, *[0.0] * 9])
    found = measure(pairs(rng.standard_normal((40, 10)), shift + rng.standard_normal((40, 10))), shuffles=200, seed=1)
    assert found.mean < 0.4 and found.ratio == pytest.approx(1, abs=0.05)


def test_quadruples_in_which_a_word_stands_twice_do_not_count_in_shuffles_either():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 4))
    ids = [0, 1, 2], [3, 3, 1]  # b of the first two is one word; the third leads to the input of the second
    given = pairs(vectors[ids[0]], vectors[ids[1]], input_ids=ids[0], output_ids=ids[1])
    found = measure(given, shuffles=500, seed=1)
    assert np.isnan(found.losses[0, 1]) and np.isnan(found.losses[1, 2]) and not np.isnan(found.losses[0, 2])
    distinct = {
        round(float(loss(*vectors[[a, b, c, d]])), 9)
        for a in range(3)
        for c in range(a + 1, 3)
        for b in (3, 1)
        for d in (3, 1)
        if len({a, b, c, d}) == 4
    }
    assert set(np.round(found.null_curve[[0, -1]], 9)) == distinct  # a quantile in between may be interpolated
    assert clusters(given.input_ids, given.output_ids).tolist() == [0, 0, 0]


def test_quadruples_do_not_cross_parts_and_outputs_are_dealt_within_them():
    given = random_pairs(n=8, planted=1.0)
    far = np.where(np.arange(8)[:, None] < 4, 0.0, 1e6)
    part = [0] * 4 + [1] * 4
    found = measure(pairs(given.inputs + far, given.outputs + far, part=part), shuffles=50, seed=2)
    assert np.isnan(found.losses[:4, 4:]).all() and found.upper.size == 12
    assert found.null_means.max() < 1


def test_intervals_of_the_ratio_cover_one_in_about_95_of_100_worlds():
    covered = [
        interval.low <= 1 <= interval.high
        for seed in range(120)
        if (interval := measure(random_pairs(n=20, d=5, seed=seed), shuffles=60, seed=seed).ratio_interval)
    ]
    assert np.mean(covered) > 0.87


def test_the_interval_over_pairs_is_that_of_the_bootstrap_over_pairs():
    one, other = (measure(random_pairs(n=40, d=6, seed=seed), shuffles=2, seed=0) for seed in (1, 2))
    found = compare(one, other)
    differences = np.nan_to_num(other.losses - one.losses)
    rng, means = np.random.default_rng(0), []
    for _ in range(2000):
        weights = rng.multinomial(40, np.full(40, 1 / 40))
        both = np.outer(weights, weights) * (1 - np.eye(40))
        means.append((both * differences).sum() / both.sum())
    assert found.high - found.low == pytest.approx(np.diff(np.quantile(means, [0.025, 0.975]))[0], rel=0.15)
    assert found.difference == pytest.approx(other.mean - one.mean) and found.low < found.difference < found.high


def test_the_best_and_the_worst_quadruples_are_the_least_and_the_largest_losses():
    found = measure(random_pairs(n=6), shuffles=2, seed=0).losses
    best, worst = extremes(found, 2)
    known = np.sort(found[np.triu_indices(6, 1)])
    assert [found[place] for place in best] == known[:2].tolist()
    assert [found[place] for place in worst] == known[::-1][:2].tolist()


def test_a_class_without_quadruples_is_unknown():
    found = measure(random_pairs(n=1), shuffles=3, seed=0)
    assert np.isnan([found.mean, found.null, found.ratio, found.p, *found.ratio_interval, *found.curve]).all()
