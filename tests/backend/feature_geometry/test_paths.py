"""Straight paths, bent ones and walks have the progress, curvature and dimension that geometry gives them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from backend.feature_geometry.paths import (
    path_measures,
    paths,
    shuffled_measures,
    step_grams,
    step_rows,
    step_spectrum,
    walk_measures,
)
from backend.schema.tables import TABLES


def rotation(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def grams(points: np.ndarray) -> np.ndarray:
    return step_grams(points @ points.T)


def measures(points) -> tuple[float, ...]:
    return tuple(float(value) for value in path_measures(grams(np.asarray(points, float))).values())


def test_a_straight_path_has_progress_1_curvature_0_and_one_dimension():
    steps = np.cumsum([0, 1.0, 3, 0.5, 2])[:, None] * rotation(6)[:1]
    assert measures(steps + 9) == pytest.approx((1, 0, 1), abs=1e-6)


def test_a_staircase_turns_by_a_right_angle_in_two_dimensions():
    stairs = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    assert measures(stairs) == pytest.approx((math.sqrt(8) / 4, math.pi / 2, 2))


def test_back_and_forth_makes_no_progress_and_turns_round():
    assert measures([(0.0,), (1,), (0,)]) == pytest.approx((0, math.pi, 1))


def test_a_circle_of_n_steps_turns_by_its_angle_and_ends_where_it_began():
    angles = np.linspace(0, 2 * np.pi, 13)
    progress, curvature, dimension = measures(np.column_stack([np.cos(angles), np.sin(angles)]))
    assert (progress, curvature, dimension) == pytest.approx((0, 2 * np.pi / 12, 2), abs=1e-7)


def test_the_measures_are_the_plain_ones_and_do_not_see_place_rotation_or_scale():
    points = np.random.default_rng(0).standard_normal((7, 20))
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    angles = np.arccos([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairwise(steps)])
    values = np.linalg.eigvalsh(steps.T @ steps)
    plain = (
        np.linalg.norm(points[-1] - points[0]) / lengths.sum(),
        angles.mean(),
        values.sum() ** 2 / (values**2).sum(),
    )
    assert measures(points) == pytest.approx(plain)
    assert measures(4 * points @ rotation(20) + 5) == pytest.approx(plain)


def test_random_orders_are_those_of_the_points_and_independent_points_turn_by_two_thirds_of_pi():
    points = np.random.default_rng(0).standard_normal((8, 3000))
    dealt = shuffled_measures(points @ points.T, 100, seed=0)
    assert dealt["curvature"].mean() == pytest.approx(2 * np.pi / 3, abs=0.02)
    three = np.array([(0.0,), (1,), (3,)])
    progress = shuffled_measures(three @ three.T, 600, seed=0)["progress"]
    assert set(progress.round(6)) == {1, 0.2, 0.5}, "0 1 3; 0 3 1: 1/5; 1 0 3: 2/4, and back"


def test_a_walk_turns_by_a_right_angle_and_gets_on_as_the_root_of_its_steps():
    walk = walk_measures(np.ones(2000), 10, 100, seed=0)
    assert walk["curvature"].mean() == pytest.approx(np.pi / 2, abs=0.01)
    assert walk["progress"].mean() == pytest.approx(1 / math.sqrt(9), abs=0.01)
    assert walk["effective_dimension"].mean() == pytest.approx(9, abs=0.1)
    assert np.mean(walk_measures(np.ones(1), 10, 400, seed=0)["effective_dimension"]) == pytest.approx(1)


def test_the_steps_of_a_chain_make_all_of_its_way():
    points = np.random.default_rng(0).standard_normal((6, 9))
    rows = step_rows(grams(points))
    assert [row["step_length"] is None for row in rows] == [True] + 5 * [False]
    assert [row["turning_angle"] is None for row in rows] == [True] + 4 * [False] + [True]
    assert sum(row["step_progress"] for row in rows[1:]) == pytest.approx(1, abs=1e-3)
    angles = [row["turning_angle"] for row in rows[1:-1]]
    assert np.mean(angles) == pytest.approx(measures(points)[1], rel=1e-3)


def test_a_step_of_no_length_has_no_angle_and_takes_no_part():
    stays = step_rows(grams(np.array([(0.0, 0), (1, 0), (1, 0), (1, 1), (2, 1)])))
    assert [row["turning_angle"] is None for row in stays] == [True, True, True, False, True]
    assert measures([(0, 0), (1, 0), (1, 0), (1, 1), (2, 1)])[1] == pytest.approx(np.pi / 2)
    assert np.isnan(measures([(0, 0), (0, 0), (0, 0)])).all()
    closed = step_rows(grams(np.array([(0.0, 0), (1, 0), (0, 0)])))
    assert all(row["step_progress"] is None for row in closed)


def test_rows_are_of_chains_of_three_chunks_with_finite_activations():
    rng = np.random.default_rng(0)
    cots = {
        name: ([f"{name}_{k}" for k in range(n)], rng.standard_normal((n, 5)))
        for name, n in (("a", 5), ("b", 2), ("c", 3), ("d", 4))
    }
    cots["d"][1][0, 0] = np.nan
    found = paths(cots, model_id="m", layer=3, n_draws=20, seed=0)
    assert [(row["cot_id"], row["n_chunks"]) for row in found["paths"]] == [("a", 5), ("c", 3)]
    for table in ("paths", "path_steps"):
        assert all(row.keys() == TABLES[table].columns.keys() for row in found[table])
    assert len(found["path_steps"]) == 8
    alone = paths({"a": cots["a"], "c": cots["c"]}, model_id="m", layer=3, n_draws=20, seed=0)
    assert alone == found, "what takes no part changes nothing"
    assert paths({"b": cots["b"]}, model_id="m", layer=3, n_draws=20, seed=0) == {"paths": [], "path_steps": []}


def test_the_spectrum_of_steps_is_that_of_their_covariance():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    steps = np.concatenate([np.diff(one, axis=0), np.diff(other, axis=0)])
    assert step_spectrum([one, other]) == pytest.approx(np.linalg.eigvalsh(np.cov(steps.T)))
