"""Clouds of known shape have it, whatever their place and rotation, and what chance gives at few points is known."""

import math

import numpy as np
import pytest
from skdim.id import TwoNN

from backend.feature_geometry import shape as shapes
from backend.feature_geometry.shape import MEASURES, Cloud, EqualDistances, shape, two_nearest, twonn


def rotation(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def cloud(points: np.ndarray, n_problems: int = 10) -> Cloud:
    return Cloud.of(points, np.arange(len(points)) % n_problems)


def nearest(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return two_nearest(points @ points.T)


def measured(points: np.ndarray) -> dict[str, float]:
    return {name: measure.of(cloud(points)) for name, measure in MEASURES.items()}


def test_equal_variance_in_k_directions_is_a_rank_and_a_participation_ratio_of_k():
    corners = np.concatenate([np.eye(4), -np.eye(4)]) @ rotation(9)[:4]
    assert shapes.effective_rank(cloud(corners)) == pytest.approx(4)
    assert shapes.participation_ratio(cloud(corners)) == pytest.approx(4)


def test_the_two_ranks_of_a_known_spectrum():
    """Singular values 3, 1: entropy of ¾, ¼; eigenvalues 9, 1: 100 / 82."""
    points = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert shapes.effective_rank(cloud(points)) == pytest.approx(math.exp(entropy))
    assert shapes.participation_ratio(cloud(points)) == pytest.approx(100 / 82)


def test_few_isotropic_points_look_narrow_and_the_correction_says_how_wide_they_are():
    found = [measured(np.random.default_rng(seed).standard_normal((60, 100))) for seed in range(20)]
    mean = {name: np.mean([one[name] for one in found]) for name in MEASURES}
    assert mean["participation_ratio"] == pytest.approx(1 / (1 / 100 + 1 / 60), rel=0.05), "and not 100"
    assert mean["corrected_participation_ratio"] == pytest.approx(100, rel=0.05)
    assert mean["anisotropy"] == pytest.approx(0, abs=0.002)


def test_all_but_anisotropy_are_the_same_after_a_shift_and_all_after_rotation_and_scaling():
    points = np.random.default_rng(0).standard_normal((80, 6)) * np.arange(1, 7) + 2
    before, moved = measured(points), measured(points + 100)
    turned = measured(7 * points @ rotation(6))
    assert turned == pytest.approx(before)
    assert before.pop("anisotropy") < moved.pop("anisotropy") and moved == pytest.approx(before)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_twonn_finds_a_planted_dimension(dimension):
    points = np.random.default_rng(dimension).uniform(size=(1500, dimension)) @ rotation(20)[:dimension]
    assert twonn(*nearest(points)) == pytest.approx(dimension, rel=0.08)


def test_twonn_is_that_of_scikit_dimension():
    points = np.random.default_rng(3).standard_normal((400, 7))
    assert twonn(*nearest(points)) == pytest.approx(float(TwoNN().fit(points).dimension_), rel=1e-9)


def test_twonn_refuses_duplicates_and_equal_distances():
    points = np.random.default_rng(0).standard_normal((30, 3))
    with pytest.raises(EqualDistances, match="coincide"):
        twonn(*nearest(np.concatenate([points, points[:1]])))
    with pytest.raises(EqualDistances, match="same distance"):
        twonn(np.ones(30), np.ones(30))


def test_points_that_coincide_count_as_one_point_of_the_dimension():
    points = np.random.default_rng(0).standard_normal((200, 3))
    assert shapes.intrinsic_dimension(cloud(np.concatenate([points, points[:50]]))) == pytest.approx(
        twonn(*nearest(points))
    )


def test_anisotropy_is_the_mean_cosine_of_pairs_of_different_problems():
    points, problems = np.random.default_rng(0).standard_normal((12, 4)) + 1, np.arange(12) % 5
    units = points / np.linalg.norm(points, axis=1)[:, None]
    pairs = [units[i] @ units[j] for i in range(12) for j in range(i) if problems[i] != problems[j]]
    assert shapes.anisotropy(Cloud.of(points, problems)) == pytest.approx(np.mean(pairs))


def rows(points: np.ndarray, **given) -> dict[str, dict]:
    return {row["measure"]: row for row in shape(cloud(points), n_draws=8, seed=0, **given)}


def test_a_normal_cloud_is_what_its_matched_null_gives_and_a_curved_one_is_of_less_dimension():
    rng = np.random.default_rng(0)
    normal = rows(rng.standard_normal((300, 8)) * np.arange(1, 9))["twonn"]
    assert abs(normal["value"] - normal["matched"]) < 4 * normal["matched_sd"]
    angle = rng.uniform(0, 2 * np.pi, 300)
    waves = [wave(k * angle) for k in (1, 2, 3, 4) for wave in (np.cos, np.sin)]
    curved = rows(np.column_stack(waves) + 0.01 * rng.standard_normal((300, 8)))["twonn"]
    assert curved["high"] < curved["matched"] - 4 * curved["matched_sd"]


def test_the_isotropic_null_has_the_bias_of_its_size_and_of_a_part_there_is_a_null_of_any_part():
    points = np.random.default_rng(0).standard_normal((120, 30))
    whole = cloud(points)
    row = {one["measure"]: one for one in shape(whole.only(np.arange(120) < 40), n_draws=8, seed=0, whole=whole)}
    ratio = row["participation_ratio"]
    assert ratio["isotropic"] == pytest.approx(1 / (1 / 30 + 1 / 40), rel=0.1)
    assert abs(ratio["value"] - ratio["any_category"]) < 4 * ratio["any_category_sd"]
    assert 0 < ratio["low"] < ratio["value"] < ratio["high"] and ratio["n"] == 40 and ratio["n_problems"] == 10
    assert ratio["low"] * ratio["high"] == pytest.approx(ratio["value"] ** 2), "an interval of the logarithm"
    assert math.isnan(rows(points)["twonn"]["any_category"])


def test_too_few_points_or_problems_have_no_shape():
    points = np.random.default_rng(0).standard_normal((30, 4))
    for small in (cloud(points[:10]), cloud(points, n_problems=3)):
        found = shape(small, n_draws=2, seed=0)
        assert [row["measure"] for row in found] == list(MEASURES) and all("value" not in row for row in found)
