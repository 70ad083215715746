"""Receiver heads: kurtosis of what chunks receive, its nulls, and a planted head that must be found."""

import numpy as np
import pytest
from scipy.stats import kurtosis

from backend.influence.receivers import LEAST, Chain, fisher_kurtosis, long_enough, received, receivers, reliability

N_HEADS, PLANTED = 24, 7
DRAWS = {"n_bootstrap": 200, "n_permutations": 99}


def chains(
    n_cots: int, n_chunks: int, *, seed: int, plant: str | None = None, strength: float = 8.0, nearest: int = 1
) -> list[Chain]:
    """Attention that falls with distance, times noise. `plant` is what head PLANTED looks at more: one chunk that
    differs from chain to chain, or the first one.
    """
    rng, found = np.random.default_rng(seed), []
    for number in range(n_cots):
        distance = np.maximum(np.arange(n_chunks)[:, None] - np.arange(n_chunks), 1)
        by_head = np.exp(rng.normal(0, 0.5, (N_HEADS, n_chunks, n_chunks))) / distance
        if plant:
            by_head[PLANTED][:, 0 if plant == "first" else rng.integers(n_chunks - nearest)] *= strength
        n_tokens = rng.integers(5, 40, n_chunks)
        found.append(Chain(f"c{number}", f"p{number // 2}", n_tokens, np.tril(by_head, -1)))
    return found


def test_what_is_received_leaves_out_pairs_nearer_than_asked():
    """Of the code of Thought Anchors: for chunk i the rows from i + nearest on."""
    by_head = np.random.default_rng(0).random((2, 7, 7))
    found = received(by_head, 4)
    assert found.shape == (2, 3)
    assert found[1].tolist() == pytest.approx([by_head[1, 4:, 0].mean(), by_head[1, 5:, 1].mean(), by_head[1, 6, 2]])


def test_kurtosis_is_scipys_without_correction():
    values = np.random.default_rng(1).normal(size=(3, 9)) ** 2
    assert fisher_kurtosis(values) == pytest.approx(kurtosis(values, axis=-1, fisher=True, bias=True))


@pytest.mark.parametrize(("n", "always"), [(2, -2.0), (3, -1.5)])
def test_below_four_values_kurtosis_cannot_tell(n, always):
    """So LEAST is where it begins to, and not lower."""
    assert fisher_kurtosis(np.random.default_rng(2).random((50, n))) == pytest.approx(always)
    assert LEAST == 4
    assert np.ptp(fisher_kurtosis(np.random.default_rng(2).random((50, LEAST)))) > 0.3


def test_equal_values_have_no_kurtosis():
    assert np.isnan(fisher_kurtosis(np.array([[0.0] * 5, [0.1] * 5]))).all()


@pytest.mark.parametrize(("n_chunks", "nearest"), [(LEAST + 1, 1), (LEAST + 4, 4), (12, 4)])
def test_a_planted_receiver_head_is_found_from_the_fewest_chunks_on(n_chunks, nearest):
    plant = {"plant": "one", "nearest": nearest}
    found = receivers(chains(60, n_chunks, seed=3, **plant), nearest, **DRAWS, seed=0)
    assert found.rank[PLANTED] == 1
    assert found.low[PLANTED] > max(found.shuffled_high[PLANTED], found.placed[PLANTED])
    assert found.low[PLANTED] < found.kurtosis[PLANTED] < found.high[PLANTED]
    assert (found.n_cots == 60).all() and (found.n_problems == 30).all()


def test_where_none_is_planted_none_is_found():
    """One head in forty is beyond its null by chance."""
    beyond = [
        (found.kurtosis > found.shuffled_high).mean()
        for seed in range(4)
        if (found := receivers(chains(40, 9, seed=seed), 4, **DRAWS, seed=seed))
    ]
    assert np.mean(beyond) < 0.1


def test_a_head_that_looks_at_the_first_chunk_is_told_by_its_place():
    found = receivers(chains(60, 9, seed=5, plant="first"), 1, **DRAWS, seed=0)
    assert found.rank[PLANTED] == 1
    assert found.placed[PLANTED] > found.low[PLANTED]
    others = np.arange(N_HEADS) != PLANTED
    assert found.placed[others].mean() < found.kurtosis[others].mean()  # place gives them less than they have


def test_one_problem_has_no_interval_and_no_place():
    own = [Chain(one.cot_id, "p", one.n_tokens, one.by_head) for one in chains(3, 6, seed=6)]
    found = receivers(own, 1, **DRAWS, seed=0)
    assert np.isnan([found.low, found.high, found.placed]).all() and not np.isnan(found.kurtosis).any()


def test_chains_that_are_too_short_take_no_part():
    short, enough = chains(5, 7, seed=7), chains(6, 8, seed=8)
    assert long_enough(short, 4) == [] and receivers(short, 4, **DRAWS, seed=0) is None
    found = receivers([*short, *enough], 4, **DRAWS, seed=0)
    assert (found.n_cots == 6).all()
    assert np.array_equal(found.kurtosis, receivers(enough, 4, **DRAWS, seed=0).kurtosis)


def test_a_head_that_sees_nothing_so_far_away_is_unknown():
    own = chains(8, 8, seed=9)
    for chain in own:
        chain.by_head[3] = 0
    found = receivers(own, 4, **DRAWS, seed=0)
    assert np.isnan(found.kurtosis[3]) and np.isnan(found.rank[3]) and found.n_cots[3] == 0
    assert np.nanmax(found.rank) == N_HEADS - 1


def test_halves_share_what_is_planted_and_nothing_else():
    rows = reliability(chains(60, 9, seed=10, plant="one"), 1, top=1, seed=0)
    assert len(rows) == 20 and all(row.shared == 1 for row in rows)
    assert rows[0].by_chance == pytest.approx(1 / N_HEADS) and rows[0].n_cots_a == rows[0].n_cots_b == 30
    plain = reliability(chains(60, 9, seed=11), 1, top=6, seed=0)
    assert abs(np.mean([row.spearman for row in plain])) < 0.35
    assert np.mean([row.shared for row in plain]) == pytest.approx(plain[0].by_chance, abs=1.5)


def test_fewer_than_four_problems_have_no_halves():
    assert reliability(chains(6, 9, seed=12), 1, top=3, seed=0) == []


def test_the_same_seed_gives_the_same_numbers():
    one, other = (receivers(chains(10, 8, seed=13), 1, **DRAWS, seed=4) for _ in range(2))
    assert all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in vars(one))
