"""Counts of cosines in the tails, block by block, against the whole Gram matrix."""

import numpy as np
import pytest

from backend.feature_geometry.clusters import clusters
from backend.feature_geometry.cosine_tails import (
    DUPLICATE,
    EDGES,
    GROUPS,
    LINKED,
    N_BINS,
    directions,
    duplicates,
    error_bound,
    exact,
    tails,
)
from backend.feature_geometry.exact_law import exceedance, threshold
from backend.models.linear import linear

D = 48


def clustered(n: int = 300, d: int = D, seed: int = 0) -> np.ndarray:
    """Rows around a few centres, with a row of zeros, an exact duplicate and an opposite one."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n, d)) + 1.2 * draw.standard_normal((12, d))[draw.integers(12, size=n)]
    rows[7] = 0
    rows[20], rows[21] = rows[3], -2 * rows[3]
    rows[22] = 3 * rows[3] + 0.02 * rows[4]
    return rows.astype(np.float32)


def gram(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(numbers, i > j, cosines) of all pairs, plainly: norm in float64, round, one float64 product."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    numbers = np.flatnonzero(norms)
    units = (rows[numbers] / norms[numbers, None]).astype(np.float32).astype(np.float64)
    i, j = np.tril_indices(len(units), -1)
    return numbers, np.stack([i, j]), np.clip((units @ units.T)[i, j], -1, 1)


@pytest.mark.parametrize("block", [7, 64, 512])
@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_those_of_the_whole_gram_matrix_whatever_the_blocks(block, seed):
    rows = clustered(seed=seed)
    marks = {"a tenth": 0.1, "1e-3": threshold(1e-3, D), "low": 0.03}
    found = tails(directions(rows), marks, block=block)
    numbers, (i, j), cosine = gram(rows)
    upper = np.append(EDGES[1:-1], np.inf)
    for counts, signed in ((found.positive, cosine), (found.negative, -cosine)):
        plain = [np.count_nonzero((signed > low) & (signed <= high)) for low, high in zip(EDGES, upper, strict=False)]
        assert counts.tolist() == plain
    assert found.n_rows == len(rows) - 1 and found.n_pairs == len(cosine)
    for name, mark in marks.items():
        far, of = np.abs(cosine) > mark, found.beyond[name]
        assert (of.n, of.n_negative) == (far.sum(), (cosine < -mark).sum())
        degrees = np.bincount(i[far], minlength=len(numbers)) + np.bincount(j[far], minlength=len(numbers))
        assert of.degrees.tolist() == degrees.tolist()
        group = numbers % GROUPS
        for g in range(GROUPS):
            assert of.touching[g] == np.count_nonzero(far & ((group[i] == g) | (group[j] == g)))
            assert found.group_rows[g] == np.count_nonzero(group == g)


def test_a_pair_whose_float32_product_lies_on_the_wrong_side_of_a_threshold_is_counted_by_its_float64_one():
    of, wrong = directions(clustered(120)), 0
    i, j = np.tril_indices(len(of.units), -1)
    true, rounded = exact(of.units, i, j), np.float64(of.units @ of.units.T)[i, j]
    for mark in np.abs(true[np.argsort(-np.abs(true - rounded))[:40]]):
        plain = np.count_nonzero(np.abs(true) > mark)
        wrong += np.count_nonzero(np.abs(rounded) > mark) != plain
        assert tails(of, {"mark": float(mark)}, block=32).beyond["mark"].n == plain
    assert wrong > 0  # float32 alone would have miscounted some


@pytest.mark.parametrize("d", [48, 576, 2304])
def test_a_float32_product_is_off_by_less_than_the_bound(d):
    import torch

    units = directions(np.random.default_rng(d).standard_normal((64, d)) + 1).units
    product = linear(torch.from_numpy(units), torch.from_numpy(units)).numpy()
    true = units.astype(np.float64) @ units.astype(np.float64).T
    assert np.abs(product - true).max() < error_bound(d) < 0.01


def test_isotropic_rows_have_the_tails_of_the_exact_law():
    n, d = 1500, 64
    found = tails(directions(np.random.default_rng(5).standard_normal((n, d))), {"1e-3": threshold(1e-3, d)})
    for k, edge in enumerate(EDGES[:-1]):
        expected = found.n_pairs * float(exceedance(edge, d))
        beyond = found.positive[k:].sum() + found.negative[k:].sum()
        assert abs(beyond - expected) < 4.5 * np.sqrt(expected) + 1
    assert abs(found.beyond["1e-3"].n - found.n_pairs * 1e-3) < 4.5 * np.sqrt(found.n_pairs * 1e-3)


def test_pairs_of_a_bin_are_of_it_and_the_same_whatever_the_blocks():
    rows = clustered()
    of = directions(rows)
    found = tails(of, {}, drawn=3, block=512)
    assert found.drawn == tails(of, {}, drawn=3, block=19).drawn
    counts = [*found.negative[::-1], *found.positive]
    assert [len(pairs) for pairs in found.drawn] == [min(3, count) for count in counts]
    place = {number: at for at, number in enumerate(of.numbers)}
    for where, pairs in enumerate(found.drawn):
        low = EDGES[where - N_BINS] if where >= N_BINS else EDGES[N_BINS - 1 - where]
        for pair in pairs:
            assert pair.a < pair.b and (pair.cosine > 0) == (where >= N_BINS) and abs(pair.cosine) > low
            assert pair.cosine == exact(of.units, *(np.array([place[one]]) for one in (pair.b, pair.a)))[0]


@pytest.mark.parametrize("above", [LINKED, 0.45, 0.6, DUPLICATE])
def test_the_spanning_forest_knows_the_clusters_of_every_threshold(above):
    rows = clustered()
    found = tails(directions(rows), {}, linked=True, block=40)
    assert len(found.links) < found.n_rows
    numbers, (i, j), cosine = gram(rows)
    near = {int(number): {int(number)} for number in numbers}  # by brute force: merge until nothing changes
    for a, b in zip(numbers[i[cosine > above]], numbers[j[cosine > above]], strict=True):
        merged = near[int(a)] | near[int(b)]
        for row in merged:
            near[row] = merged
    plain = sorted({tuple(sorted(rows)) for rows in near.values() if len(rows) > 1}, key=lambda one: (-len(one), one))
    assert [tuple(one) for one in clusters(found.links, above)] == plain


def test_of_rows_that_repeat_each_other_the_first_is_kept_and_an_opposite_one_is_no_duplicate():
    found = tails(directions(clustered()), {}, linked=True)
    assert duplicates(found.links) == {20, 22}


def test_fewer_than_two_directions_have_no_pairs():
    for rows in (np.zeros((3, 8)), np.eye(1, 8)):
        found = tails(directions(rows), {"a tenth": 0.1}, drawn=2, linked=True)
        assert found.n_pairs == 0 and not found.positive.any() and found.links == ()
