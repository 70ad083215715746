import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from backend.latent.kinds import LatentError
from backend.latent.outcomes import (
    NO_CELLS,
    Seen,
    against_random,
    cell_table,
    likeness,
    mean_change,
    read_map,
    seen,
)
from backend.latent.published import Arm
from backend.latent.vectors import pairs_of
from backend.statistics.intervals import wilson
from backend.statistics.paired import mcnemar

K, N = 4, 400
BEFORE = np.random.default_rng(99).random(N) < 0.5  # unsteered


def planted(rng, changes, *, kind="pair", noise=0.1):
    """Cells in which a share of the answers is gained, given by (vector, target), and as many change at random."""
    labels, right = [], []
    for (vector, target), gain in changes.items():
        own = np.where(rng.random(N) < noise, ~BEFORE, BEFORE)
        own = np.where(rng.random(N) < abs(gain), gain > 0, own)
        pair = vector if kind == "pair" else (None, None)
        labels.append(
            {"vector": str(vector), "a": pair[0], "b": pair[1], "target": target, "exit": target, "length": 1.0}
        )
        right.append(own)
    return Seen(pd.DataFrame(labels), np.array(right), np.tile(BEFORE, (len(right), 1)))


def pairs(rng, gain=0.0, **how):
    return planted(rng, {(p, t): gain for p in pairs_of(K) for t in range(1, K + 1)}, **how)


def randoms(rng, gain=0.0, n=20, **how):
    return planted(rng, {(r, t): gain for r in range(n) for t in range(1, K + 1)}, kind="random", **how)


def test_a_cell_has_the_paired_test_of_its_answers_and_wilsons_interval():
    rng = np.random.default_rng(0)
    own, other = pairs(rng, 0.1), randoms(rng)
    table = cell_table(own, other)
    for number, row in table.iterrows():
        tested = mcnemar(own.unsteered[number].tolist(), own.right[number].tolist())
        assert (row["difference"], row["low"], row["high"], row["p"]) == pytest.approx(
            (tested.difference, tested.low, tested.high, tested.p)
        )
        gained, lost = row["gained"], row["lost"]
        assert row["p"] == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
        assert (row["accuracy_low"], row["accuracy_high"]) == tuple(wilson(int(own.right[number].sum()), N))
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])


def test_the_rank_among_random_vectors_is_that_at_the_same_target():
    rng = np.random.default_rng(1)
    own, other = pairs(rng, 0.3), randoms(rng)
    table = cell_table(own, other)
    assert (table["n_random"] == 20).all() and (table["p_random"] == 1 / 21).all()
    sizes = np.abs(other.effects.mean(1))
    row = cell_table(pairs(rng, 0.0), other).iloc[5]
    at = sizes[(other.labels["target"] == row["target"]).to_numpy()]
    assert row["n_random_as_far"] == (at >= abs(row["difference"]) - 1e-12).sum()
    assert math.isnan(cell_table(own, NO_CELLS)["p_random"].iloc[0])


def test_differences_that_help_are_told_from_random_vectors_and_those_that_do_not_are_not():
    rng = np.random.default_rng(2)
    helps = against_random(pairs(rng, 0.1), randoms(rng))
    assert helps.low > 0 and helps.p_helps < 0.01 and helps.n_higher > 5 and helps.n_lower == 0
    alike = [against_random(pairs(rng, noise=0.3), randoms(rng, noise=0.3), seed=seed) for seed in range(40)]
    assert sum(one.p_helps <= 0.05 for one in alike) <= 6 and sum(one.p_moves <= 0.05 for one in alike) <= 6
    held = sum(one.low <= 0 <= one.high for one in alike)
    assert held >= 34
    assert (alike[0].n_pairs, alike[0].n_random, alike[0].n_cells, alike[0].n) == (6, 20, 24, N)


