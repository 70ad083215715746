"""Anchors are chosen by importance and counterfactuals, and matched within their CoT."""

import pytest

from backend.geometry.anchor_choice import Candidate, chosen_chunks, in_turn
from backend.ids import chunk_id


def candidates(cot, importances, n_dissimilar=5):
    return [Candidate(chunk_id(cot, k), value, n_dissimilar) for k, value in enumerate(importances)]


def test_an_anchor_is_matched_with_the_nearest_chunk_below_the_threshold_and_no_chunk_twice():
    found = chosen_chunks(candidates("c", [0.1, 0.0, 0.5, 0.2, None, 0.1]), threshold=0.2, least=3)
    assert {one.chunk_id: (one.is_anchor, one.matched) for one in found} == {
        "c_0001": (False, "c_0002"),
        "c_0002": (True, "c_0001"),
        "c_0003": (True, "c_0005"),
        "c_0005": (False, "c_0003"),
    }


def test_an_anchor_without_a_match_takes_part_and_a_cot_without_an_anchor_does_not():
    (alone,) = chosen_chunks(candidates("c", [0.3, None]), threshold=0.2, least=3)
    assert alone.is_anchor and alone.matched is None
    assert chosen_chunks(candidates("c", [0.1, 0.1]), threshold=0.2, least=3) == ()


@pytest.mark.parametrize("n", [2, 3])
def test_a_chunk_with_too_few_dissimilar_rollouts_is_neither(n):
    found = chosen_chunks(candidates("c", [0.5, 0.1], n_dissimilar=n), threshold=0.2, least=3)
    assert len(found) == (2 if n == 3 else 0)


def choices_of(groups, unmatched=()):
    return [
        chosen_chunks(candidates(cot, [0.5, 0.3] if cot in unmatched else [0.5, 0.1]), threshold=0.2, least=1)
        for cot in groups
    ]


def test_problems_take_turns_and_cots_with_a_match_come_first():
    groups = {"a": ("m", "p"), "b": ("m", "p"), "c": ("m", "q"), "d": ("m", "r")}
    choices = choices_of(groups, unmatched="d")
    order = [one[0].chunk_id[0] for one in in_turn(choices, groups, seed=0, n=4)]
    assert order[-1] == "d" and {groups[cot] for cot in order[:2]} == {("m", "p"), ("m", "q")}
    assert in_turn(choices[::-1], groups, seed=0, n=4) == in_turn(choices, groups, seed=0, n=4)
    assert len(in_turn(choices, groups, seed=0, n=2)) == 2


def test_models_take_turns_for_as_long_as_they_have_cots():
    groups = {cot: ("few" if cot in "ab" else "many", cot) for cot in "abcdefgh"}
    order = [groups[one[0].chunk_id[0]][0] for one in in_turn(choices_of(groups), groups, seed=0, n=6)]
    assert order == ["few", "many", "few", "many", "many", "many"]
