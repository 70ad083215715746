"""Principal angles are those that were planted, and those of random subspaces are known."""

import numpy as np
import pytest

from backend.feature_geometry.subspaces import principal_angles, random_angle, top_components


def test_planted_angles_are_found_small_ones_too():
    rng, planted = np.random.default_rng(0), np.array([1e-6, 20.0, 75.0])
    basis = np.linalg.qr(rng.normal(size=(12, 6)))[0]
    one, beside = basis[:, :3], basis[:, 3:]
    other = one * np.cos(np.radians(planted)) + beside * np.sin(np.radians(planted))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert principal_angles(one, other @ turn) == pytest.approx(planted, rel=1e-3)


def test_the_angle_of_a_subspace_with_itself_is_0_exactly():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 3)))[0]
    assert (principal_angles(basis, basis.copy()) == 0).all()


def test_the_largest_components_are_the_directions_in_which_most_was_planted():
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    points = rng.normal(size=(500, 20)) * np.array([9.0, 7, 5, *[0.01] * 17]) @ axes.T
    found = top_components(points.T @ points, 3)
    assert principal_angles(found, axes[:, :3]).max() < 1
    assert np.array_equal(found, top_components(points.T @ points, 3)), "the same matrix, the same vectors"


def test_random_lines_are_as_far_apart_as_the_law_of_cosines_says():
    mean, deviation = random_angle(3, 1)
    assert mean == pytest.approx(np.degrees(1), abs=4 * deviation / np.sqrt(50)), "on a sphere E|θ| is 1 radian"
    assert random_angle(400, 5)[0] > 80