def test_what_a_map_would_have_found_is_said():
    rng = np.random.default_rng(3)
    none = against_random(pairs(rng), randoms(rng))
    assert none.n_higher == none.n_lower == 0 and 0.05 < none.detectable < 0.12
    found = [against_random(pairs(rng, none.detectable * 2), randoms(rng)) for _ in range(4)]
    assert np.mean([one.n_higher / one.n_cells for one in found]) > 0.7  # half of those unsteered wrong can be gained


def test_maps_of_the_same_effects_are_alike_and_those_of_opposite_ones_unlike():
    rng = np.random.default_rng(4)
    cells = {(p, t): 0.3 * rng.random() * rng.choice([-1, 1]) for p in pairs_of(K) for t in range(1, K + 1)}
    one, again = planted(rng, cells), planted(rng, cells)
    opposite = planted(rng, {key: -gain for key, gain in cells.items()})
    other = planted(rng, {key: 0.3 * (rng.random() - 0.5) for key in cells})
    assert likeness(one, one).value == pytest.approx(1) and likeness(one, again).low > 0.7
    assert likeness(one, opposite).high < -0.7 and abs(likeness(one, other).value) < 0.6
    assert likeness(one, again).value == pytest.approx(
        np.corrcoef(one.effects.mean(1), again.effects.mean(1))[0, 1], rel=1e-9
    )


def test_maps_are_compared_by_their_labels_whatever_order_they_are_in():
    rng = np.random.default_rng(5)
    one = pairs(rng, 0.1)
    order = rng.permutation(len(one.labels))
    other = Seen(one.labels.iloc[order].reset_index(drop=True), one.right[order], one.unsteered[order])
    assert likeness(one, other).value == pytest.approx(1)
    with pytest.raises(LatentError, match="same problems"):
        likeness(one, Seen(one.labels, one.right[:, :5], one.unsteered[:, :5]))
    flat = Seen(one.labels, one.unsteered, one.unsteered)
    assert math.isnan(likeness(one, flat).value)


def test_a_mean_change_has_an_interval_over_problems():
    rng = np.random.default_rng(6)
    found = mean_change(pairs(rng, 0.2))
    assert found.low < found.value < found.high and 0.05 < found.value < 0.15 and found.n == 24
    assert math.isnan(mean_change(NO_CELLS).value)


def test_an_answer_is_read_from_its_number_and_one_that_was_not_given_is_not_right():
    facts = {"n_latents": 1, "truths": ["7", "7", "8"], "answers": ["7", None, "9"], "first_answers": ["8", None, "7"]}
    cells = pd.DataFrame(
        {"vector": ["none", "none"], "kind": "none", "exit": [0, 1], "target": 0, "answers": [[0, 1, 2], [2, 0, 0]]}
    )
    own = read_map(facts, cells)
    assert own.right.tolist() == [[True, False, False], [False, True, False]]
    assert own.first_right.tolist() == [[False, False, False], [True, False, True]]


def test_early_exits_and_the_end_share_the_last_latent():
    rows = [("none", "none", None, None, 0, e) for e in range(3)]
    rows += [("1-2", "pair", 1, 2, t, e) for t, e in ((1, 1), (1, 2), (2, 2))]
    cells = pd.DataFrame(rows, columns=["vector", "kind", "a", "b", "target", "exit"]).assign(
        length=0.0, bound=None, answers=[[0]] * 6
    )
    own = read_map({"n_latents": 2, "truths": ["1"], "answers": ["1"], "first_answers": ["1"]}, cells)
    assert seen(own, Arm("h"), early=True).labels[["target", "exit"]].to_numpy().tolist() == [[1, 1], [2, 2]]
    assert seen(own, Arm("h"), early=False).labels[["target", "exit"]].to_numpy().tolist() == [[1, 2], [2, 2]]
    shifted = Arm("h", frozenset({"one_more"}))
    assert seen(own, shifted, early=True).labels.empty  # the pair 1-2 would be of hidden states 0 and 1
