"""Planted quadruples of rows are found, and what random rows have is what the nulls have."""

import numpy as np
import pytest

from backend.feature_geometry.feature_quadruples import SEARCHED, search, usable

N, D = 300, 40


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_rows(seed=0, n=N):
    return unit(np.random.default_rng(seed).standard_normal((n, D)))


def planted_rows(pairs=12):
    """Random rows, of which some have a partner that differs by one shared direction."""
    rng = np.random.default_rng(1)
    rows, along = random_rows(), unit(rng.standard_normal((1, D)))[0]
    rows[pairs : 2 * pairs] = unit(rows[:pairs] + 0.8 * along)
    return rows


def test_a_planted_relation_among_rows_is_found_beyond_every_null():
    rows = planted_rows()
    real = search("rows", rows, sides=2000, keep=5, seed=0)
    nulls = {name: search(name, rows, sides=2000, keep=5, seed=0) for name in SEARCHED if name != "rows"}
    assert real.smallest < 0.7 * min(one.smallest for one in nulls.values())
    for one in real.quadruples:
        assert {one.a, one.b, one.c, one.d} <= set(range(24)) and one.cosine > 0.7


def test_the_loss_and_cosine_of_a_quadruple_are_those_of_its_rows():
    rows = planted_rows()
    for one in search("rows", rows, sides=2000, keep=5, seed=0).quadruples:
        a, b, c, d = (rows[place].astype(float) for place in (one.a, one.b, one.c, one.d))
        assert one.loss == pytest.approx(np.linalg.norm(a - b - c + d) / 2, abs=1e-4)
        sides = b - a, d - c
        assert one.cosine == pytest.approx(
            sides[0] @ sides[1] / np.prod([np.linalg.norm(side) for side in sides]), abs=1e-3
        )
        assert len({one.a, one.b, one.c, one.d}) == 4


def test_random_rows_have_no_less_than_their_nulls():
    rows = random_rows()
    real = search("rows", rows, sides=2000, keep=5, seed=0).median
    for name in ("shuffled", "covariance", "turned"):
        assert search(name, rows, sides=2000, keep=5, seed=0).median == pytest.approx(real, rel=0.03)


def test_short_sides_alone_are_in_the_null_of_turned_sides():
    """Rows in clusters: losses are far below those of shuffled rows, and no less than with the sides turned."""
    rng = np.random.default_rng(2)
    rows = unit(np.repeat(random_rows(n=60), 5, axis=0) + 0.1 * rng.standard_normal((N, D)))
    found = {name: search(name, rows, sides=2000, keep=1, seed=0).curve[2] for name in SEARCHED}
    assert found["rows"] < 0.75 * min(found["shuffled"], found["covariance"])
    assert found["rows"] == pytest.approx(found["turned"], rel=0.05)


def test_a_draw_turns_the_same_sides_otherwise():
    rows = planted_rows()
    one, other = (search("turned", rows, sides=600, keep=1, seed=0, draw=draw) for draw in (0, 1))
    real = search("rows", rows, sides=600, keep=1, seed=0)
    assert len(one.best) == len(other.best) == len(real.best) and not np.array_equal(one.best, other.best)


def test_blocks_change_nothing(monkeypatch):
    rows = planted_rows()
    whole = search("rows", rows, sides=600, keep=5, seed=0)
    monkeypatch.setattr("backend.feature_geometry.feature_quadruples._BLOCK", 7)
    parts = search("rows", rows, sides=600, keep=5, seed=0)
    assert parts.best == pytest.approx(whole.best, abs=1e-5, nan_ok=True)
    assert [one.loss for one in parts.quadruples] == pytest.approx([one.loss for one in whole.quadruples], abs=1e-5)


def test_dead_rows_and_all_but_the_first_of_duplicates_take_no_part():
    rows = 3.0 * random_rows(n=6)
    rows[3], rows[4] = 2 * rows[1], 0.0
    found = usable(rows, np.array([True, False, False, False, False, False]))
    assert found.features.tolist() == [1, 2, 5] and (found.n_dead, found.n_alike) == (2, 1)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1)


def test_too_few_rows_give_nothing():
    for n in (0, 1, 2, 3):
        found = search("rows", random_rows(n=n) if n else np.empty((0, D), np.float32), sides=10, keep=3, seed=0)
        assert found.quadruples == () and np.isnan(found.median)
