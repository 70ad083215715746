"""Planted clouds have the dimension, bend and density that they were given, whatever their order, place, rotation or
copies.
"""

import math

import numpy as np
import pytest

from backend.geometry.directions import on_manifold
from backend.geometry.neighbourhoods import around, neighbourhoods, tangent_spaces
from backend.schema.tables import TABLES

PLACE = {"model_id": "m_1", "layer": 3}
MEASURED = ("dimension_twonn", "dimension_mle", "curvature", "density")


def cloud(points: np.ndarray) -> dict[str, np.ndarray]:
    return {f"c{i:04d}": point for i, point in enumerate(points)}


def rotation(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def column(rows, name: str) -> np.ndarray:
    return np.array([math.nan if row[name] is None else row[name] for row in rows])


@pytest.fixture(scope="module")
def plane():
    """300 points of a square in a plane of a space of 50 dimensions."""
    return np.random.default_rng(0).uniform(-1, 1, (300, 2)) @ rotation(50)[:2]


@pytest.fixture(scope="module")
def plane_rows(plane):
    return neighbourhoods(cloud(plane), **PLACE)


def test_a_plane_has_two_dimensions_and_does_not_bend(plane_rows):
    assert all(row.keys() == TABLES["neighbourhoods"].columns.keys() for row in plane_rows)
    assert {(row["model_id"], row["layer"], row["k"], row["n"]) for row in plane_rows} == {("m_1", 3, 30, 300)}
    assert column(plane_rows, "dimension_mle").mean() == pytest.approx(2, abs=0.25)
    assert column(plane_rows, "dimension_twonn").mean() == pytest.approx(2, abs=0.25)
    assert column(plane_rows, "curvature").max() < 1e-5


def test_a_line_has_one_dimension_and_five_have_about_five():
    rng = np.random.default_rng(0)
    for dimension, about in ((1, 0.2), (5, 1)):
        rows = neighbourhoods(cloud(rng.uniform(-1, 1, (300, dimension)) @ rotation(50)[:dimension]), **PLACE)
        assert column(rows, "dimension_mle").mean() == pytest.approx(dimension, abs=about)
        assert column(rows, "dimension_twonn").mean() == pytest.approx(dimension, abs=about)


def test_a_circle_bends_by_the_angle_between_neighbouring_tangents_and_a_sphere_bends_too():
    """Tangents turn by 2π/200 from one point to the next; the 5 nearest are 1, 1, 2, 2 and 3 points away."""
    angle = np.arange(200) * 2 * math.pi / 200
    circle = neighbourhoods(cloud(np.stack([np.cos(angle), np.sin(angle)], 1) @ rotation(20)[:2]), k=10, **PLACE)
    assert column(circle, "curvature") == pytest.approx(np.full(200, 2 * math.pi / 200 * 9 / 5), rel=0.02)
    ball = np.random.default_rng(0).standard_normal((400, 3))
    sphere = neighbourhoods(cloud(ball / np.linalg.norm(ball, axis=1, keepdims=True)), **PLACE)
    assert column(sphere, "curvature").min() > 0.01
    assert column(sphere, "dimension_mle").mean() == pytest.approx(2, abs=0.25)


def test_the_denser_of_two_clusters_has_the_higher_density_by_the_log_of_the_ratio():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((60, 8))
    far = np.full(8, 100.0)
    rows = neighbourhoods(cloud(np.concatenate([one, far + one / 10])), k=10, **PLACE)
    density = column(rows, "density")
    assert density[60:] - density[:60] == pytest.approx(np.full(60, math.log(10)))
    assert np.median(density) == pytest.approx(0, abs=1)
    assert column(rows, "dimension_mle")[60:] == pytest.approx(column(rows, "dimension_mle")[:60])


def test_order_rotation_shift_and_scale_change_nothing(plane):
    bent = plane + 0.3 * np.square(plane[:, :1]) * rotation(50)[2]
    rows = {row["chunk_id"]: row for row in neighbourhoods(cloud(bent), **PLACE)}
    ids = list(rows)
    np.random.default_rng(5).shuffle(ids)
    shuffled = neighbourhoods({chunk: cloud(bent)[chunk] for chunk in ids}, **PLACE)
    assert [row["chunk_id"] for row in shuffled] == ids
    assert all(row == rows[row["chunk_id"]] for row in shuffled)
    for moved in (bent @ rotation(50, seed=9), bent + 7, bent * 40):
        again = neighbourhoods(cloud(moved), **PLACE)
        for name in MEASURED:
            assert column(again, name) == pytest.approx(column(rows.values(), name), rel=1e-6, abs=1e-6)


def test_chunks_that_begin_alike_are_one_point_of_the_cloud_even_when_rounding_differs(plane, plane_rows):
    """CoTs of one problem share their first sentence: the distance between such copies is rounding, not geometry."""
    copies = {f"copy{i}": plane[0] * (1 + 1e-6 * i) for i in range(40)}
    rows = neighbourhoods(cloud(plane) | copies, **PLACE)
    assert {row["n"] for row in rows} == {340} and {row["k"] for row in rows} == {30}
    for row, plain in zip(rows[:300], plane_rows, strict=True):
        assert [row[name] for name in MEASURED] == pytest.approx([plain[name] for name in MEASURED], abs=1e-4)
    assert all(row[name] == rows[0][name] for row in rows[300:] for name in MEASURED)


def test_an_unknown_activation_has_nothing_and_takes_no_part(plane, plane_rows):
    rows = neighbourhoods({"lost": np.full(50, np.nan)} | cloud(plane), **PLACE)
    assert rows[1:] == plane_rows
    assert rows[0] == {"chunk_id": "lost", **PLACE, "k": 0, "n": 300, "residual_norm": None} | dict.fromkeys(MEASURED)
    assert plane_rows[7]["residual_norm"] == pytest.approx(np.linalg.norm(plane[7]))


def test_what_cannot_be_had_is_none():
    rng = np.random.default_rng(0)
    alone, *_ = neighbourhoods({"a": np.ones(4)}, **PLACE)
    assert (alone["k"], alone["n"], alone["residual_norm"]) == (0, 1, 2.0) and {alone[name] for name in MEASURED} == {
        None
    }
    same = neighbourhoods(cloud(np.ones((20, 4))), **PLACE)
    assert {(row["k"], row["density"], row["dimension_mle"]) for row in same} == {(0, None, None)}
    few = neighbourhoods(cloud(rng.standard_normal((6, 4))), **PLACE)
    assert {(row["k"], row["dimension_mle"], row["dimension_twonn"], row["curvature"]) for row in few} == {
        (5, None, None, None)
    }
    assert None not in {row["density"] for row in few}
    simplex = neighbourhoods(cloud(np.eye(12)), **PLACE)  # all distances are equal: infinitely many directions
    assert {(row["k"], row["dimension_mle"], row["dimension_twonn"], row["curvature"]) for row in simplex} == {
        (11, None, None, None)
    }
    assert neighbourhoods({}, **PLACE) == []


def test_tangent_spaces_are_the_directions_that_steering_on_the_manifold_uses():
    points = cloud(
        np.random.default_rng(3).standard_normal((40, 12)).astype(np.float32)
        * np.linspace(3, 0.5, 12, dtype=np.float32)
    )
    points |= {"c0007": points["c0008"], "lost": np.full(12, np.nan)}  # two chunks alike, one unknown
    spaces = tangent_spaces(points, k=10, n=3)
    assert spaces.keys() == points.keys() - {"lost"}
    for chunk, space in spaces.items():
        assert space.dtype == np.float32 and space @ space.T == pytest.approx(np.eye(3), abs=1e-6)
        for number, direction in enumerate(space, start=1):
            (made,) = on_manifold(points, chunk, component=number, k=10, **PLACE).made
            assert direction == pytest.approx(made.vector, abs=1e-6)


def test_a_tangent_space_is_missing_where_the_neighbours_span_too_little(plane):
    assert len(tangent_spaces(cloud(plane), n=2)) == 300
    assert tangent_spaces(cloud(plane), n=3) == {}  # a plane
    assert tangent_spaces(cloud(plane[:4]), n=4) == tangent_spaces({}) == {}


def test_the_nearest_of_many_that_are_nearly_alike_are_found_exactly():
    rng = np.random.default_rng(5)
    crowd = 100 + 1e-7 * rng.standard_normal((80, 6))  # apart by less than the rounding of squared distances
    found = {one.chunk_id: one.neighbours for one in around(cloud(crowd), k=5)}
    for number, chunk in enumerate(sorted(found)):
        distances = np.linalg.norm(crowd - crowd[number], axis=1)
        distances[number] = np.inf
        assert found[chunk] == tuple(sorted(found)[i] for i in np.argsort(distances, kind="stable")[:5])
