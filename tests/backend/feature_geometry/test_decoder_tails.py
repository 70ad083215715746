"""Tails of decoder rows: isotropic rows exceed as often as the law says, and duplicates are left out."""

import numpy as np
import pytest

from backend.feature_geometry import decoder_tails
from backend.feature_geometry.decoder_tails import distinct, tail
from backend.feature_geometry.exact_law import threshold


def test_isotropic_rows_exceed_as_often_as_asked_and_clustered_ones_more():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1500, 64))
    found = tail(rows, 1e-3)
    assert found.n_pairs == 1500 * 1499 // 2
    assert found.share == pytest.approx(1e-3, abs=4 * np.sqrt(1e-3 / found.n_pairs))
    assert tail(rows + rng.normal(size=64), 1e-3).share > 0.1


def test_the_tail_is_that_of_all_cosines():
    rows = np.random.default_rng(1).normal(size=(101, 8))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.tril_indices(101, -1)]
    found = tail(rows, 0.05)
    assert found.n_beyond == (np.abs(cosines) > threshold(0.05, 8)).sum()
    assert tail(rows[:1], 0.05).share is None


def test_of_rows_that_are_alike_the_first_is_kept_and_an_opposite_one_is_no_duplicate(monkeypatch):
    monkeypatch.setattr(decoder_tails, "_BLOCK", 3)
    first, other = np.eye(8)[:2]
    rows = np.stack([first, other, 2 * first, -first, first + 0.1 * other, first + other, first])
    assert distinct(rows).tolist() == [True, True, False, True, False, True, False]
