"""What a judge finds equals counting by hand, token by token and feature by feature,
however the texts are dealt out."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from backend.crosscoder import judge as judging
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.diff import LatentScaling
from backend.crosscoder.judge import Histograms, Judge, ReadText, labelled, top_categories, windows

D_MODEL, N_FEATURES, N_CATEGORIES, SILENT = 5, 12, 3, 11


def made(n_models: int, kind: str = "l1") -> Dictionary:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return Dictionary(
        kind=kind,
        encoder=normal(n_models, D_MODEL, N_FEATURES),
        encoder_bias=-normal(N_FEATURES).abs(),
        decoder=normal(n_models, N_FEATURES, D_MODEL),
        decoder_bias=normal(n_models, D_MODEL),
        scale=normal(n_models).abs() + 0.5,
        threshold=torch.tensor(6.0) if kind == "linear" else None,
        k=None,
        weighted=True,
        subtract=False,
    )


def texts(dictionary: Dictionary, n: int = 9) -> list[ReadText]:
    rng = np.random.default_rng(2)
    made = []
    for number in range(n):
        n_tokens = int(rng.integers(8, 40))
        activations = rng.standard_normal((n_tokens, dictionary.n_models, D_MODEL)).astype(np.float32) + 1
        codes = dictionary.encode(torch.from_numpy(activations)).numpy()
        codes[:, SILENT] = 0
        labels = rng.integers(N_CATEGORIES, size=n_tokens)[:, None] == np.arange(N_CATEGORIES)
        labels[:, 2] = False  # no token is of the third
        made.append(ReadText(f"text {number}", activations, csr_array(codes), 5, labels))
    return made


def judged(dictionary: Dictionary, read: list[ReadText], at_once: int = 2):
    judge = Judge(dictionary, N_CATEGORIES)
    for first in range(0, len(read), at_once):
        judge.add(read[first : first + at_once])
    return judge.findings()


@pytest.fixture(params=[1, 2], ids=["autoencoder", "crosscoder"])
def dictionary(request) -> Dictionary:
    return made(request.param)


def test_counts_and_fits_are_those_of_the_judged_tokens(dictionary):
    read = texts(dictionary)
    found = judged(dictionary, read)
    codes = np.concatenate([text.codes.toarray()[5:] for text in read]).astype(np.float64)
    activations = np.concatenate([text.activations[5:] for text in read]).astype(np.float64)
    labels = np.concatenate([text.labels[5:] for text in read])
    fires = codes > 0
    assert found.n == len(codes)
    np.testing.assert_allclose(found.frequency, fires.mean(0))
    for k in range(N_FEATURES - 1):
        assert (
            found.mean_activation[k] == pytest.approx(codes[fires[:, k], k].mean())
            and found.max_activation[k] == codes[:, k].max()
        )
        for category in range(2):
            here = fires[:, k] & labels[:, category]
            assert found.category_fired[k, category] == here.sum()
            assert here.sum() == 0 or found.category_mean[k, category] == pytest.approx(codes[here, k].mean())
    assert found.category_tokens.tolist() == labels.sum(0).tolist() and np.isnan(found.category_mean[:, 2]).all()
    assert (
        found.frequency[SILENT] == 0 and np.isnan([found.mean_activation[SILENT], found.max_activation[SILENT]]).all()
    )
    error = activations - dictionary.decode(torch.tensor(codes)).double().numpy()
    spread = ((activations - activations.mean(0)) ** 2).sum((0, 2))
    np.testing.assert_allclose(found.variance_explained, 1 - (error**2).sum((0, 2)) / spread, rtol=1e-5)
    np.testing.assert_allclose(found.mean, activations.mean(0), rtol=1e-12)


def test_of_a_linear_dictionary_sizes_of_codes_beyond_its_threshold_are_counted():
    dictionary = made(2, "linear")
    read = texts(dictionary)
    found = judged(dictionary, read)
    codes = np.concatenate([text.codes.toarray()[5:] for text in read]).astype(np.float64)
    labels = np.concatenate([text.labels[5:] for text in read])
    fires = np.abs(codes) > dictionary.fires_above.numpy()
    assert fires.any() and (codes[fires] < 0).any() and not fires.all(1).any()
    np.testing.assert_allclose(found.frequency, fires.mean(0))
    for k in np.flatnonzero(fires.any(0)):
        sizes = np.abs(codes[fires[:, k], k])
        assert found.mean_activation[k] == pytest.approx(sizes.mean())
        assert found.max_activation[k] == pytest.approx(sizes.max())
        assert found.category_fired[k].tolist() == (fires[:, [k]] & labels).sum(0).tolist()
        strongest = found.strongest[found.strongest["feature"] == k]["code"].to_numpy()
        assert np.abs(strongest[0]) == pytest.approx(sizes.max()) and (np.diff(np.abs(strongest)) <= 0).all()
    activations = np.concatenate([text.activations[5:] for text in read]).astype(np.float64)
    error = activations - dictionary.decode(torch.tensor(codes)).double().numpy()  # of all codes
    spread = ((activations - activations.mean(0)) ** 2).sum((0, 2))
    np.testing.assert_allclose(found.variance_explained, 1 - (error**2).sum((0, 2)) / spread, rtol=1e-5)


def test_bins_of_signed_codes_go_from_minus_the_largest_size_to_it():
    histograms = Histograms(np.array([2.0]), is_signed=True)
    codes = np.array([-2.0, -1.9, 0.7, 2.0])
    histograms.add(np.zeros(4, int), codes)
    assert histograms.edges(0)[[0, -1]].tolist() == [-2.0, 2.0]
    assert histograms.counts[0].tolist() == np.histogram(codes, histograms.edges(0))[0].tolist()


def test_latent_scaling_is_that_of_two_models_and_unknown_for_one():
    pair, read = made(2), texts(made(2))
    found, scaling = judged(pair, read), LatentScaling(pair)
    for text in read:
        scaling.add(text.activations[5:], text.codes[5:])
    np.testing.assert_allclose(found.nu_eps, scaling.statistics().nu_eps)
    np.testing.assert_allclose(found.nu_r, scaling.statistics().nu_r)
    assert np.isnan(judged(made(1), texts(made(1))).nu_eps).all()


@pytest.mark.parametrize("pending", [0, 10**9])
def test_the_strongest_tokens_are_spread_over_texts_and_then_sorted(dictionary, monkeypatch, pending):
    monkeypatch.setattr(judging, "_PENDING", pending)  # looked through after every text, or once
    monkeypatch.setattr(judging, "N_STRONGEST", 12)
    read = texts(dictionary)
    found = judged(dictionary, read).strongest
    for k in range(N_FEATURES):
        ordered = []  # (how many stronger ones its text has, −code, …)
        for text in read:
            column = text.codes.toarray()[:, k]
            here = sorted((-column[row], row + 1) for row in range(5, len(column)) if column[row] > 0)
            ordered += [(nth, code, text.text_id, position) for nth, (code, position) in enumerate(here)]
        expected = sorted((code, name, position) for _, code, name, position in sorted(ordered)[:12])
        mine = found[found["feature"] == k]
        assert list(zip(-mine["code"], mine["text_id"], mine["position"], strict=True)) == expected
        assert mine["rank"].tolist() == list(range(len(expected)))
        if len(expected) == 12:
            assert set(mine["text_id"]) == {text.text_id for text in read if (text.codes.toarray()[5:, k] > 0).any()}


def test_a_judge_without_tokens_says_so(dictionary):
    with pytest.raises(ValueError, match="no judged tokens"):
        Judge(dictionary, N_CATEGORIES).findings()


def test_every_code_is_in_one_bin_and_the_largest_in_the_last():
    codes = np.array([0.1, 0.5, 2.0, 1.999, 3.0])
    histograms = Histograms(np.array([2.0, np.nan, 3.0]))
    histograms.add(np.array([0, 0, 0, 0, 2]), codes)
    assert (
        histograms.counts.sum(1).tolist() == [4, 0, 1]
        and histograms.counts[0, -1] == 2
        and histograms.counts[2, -1] == 1
    )
    assert histograms.counts[0].tolist() == np.histogram(codes[:4], histograms.edges(0))[0].tolist()


def test_a_window_has_the_features_codes_around_the_token_within_the_text():
    codes = np.arange(120.0).reshape(40, 3)  # of tokens 1 to 40
    found = windows(csr_array(codes), [1, 30, 40], [2, 0, 2])
    assert [start for start, _ in found] == [1, 15, 25]
    assert found[0][1].tolist() == codes[0:6, 2].tolist()  # nothing before token 1
    assert found[1][1].tolist() == codes[14:35, 0].tolist() and found[1][1][15] == codes[29, 0]
    assert found[2][1].tolist() == codes[24:40, 2].tolist()  # nothing after the last


def test_the_top_category_is_that_of_the_largest_lift_with_enough_tokens():
    tokens = np.array([100, 100, 800])
    fired = np.array([[20, 10, 10], [4, 0, 0], [0, 6, 0], [10, 10, 80]])
    top, lift = top_categories(fired, tokens)
    assert top.tolist() == [0, -1, 1, 0]
    assert lift[[0, 2, 3]] == pytest.approx([0.2 / 0.04, 10, 1]) and np.isnan(lift[1])
    assert top_categories(fired, np.zeros(3, int))[0].tolist() == [-1] * 4


def test_labels_leave_out_the_first_token():
    assert labelled(4, {1: [0, 2], 2: [3]}, 3).tolist() == [[False] * 3, [False, True, False], [False, False, True]]
