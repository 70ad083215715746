"""Planted features are found, a Gaussian cloud has its moments, and what is measured is what a plain sum gives."""

import numpy as np
import pytest
import torch

from backend.crosscoder.train import Settings
from backend.feature_geometry.small_saes import covariance, draw_gaussian, measure, moments, train

WIDTH = 24


def planted(n, rng, n_features=32):
    """Sparse combinations of true directions, about a mean far from zero."""
    truth = rng.normal(size=(n_features, WIDTH))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    codes = (rng.random((n, n_features)) < 0.06) * rng.uniform(0.5, 1.5, size=(n, n_features))
    return truth, (codes @ truth + 3 * np.eye(WIDTH)[0]).astype(np.float16)


def settings(**changed):
    told = {"n_models": 1, "width": WIDTH, "n_features": 40, "kind": "topk", "k": 2, "batch": 512, "steps": 500}
    told |= {"learning_rate": 3e-3, "warmup": 10, "dead_after": 20_000, "aux_k": 8}
    return Settings(**{**told, **changed})


def test_rows_of_a_planted_sparse_dictionary_are_found_about_whatever_mean():
    truth, rows = planted(20_000, np.random.default_rng(0))
    of = moments(rows)
    dictionary = train(rows, of, settings(), facts={"layer": 3}, device="cpu")
    found = dictionary.raw_rows(0).numpy()
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert ((truth @ found.T).max(1) > 0.9).mean() >= 0.9
    measured = measure(dictionary, planted(4000, np.random.default_rng(0))[1])
    assert measured.variance_explained > 0.75 and measured.l0 <= 2
    assert dictionary.kind == "topk" and dictionary.facts["layer"] == 3


def test_a_training_follows_from_rows_settings_and_seed():
    rows = planted(2000, np.random.default_rng(1))[1]
    of = moments(rows)
    one, again, other = (train(rows, of, settings(steps=5, seed=seed), facts={}, device="cpu") for seed in (0, 0, 1))
    assert one.dictionary_id == again.dictionary_id != other.dictionary_id


def test_what_is_measured_is_what_plain_sums_over_all_rows_give():
    rows = planted(5000, np.random.default_rng(2))[1]
    dictionary = train(rows, moments(rows), settings(steps=30), facts={}, device="cpu")
    measured = measure(dictionary, rows)
    raw = torch.tensor(rows, dtype=torch.float32)
    codes = dictionary.encode(raw[:, None])
    left = (dictionary.decode(codes)[:, 0] - raw).double().square().sum()
    spread = (raw - raw.double().mean(0)).square().sum()
    assert measured.variance_explained == pytest.approx(float(1 - left / spread), rel=1e-6)
    assert measured.l0 == pytest.approx(float((codes > 0).sum() / len(raw)))
    np.testing.assert_allclose(measured.frequency, (codes > 0).double().mean(0))
    assert measured.dead == float(((codes > 0).sum(0) == 0).double().mean())


def test_a_gaussian_cloud_has_the_mean_and_the_covariance_of_the_streams():
    rng = np.random.default_rng(3)
    rows = (rng.gamma(2.0, size=(50_000, 4)) @ rng.normal(size=(4, 6)) + 5).astype(np.float32)
    mean = moments(rows).mean
    np.testing.assert_allclose(mean, rows.astype(np.float64).mean(0), rtol=1e-9)
    expected = np.cov(rows.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(covariance(rows, mean), expected, rtol=1e-6, atol=1e-6)
    cloud = np.empty((50_000, 6), np.float32)
    draw_gaussian(cloud, mean, torch.from_numpy(expected), seed=1)
    error = np.sqrt(np.outer(np.diag(expected), np.diag(expected)) / len(cloud))
    assert (np.abs(cloud.mean(0) - mean) < 5 * np.sqrt(np.diag(expected) / len(cloud))).all()
    assert (np.abs(np.cov(cloud.astype(np.float64).T) - expected) < 8 * error).all(), (
        "the streams have rank 4; so has it"
    )
    apart = (cloud - mean) @ np.linalg.eigh(expected)[1][:, -1]
    assert abs((apart**3).mean() / apart.std() ** 3) < 0.06, "the streams are skewed; it is not"
    again = np.empty_like(cloud)
    draw_gaussian(again, mean, torch.from_numpy(expected), seed=1)
    assert np.array_equal(cloud, again)


def test_activations_are_scaled_to_a_mean_norm_of_the_root_of_the_width():
    rows = planted(3000, np.random.default_rng(4))[1]
    scaled = rows.astype(np.float64) * moments(rows).scale
    assert np.linalg.norm(scaled, axis=1).mean() == pytest.approx(np.sqrt(WIDTH), rel=1e-5)
