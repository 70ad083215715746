"""A rollout that writes a chunk token for token is one at the next chunk: held to a model whose answers are known."""

from bisect import bisect_left
from functools import cache

import numpy as np
import pandas as pd
import pytest

from backend.importance.estimates import Estimator, grouped, reaching
from backend.importance.metrics import importance_of_cot
from precompute.stages.rollouts import CotTask, Later, Point, Task, _cap, _n_kept
from precompute.study import Sampling

A, B, END = 0, 1, 2
MODEL = np.array([[0.62, 0.2, 0.18], [0.2, 0.72, 0.08]])  # from a token to the next one
UP_TO = MODEL.cumsum(1).tolist()
COT = (A, B, B, A, B, A, A, B)  # a token of the prompt, then chunks of 2, 2 and 3 tokens
STARTS, IDS = (1, 3, 5), ["c0", "c1", "c2"]
SAMPLING = Sampling(max_new_tokens=16)
POINTS = tuple(
    Point(name, start, start + 2, start, ("resample",), tuple(Later(s, s, s + 2) for s in STARTS[number + 1 :]))
    for number, (name, start) in enumerate(zip(IDS, STARTS, strict=True))
)
COT_TASK = CotTask("c", "", "", None, COT, "a", POINTS)
TASK = Task((COT_TASK,), {"resample": 40}, SAMPLING, 0, 16, "", until=0.0)


@cache
def answers(token: int, left: int) -> np.ndarray:
    """Chances of ending after an a, after a b, and of being cut, with so many tokens left."""
    if left == 0:
        return np.array([0, 0, 1.0])
    ends = np.eye(3)[token] * MODEL[token, END]
    return ends + MODEL[token, A] * answers(A, left - 1) + MODEL[token, B] * answers(B, left - 1)


def written(start: int, cap: int, rng: np.random.Generator) -> tuple[list[int], str]:
    """Sampled tokens and the answer: the last token before the end, or that it was cut."""
    tokens, last = [], COT[start - 1]
    while len(tokens) < cap:
        token = bisect_left(UP_TO[last], rng.random())
        if token == END:
            return tokens, "ab"[last]
        tokens.append(token)
        last = token
    return tokens, "cut"


def drawn(numbers: list[int], rng: np.random.Generator, n_kept=_n_kept, cap=_cap) -> pd.DataFrame:
    rows = []
    for point, n in zip(POINTS, numbers, strict=True):
        for _ in range(n):
            tokens, answer = written(point.token_start, cap(point, TASK, "resample"), rng)
            kept = n_kept(COT_TASK, point, tokens)
            rows.append((point.chunk_id, "resample", 0.9, answer, answer == "a", "So.", kept))
    names = ["chunk_id", "kind", "similarity", "answer_cluster", "is_correct", "resampled_chunk", "n_kept"]
    return pd.DataFrame(rows, columns=names).sort_values("answer_cluster", kind="stable")


def z_of_pooled(position: int, n_kept=_n_kept, cap=_cap) -> np.ndarray:
    """How many standard errors the shares of answers of the pooled rollouts are from the truth."""
    rng, found, n_shared = np.random.default_rng(7), [], 0
    point = POINTS[position]
    for _ in range(150):
        rows = drawn([10 if at == position else 40 for at in range(3)], rng, n_kept, cap)
        groups = grouped(rows)
        own = groups[point.chunk_id, "resample"]
        pooled = own.with_others([reaching(groups, IDS, position)])
        n_shared += len(pooled) - len(own)
        assert list(rows["answer_cluster"].unique()) == ["a", "b", "cut"]
        found.append(np.bincount(pooled.answer, minlength=3) / len(pooled))
    assert n_shared > 100
    truth = answers(COT[point.token_start - 1], cap(point, TASK, "resample"))
    shares = np.array(found)
    return (shares.mean(0) - truth) / (shares.std(0, ddof=1) / np.sqrt(len(shares)))


@pytest.mark.parametrize("position", [1, 2])
def test_the_pooled_answers_are_the_true_ones_on_average(position):
    assert np.abs(z_of_pooled(position)).max() < 4


def test_a_rollout_that_is_only_alike_would_bias_them():
    def alike(cot, point, tokens):  # as many of the chunk's tokens, in any order: the last one decides what comes next
        n = [later.token_start - point.token_start for later in point.following]
        same = [sorted(tokens[:k]) == sorted(cot.token_ids[point.token_start :][:k]) for k in n]
        return next((k for k, one in enumerate(same) if not one), len(same))

    assert np.abs(z_of_pooled(2, n_kept=alike)).max() > 6


def test_one_cap_from_each_start_would_bias_them():
    assert np.abs(z_of_pooled(1, cap=lambda *_: 3)).max() > 6


def test_what_counts_is_tokens_up_to_the_first_of_a_later_chunk():
    first, second, third = POINTS
    assert _n_kept(COT_TASK, first, [A]) == 0
    assert _n_kept(COT_TASK, first, [B, B]) == 1  # and then it ended: as one there that ends at once
    assert _n_kept(COT_TASK, first, [B, B, B, A]) == 1
    assert _n_kept(COT_TASK, first, [B, B, A, B, B]) == 2
    assert _n_kept(COT_TASK, second, [A, B, A, A, B, A]) == 1 and _n_kept(COT_TASK, third, list(COT[5:])) == 0
    assert [_cap(point, TASK, "resample") + point.token_start for point in POINTS] == [5 + 16] * 3


def test_no_rollout_is_on_both_sides_and_each_counts_where_it_departs():
    rows = [("c0", k, 0.95, d) for k, d in ((0, None), (1, 0.2), (1, 0.9), (2, 0.9))] + [("c0", 0, 0.1, None)]
    rows += [("c0", 1, 0.1, 0.9)]  # it keeps the chunk, and its first sentence runs on
    rows += [("c1", 0, 0.3, None), ("c1", 1, 0.9, 0.3), ("c2", 0, 0.5, None)]
    table = pd.DataFrame(rows, columns=["chunk_id", "n_kept", "similarity", "departing_similarity"]).assign(
        kind="resample", is_correct=True, resampled_chunk="So."
    )
    table["answer_cluster"] = [str(number) for number in range(len(table))]  # an answer is a rollout
    groups = grouped(table)

    def at(position: int) -> Estimator:
        here, after = (groups[chunk, "resample"] for chunk in IDS[position : position + 2])
        reach = [reaching(groups, IDS, position + k) for k in (0, 1)]
        return Estimator(IDS[position], here, after, here, after, 0, 0, 0, *reach)

    def members(position: int, group: str) -> set[int]:
        return set(at(position)._group(group).answer.tolist())

    assert members(0, "another") == {4} and members(0, "reaching_after") == {1, 2, 3, 5, 6, 7}
    assert members(1, "another") == {1, 6} and members(1, "reaching_after") == {3, 7, 8}
    assert members(1, "reaching_here") & members(1, "after") == set()


def test_published_conventions_count_a_rollout_where_it_starts():
    rows = drawn([20, 20, 20], np.random.default_rng(1))
    with_kept, without = (
        importance_of_cot(table, IDS, n_bootstrap=20, seed=1) for table in (rows, rows.drop(columns="n_kept"))
    )
    ours = with_kept["convention"].isin(["jsd", "jsd_numbers"])
    pd.testing.assert_frame_equal(with_kept[~ours], without[~ours])
    assert (with_kept[ours]["n_comparator"] > without[ours]["n_comparator"]).any()
