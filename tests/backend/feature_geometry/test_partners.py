"""A partner is the same label in another problem, and each is taken once."""

import numpy as np

from backend.feature_geometry.partners import NONE, partners


def test_a_partner_has_the_same_label_and_another_problem_and_is_taken_once():
    rng = np.random.default_rng(0)
    labels, problems = rng.integers(0, 12, 300), rng.integers(0, 9, 300)
    found = partners(labels, problems, rng)
    there = found != NONE
    assert there.mean() > 0.9
    assert (labels[found[there]] == labels[there]).all() and (problems[found[there]] != problems[there]).all()
    assert len(set(found[there])) == there.sum()


def test_a_label_of_a_single_problem_has_no_partner():
    labels, problems = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1])
    found = partners(labels, problems, np.random.default_rng(0))
    assert found.tolist() == [NONE, NONE, 3, 2, NONE]


def test_of_no_places_there_are_none():
    assert partners(np.empty(0, int), np.empty(0, int), np.random.default_rng(0)).tolist() == []
