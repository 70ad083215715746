import numpy as np
import pytest

from backend.ids import chunk_id, stable_id
from backend.importance.matching import Candidate, matched_pairs

A, B, C = (stable_id("c", name) for name in "abc")


def one(cot: str, index: int, importance: float, *, problem: str = "p", before: float | None = None, n: int = 10):
    return Candidate(chunk_id(cot, index), problem, importance, index / 10 if before is None else before, n)


def drawn(candidates, most=10, threshold=0.2, seed=0):
    return [
        (pair.anchor.chunk_id, pair.match.chunk_id)
        for pair in matched_pairs(candidates, threshold=threshold, most=most, seed=seed)
    ]


def world(seed: int = 0) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        Candidate(
            chunk_id(stable_id("c", cot), index),
            f"p{cot // 2}",
            float(np.round(rng.exponential(0.2), 1)),
            index / 5,
            int(rng.integers(5, 30)),
        )
        for cot in range(8)
        for index in range(6)
    ]


def test_the_match_is_of_the_same_cot_where_there_is_one_however_near_another_is():
    found = drawn([one(A, 0, 0.5), one(A, 9, 0.0, n=30), one(B, 0, 0.0)])
    assert found == [(chunk_id(A, 0), chunk_id(A, 9))]


def test_else_it_is_of_the_same_problem():
    found = drawn([one(A, 0, 0.5), one(B, 9, 0.0), one(C, 0, 0.0, problem="q")])
    assert found == [(chunk_id(A, 0), chunk_id(B, 9))]


@pytest.mark.parametrize(("far", "near"), [({"n": 10}, {"n": 20}), ({"before": 0.9}, {"before": 0.4})])
def test_within_a_cot_it_is_the_nearest_in_the_cot_and_in_length(far, near):
    anchor = one(A, 0, 0.5, before=0.3, n=21)
    found = drawn(
        [anchor, one(A, 1, 0.0, **{"before": 0.3, "n": 21} | far), one(A, 2, 0.0, **{"before": 0.3, "n": 21} | near)]
    )
    assert found == [(anchor.chunk_id, chunk_id(A, 2))]


def test_the_most_important_anchor_of_each_cot_comes_before_the_second_of_any():
    chunks = [one(A, 0, 0.9), one(A, 1, 0.8), one(B, 0, 0.3), *(one(A, k, 0.0) for k in range(2, 9))]
    assert [anchor for anchor, _ in drawn(chunks)] == [chunk_id(A, 0), chunk_id(B, 0), chunk_id(A, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_no_chunk_is_in_two_pairs_and_each_pair_has_an_anchor_and_one_that_is_none(seed):
    candidates = world(seed)
    pairs = matched_pairs(candidates, threshold=0.2, most=100, seed=seed)
    names = [one.chunk_id for pair in pairs for one in (pair.anchor, pair.match)]
    assert len(set(names)) == len(names) == 2 * len(pairs) > 10
    assert all(pair.anchor.importance >= 0.2 > pair.match.importance for pair in pairs)
    assert [pair.number for pair in pairs] == list(range(len(pairs)))


def test_pairs_depend_on_the_chunks_alone_not_on_their_order():
    candidates = world()
    assert drawn(candidates) == drawn(candidates[::-1])


def test_more_pairs_leave_those_before_them_as_they_were():
    assert drawn(world(), most=12)[:5] == drawn(world(), most=5)


def test_anchors_without_a_match_left_are_in_no_pair():
    assert len(drawn([one(A, 0, 0.5), one(B, 0, 0.6), one(A, 1, 0.1)])) == 1
    assert drawn([one(A, 0, 0.5)]) == [] == drawn([one(A, 0, 0.1)])
