"""Principal components against numpy's singular values."""

import numpy as np
import pytest

from backend.latent.components import between_steps, captured, components

VECTORS = np.random.default_rng(0).standard_normal((50, 8)) * np.arange(8, 0, -1)


def test_axes_and_shares_are_those_of_the_singular_values():
    found = components(VECTORS)
    centred = VECTORS - VECTORS.mean(0)
    _, sizes, axes = np.linalg.svd(centred)
    assert np.allclose(found.share, (sizes**2 / (sizes**2).sum())[:3])
    assert np.allclose(np.abs(found.axes @ axes[:3].T), np.eye(3), atol=1e-8)
    assert np.allclose(np.abs(found.project(VECTORS)), np.abs(centred @ axes[:3].T))


def test_what_they_were_fitted_on_is_captured_as_they_say():
    assert np.allclose(captured(components(VECTORS), VECTORS), components(VECTORS).share)


def test_there_are_no_more_than_the_vectors_have():
    assert len(components(VECTORS[:2]).axes) == 1
    assert np.isnan(components(np.ones((5, 4))).share).all()


def test_vectors_that_are_the_same_for_every_problem_differ_between_steps_alone():
    steps = np.random.default_rng(1).standard_normal((1, 4, 3))
    assert between_steps(np.repeat(steps, 6, 0)) == pytest.approx(np.ones(3))
    problems = np.random.default_rng(2).standard_normal((6, 1, 3))
    assert between_steps(np.repeat(problems, 4, 1)) == pytest.approx(np.zeros(3))
