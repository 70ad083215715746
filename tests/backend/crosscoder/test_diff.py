"""Planted crosscoders, where it is known which feature belongs to which model, and the least-squares fits written out
one at a time.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.diff import (
    DiffError,
    FeatureStatistics,
    LatentScaling,
    classify,
    decoder_cosine,
    decoder_norms,
    nrn,
    rdn,
)

N, D_MODEL = 3000, 24
SHARED, WEAK, DISTILLED_ONLY, BASE_ONLY, SHRUNK, HALF_DISTILLED, HALF_BASE, SILENT, ROWLESS = range(9)
N_FEATURES = 9


def made(decoder: np.ndarray, *, bias: float = 0.0, scale: tuple[float, ...] = (1.0, 1.0)) -> Dictionary:
    m, n_features, d = decoder.shape
    return Dictionary(
        kind="l1",
        encoder=torch.zeros(m, d, n_features),
        encoder_bias=torch.zeros(n_features),
        decoder=torch.tensor(decoder).float(),
        decoder_bias=torch.full((m, d), bias),
        scale=torch.tensor(scale),
        threshold=None,
        k=None,
        weighted=True,
        subtract=False,
    )


def swapped(dictionary: Dictionary) -> Dictionary:
    names = ("encoder", "decoder", "decoder_bias", "scale")
    return replace(dictionary, **{name: getattr(dictionary, name).flip(0) for name in names})


@pytest.fixture(scope="module")
def planted() -> tuple[Dictionary, np.ndarray, np.ndarray]:
    """A crosscoder as L1 training might leave it, and activations of both models: orthonormal directions, codes at
    random, some noise.
    """
    rng = np.random.default_rng(0)
    v = np.linalg.qr(rng.standard_normal((D_MODEL, D_MODEL)))[0]
    codes = rng.exponential(2.0, (N, N_FEATURES)) * (rng.random((N, N_FEATURES)) < 0.15)
    codes[:, HALF_BASE] = codes[:, HALF_DISTILLED]  # one feature of both models, kept as two
    codes[:, SILENT] = 0
    truth = np.zeros((2, N_FEATURES, D_MODEL))  # what the models contain
    truth[:, SHARED], truth[0, WEAK], truth[1, WEAK] = v[0], 0.5 * v[1], v[1]
    truth[1, DISTILLED_ONLY], truth[0, BASE_ONLY] = v[2], v[3]
    truth[0, SHRUNK], truth[1, SHRUNK] = 0.8 * v[4], v[4]
    truth[1, HALF_DISTILLED] = truth[0, HALF_BASE] = v[5]
    learned = truth.copy()  # what the crosscoder says they contain
    learned[0, SHRUNK] = 0
    learned[:, SILENT] = v[6]
    activations = np.einsum("nk,mkd->nmd", codes, truth) + 0.02 * rng.standard_normal((N, 2, D_MODEL))
    return made(learned), activations, codes


def measured(dictionary: Dictionary, activations: np.ndarray, codes: np.ndarray, **options) -> FeatureStatistics:
    scaling = LatentScaling(dictionary)
    scaling.add(activations, codes)
    return scaling.statistics(**options)


def is_equal(one: FeatureStatistics, other: FeatureStatistics) -> None:
    for each in fields(FeatureStatistics):
        np.testing.assert_allclose(
            getattr(one, each.name), getattr(other, each.name), rtol=1e-7, atol=1e-10, err_msg=each.name
        )


# ---- decoder norms


def test_relative_norms_run_from_base_only_by_shared_to_distilled_only():
    rows = np.zeros((2, 5, 2))
    rows[:, 0], rows[1, 1], rows[0, 2] = (3, 4), (1, 0), (1, 0)
    rows[0, 3], rows[1, 3] = (1, 0), (3, -4)
    dictionary = made(rows)
    assert decoder_norms(dictionary)[:, 3].tolist() == [1, 7] and decoder_norms(dictionary, order=2)[:, 3].tolist() == [
        1,
        5,
    ]
    np.testing.assert_array_equal(rdn(dictionary), [1, np.inf, 0, 7, np.nan])
    np.testing.assert_allclose(nrn(dictionary), [0.5, 1, 0, 7 / 8, np.nan])
    np.testing.assert_allclose(nrn(dictionary, order=2), [0.5, 1, 0, 5 / 6, np.nan])
    np.testing.assert_allclose(decoder_cosine(dictionary), [1, np.nan, np.nan, 0.6, np.nan])


def test_exchanging_the_models_mirrors_norms(planted):
    dictionary = replace(planted[0], decoder=torch.randn(2, N_FEATURES, D_MODEL))
    for order in (1, 2):
        np.testing.assert_allclose(nrn(swapped(dictionary), order), 1 - nrn(dictionary, order), rtol=1e-12)
        np.testing.assert_allclose(rdn(swapped(dictionary), order), 1 / rdn(dictionary, order), rtol=1e-12)
    np.testing.assert_allclose(decoder_cosine(swapped(dictionary)), decoder_cosine(dictionary))


# ---- latent scaling


def test_latent_scaling_finds_the_planted_truth(planted):
    """Norms call four features unique; activations tell two true ones from one that was shrunk and one that was
    decoupled.
    """
    found = measured(*planted)
    near = {"atol": 0.02}
    np.testing.assert_allclose(found.nu_eps[[SHARED, WEAK]], [1, 0.5], **near)
    np.testing.assert_allclose(found.nu_r[[SHARED, WEAK]], [1, 0.5], **near)
    np.testing.assert_allclose(found.beta_error[:, DISTILLED_ONLY], [0, 1], **near)
    np.testing.assert_allclose(
        found.beta_error[:, BASE_ONLY], [1, 0], **near
    )  # along its own row, that of the base model
    np.testing.assert_allclose([found.nu_eps[DISTILLED_ONLY], found.nu_r[DISTILLED_ONLY]], 0, **near)
    np.testing.assert_allclose([1 / found.nu_eps[BASE_ONLY], 1 / found.nu_r[BASE_ONLY]], 0, **near)
    assert nrn(planted[0])[SHRUNK] == 1 and found.nu_eps[SHRUNK] == pytest.approx(0.8, abs=0.02)
    assert nrn(planted[0])[HALF_DISTILLED] == 1 and nrn(planted[0])[HALF_BASE] == 0
    assert abs(found.nu_eps[HALF_DISTILLED]) < 0.02 and found.nu_r[HALF_DISTILLED] == pytest.approx(1, abs=0.02)
    assert abs(1 / found.nu_eps[HALF_BASE]) < 0.02 and found.nu_r[HALF_BASE] == pytest.approx(1, abs=0.02)


def test_features_are_classified_by_norms_and_latent_scaling_together(planted):
    found = measured(*planted)
    assert classify(nrn(planted[0], 2), found.nu_eps, found.nu_r).tolist() == [
        "shared",
        "shared",
        "distilled only",
        "base only",
        "suspect",
        "suspect",
        "suspect",
        "shared",
        None,
    ]


@pytest.mark.parametrize("direction", ["longer", "distilled"])
def test_betas_are_the_least_squares_fits(direction):
    """With biases, scales and rows at any angle: every fit one at a time, on the target written out."""
    rng = np.random.default_rng(1)
    dictionary = made(rng.standard_normal((2, 6, 5)), bias=0.7, scale=(0.5, 3.0))
    codes = rng.random((70, 6)) * (rng.random((70, 6)) < 0.4)
    raw = rng.standard_normal((70, 2, 5))
    found = measured(dictionary, raw, codes, direction=direction)
    rows, a = dictionary.decoder.double().numpy(), raw * np.array([0.5, 3.0])[:, None]
    bias = dictionary.decoder_bias.double().numpy()
    for j in range(6):
        whose = 1 if direction == "distilled" else np.argmax(np.linalg.norm(rows[:, j], axis=1))
        line = np.outer(codes[:, j], rows[whose, j]).reshape(-1, 1)
        for m in range(2):
            others = np.delete(codes, j, axis=1) @ np.delete(rows[m], j, axis=0)
            error, reconstruction = a[:, m] - others - bias[m], codes @ rows[m] + bias[m]
            for target, betas in [(error, found.beta_error), (reconstruction, found.beta_reconstruction)]:
                assert betas[m, j] == pytest.approx(np.linalg.lstsq(line, target.reshape(-1))[0][0])
    np.testing.assert_allclose(found.nu_eps, found.beta_error[0] / found.beta_error[1])
    np.testing.assert_allclose(found.nu_r, found.beta_reconstruction[0] / found.beta_reconstruction[1])


def test_exchanging_the_models_turns_nu_into_its_inverse(planted):
    dictionary, activations, codes = planted
    one, other = measured(dictionary, activations, codes), measured(swapped(dictionary), activations[:, ::-1], codes)
    asymmetric = [
        WEAK,
        DISTILLED_ONLY,
        BASE_ONLY,
        SHRUNK,
        HALF_BASE,
        HALF_DISTILLED,
    ]  # of rows as long as each other neither is the longer
    np.testing.assert_allclose(other.nu_eps[asymmetric], 1 / one.nu_eps[asymmetric], rtol=1e-6)
    np.testing.assert_allclose(other.nu_r[asymmetric], 1 / one.nu_r[asymmetric], rtol=1e-6)
    np.testing.assert_allclose(other.variance_explained, one.variance_explained[::-1])


def test_batches_of_any_size_and_kind_give_what_one_batch_gives(planted):
    dictionary, activations, codes = planted
    activations = activations + 100  # a mean far from zero, as residual streams have
    whole = measured(dictionary, activations, codes)
    scaling = LatentScaling(dictionary)
    for start, stop in [(0, 1), (1, 1), (1, 400), (400, 2900), (2900, N)]:
        some = codes[start:stop]
        scaling.add(torch.tensor(activations[start:stop]), csr_array(some) if start == 1 else torch.tensor(some))
    is_equal(scaling.statistics(), whole)


def test_more_features_and_tokens_than_one_product_holds(planted):
    """Features repeated over several blocks of the sums have the betas that they have alone."""
    dictionary, activations, codes = planted
    times = 150
    many = replace(
        dictionary,
        decoder=dictionary.decoder.repeat(1, times, 1) / times,
        encoder=torch.zeros(2, D_MODEL, N_FEATURES * times),
        encoder_bias=torch.zeros(N_FEATURES * times),
    )
    found, alone = measured(many, activations, np.tile(codes, times)), measured(dictionary, activations, codes)
    np.testing.assert_allclose(found.frequency, np.tile(alone.frequency, times))
    np.testing.assert_allclose(found.variance_explained, alone.variance_explained)
    np.testing.assert_allclose(found.beta_reconstruction, np.tile(alone.beta_reconstruction, times) * times, atol=1e-6)


# ---- how often and how well


def test_firing_and_quality_are_counted(planted):
    dictionary, activations, codes = planted
    found, rebuilt = measured(*planted), np.einsum("nk,mkd->nmd", codes, dictionary.decoder.double().numpy())
    fires = codes > 0
    np.testing.assert_allclose(found.frequency, fires.mean(0))
    np.testing.assert_allclose(found.mean_activation[:SILENT], [codes[fires[:, j], j].mean() for j in range(SILENT)])
    np.testing.assert_allclose(found.max_activation[:SILENT], codes.max(0)[:SILENT])
    residual = ((activations - rebuilt) ** 2).sum((0, 2))
    np.testing.assert_allclose(
        found.variance_explained, 1 - residual / ((activations - activations.mean(0)) ** 2).sum((0, 2))
    )
    assert (found.n, found.l0, found.dead_share) == (N, pytest.approx(fires.sum(1).mean()), 1 / N_FEATURES)


def test_variance_explained_is_the_same_in_raw_and_scaled_units(planted):
    dictionary, activations, codes = planted
    raw = activations / np.array([0.01, 30.0])[:, None]
    found = measured(replace(dictionary, scale=torch.tensor([0.01, 30.0])), raw, codes)
    np.testing.assert_allclose(found.variance_explained, measured(*planted).variance_explained, rtol=1e-5)


def test_what_was_not_measured_is_nan_and_never_zero(planted):
    found = measured(*planted)
    for name in ("nu_eps", "nu_r", "mean_activation", "max_activation"):
        assert np.isnan(getattr(found, name)[SILENT]), name
    assert np.isnan(found.beta_error[:, SILENT]).all() and found.frequency[SILENT] == 0
    assert np.isnan(found.beta_error[:, ROWLESS]).all() and found.frequency[ROWLESS] > 0  # fires, along no direction
    assert np.isnan(measured(*planted, direction="distilled").nu_eps[BASE_ONLY])
    empty = LatentScaling(planted[0]).statistics()
    for each in fields(FeatureStatistics):
        assert each.name == "n" or np.isnan(getattr(empty, each.name)).all(), each.name
    constant = measured(planted[0], np.ones((10, 2, D_MODEL)), np.zeros((10, N_FEATURES)))
    assert np.isnan(constant.variance_explained).all()


# ---- the rule, and refusals


@pytest.mark.parametrize(
    ("one_nrn", "eps", "r", "expected"),
    [
        (0.5, np.nan, np.nan, "shared"),
        (0.2, 5.0, 5.0, "shared"),
        (1 / 6, 9.0, 9.0, "shared"),
        (0.95, 0.1, 0.4, "distilled only"),
        (1.0, -0.1, -0.4, "distilled only"),
        (0.95, 0.3, 0.1, "suspect"),
        (0.95, 0.1, 0.6, "suspect"),
        (0.95, -3.0, 0.0, "suspect"),
        (0.95, np.inf, 0.0, "suspect"),
        (0.95, np.nan, 0.0, None),
        (0.02, 10.0, 3.0, "base only"),
        (0.0, np.inf, -np.inf, "base only"),
        (0.02, 4.0, 3.0, "suspect"),
        (0.02, 10.0, 1.5, "suspect"),
        (0.02, 0.0, 10.0, "suspect"),
        (0.02, -0.01, 10.0, "suspect"),
        (0.02, 10.0, np.nan, None),
        (np.nan, 0.0, 0.0, None),
    ],
)
def test_the_rule_of_classification(one_nrn, eps, r, expected):
    assert classify(np.array([one_nrn]), np.array([eps]), np.array([r])).tolist() == [expected]


def test_the_bounds_of_classification_can_be_chosen():
    values = np.array([0.85]), np.array([0.3]), np.array([0.6])
    assert classify(*values).tolist() == ["suspect"]
    assert classify(*values, nu_eps_most=0.4, nu_r_most=0.7).tolist() == ["distilled only"]
    assert classify(*values, nrn_extreme=0.1).tolist() == ["shared"]


@pytest.mark.parametrize(
    ("activations", "codes", "told"),
    [
        (np.zeros((3, 2, 5)), np.zeros((3, N_FEATURES)), r"activations have shape \(3, 2, 5\); expected \(n, 2, 24\)"),
        (np.zeros((3, 2, D_MODEL)), np.zeros((4, N_FEATURES)), r"codes have shape \(4, 9\); expected \(3, 9\)"),
        (np.zeros((3, 2, D_MODEL)), np.full((3, N_FEATURES), -1.0), "codes are negative"),
        (np.full((3, 2, D_MODEL), np.nan), np.zeros((3, N_FEATURES)), "activations or codes are NaN"),
    ],
)
def test_what_does_not_belong_together_is_refused_and_changes_nothing(planted, activations, codes, told):
    scaling = LatentScaling(planted[0])
    with pytest.raises(DiffError, match=told):
        scaling.add(activations, codes)
    assert scaling.statistics().n == 0


def test_a_dictionary_of_one_model_has_nothing_to_tell_apart():
    one = made(np.ones((1, 3, D_MODEL)), scale=(1.0,))
    for ask in (nrn, rdn, decoder_cosine, LatentScaling):
        with pytest.raises(DiffError, match="the dictionary is of 1 models; expected 2, the base model first"):
            ask(one)
    with pytest.raises(ValueError, match="order of a decoder norm is 1, 2 or 'rms', got 3"):
        decoder_norms(one, 3)
    with pytest.raises(DiffError, match="expected one of each for every feature"):
        classify(np.zeros(3), np.zeros(2), np.zeros(3))


# Models of unequal width

BASE_WIDTH = 9  # of the base model; the distilled one has D_MODEL


@pytest.fixture(scope="module")
def unequal() -> tuple[Dictionary, np.ndarray, np.ndarray]:
    """A base of width 9 and a distilled model of width 24, scaled to mean norms of √d: a shared feature takes the same
    share of both, one is half as large a share in the base, and one is the distilled model's alone.
    """
    rng = np.random.default_rng(1)
    narrow = np.linalg.qr(rng.standard_normal((BASE_WIDTH, BASE_WIDTH)))[0] * np.sqrt(BASE_WIDTH)
    wide = np.linalg.qr(rng.standard_normal((D_MODEL, D_MODEL)))[0] * np.sqrt(D_MODEL)
    codes = rng.exponential(1.0, (N, 3)) * (rng.random((N, 3)) < 0.2)
    rows = np.zeros((2, 3, D_MODEL))
    rows[0, :2, :BASE_WIDTH], rows[1] = narrow[:2] * [[1.0], [0.5]], wide[:3]
    rows[0, 2, :BASE_WIDTH] = 0.01 * narrow[2]
    activations = np.einsum("nk,mkd->nmd", codes, rows) + 0.01 * rng.standard_normal((N, 2, D_MODEL))
    activations[:, 0, BASE_WIDTH:] = 0
    return replace(made(rows), widths=(BASE_WIDTH, D_MODEL)), activations, codes


def test_at_unequal_widths_rms_norms_compare_shares_and_l1_and_l2_lean_to_the_wider_model(unequal):
    dictionary, *_ = unequal
    assert nrn(dictionary, "rms")[:2] == pytest.approx([0.5, 2 / 3])
    wide, narrow = np.sqrt(D_MODEL), np.sqrt(BASE_WIDTH)
    assert nrn(dictionary, 2)[0] == pytest.approx(wide / (wide + narrow))
    assert nrn(dictionary, 1)[0] > nrn(dictionary, 2)[0] > 0.6
    assert np.isnan(decoder_cosine(dictionary)).all()
    equal = replace(dictionary, widths=None)
    assert nrn(equal, "rms") == pytest.approx(nrn(equal, 2))


def test_latent_scaling_at_unequal_widths_is_a_least_squares_fit_along_each_models_own_row(unequal):
    dictionary, activations, codes = unequal
    scaling = LatentScaling(dictionary)
    scaling.add(activations, codes)
    found = scaling.statistics()
    decoder = dictionary.decoder.double().numpy()
    rebuilt = np.einsum("nk,mkd->nmd", codes, decoder)
    for k in range(3):
        held = []
        for m, width in enumerate((BASE_WIDTH, D_MODEL)):
            row = decoder[m, k]
            without = activations[:, m] - (rebuilt[:, m] - codes[:, [k]] * row)
            design = (codes[:, [k]] * row).reshape(-1, 1)
            beta = np.linalg.lstsq(design, without.reshape(-1), rcond=None)[0][0]
            assert found.beta_error[m, k] == pytest.approx(beta, rel=1e-6)
            held.append(beta * np.linalg.norm(row) / np.sqrt(width))
        assert found.nu_eps[k] == pytest.approx(held[0] / held[1], rel=1e-6)
    assert found.nu_eps == pytest.approx([1.0, 0.5, 0.01], abs=0.02)
    assert classify(nrn(dictionary, "rms"), found.nu_eps, found.nu_r).tolist()[::2] == ["shared", "distilled only"]


def test_a_row_that_shrank_to_nothing_has_no_direction_at_unequal_widths(unequal):
    dictionary, activations, codes = unequal
    decoder = dictionary.decoder.clone()
    decoder[0, 2] = 0
    scaling = LatentScaling(replace(dictionary, decoder=decoder))
    scaling.add(activations, codes)
    assert np.isnan(scaling.statistics().nu_eps[2])


def test_a_linear_dictionary_is_measured_on_all_its_codes_and_counts_those_beyond_its_threshold(planted):
    dictionary, activations, codes = planted
    rng = np.random.default_rng(3)
    signed = codes * rng.choice([-1.0, 1.0], codes.shape) + 0.01 * rng.standard_normal(codes.shape)
    linear = replace(dictionary, kind="linear", threshold=torch.tensor(0.5))
    with pytest.raises(DiffError, match="codes are negative"):
        LatentScaling(dictionary).add(activations, signed)
    scaling = LatentScaling(linear)
    scaling.add(activations, signed)
    found = scaling.statistics()
    norms = np.linalg.norm(linear.decoder.double().numpy(), axis=2).sum(0)
    fires = np.abs(signed) * norms > 0.5
    assert found.frequency == pytest.approx(fires.mean(0))
    sizes = np.where(fires, np.abs(signed), 0)
    known = fires.any(0)
    assert found.mean_activation[known] == pytest.approx(sizes.sum(0)[known] / fires.sum(0)[known])
    assert found.max_activation[known] == pytest.approx(sizes.max(0)[known])
    rebuilt = np.einsum("nk,mkd->nmd", signed, linear.decoder.double().numpy())
    left, spread = ((activations - rebuilt) ** 2).sum((0, 2)), ((activations - activations.mean(0)) ** 2).sum((0, 2))
    assert found.variance_explained == pytest.approx(1 - left / spread)
