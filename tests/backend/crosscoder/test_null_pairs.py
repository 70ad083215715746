"""Pairs of which it is known what there is to be found: what stands in the second model's place, and what a crosscoder
that is trained on it shows.
"""

import numpy as np
import pytest
import torch

from backend.crosscoder import null_pairs, shards
from backend.crosscoder.diff import LatentScaling, classify, nrn
from backend.crosscoder.null_bands import FOUND_COSINE
from backend.crosscoder.null_kinds import SHARE_PLANTED, STRENGTHS
from backend.crosscoder.null_pairs import Twin
from backend.crosscoder.shards import Shards
from backend.crosscoder.train import CrosscoderTrainingError, Settings, Trainer

D, N_TEXTS, LENGTH, WORDS = 24, 60, 100, 64


def recorded(folder, *, texts_a_shard: int = 20, order=range(N_TEXTS)) -> Shards:
    """A pair without models: each word has its own two directions, and the distilled model's residual is the base
    model's with a small difference of a covariance of its own.
    """
    rng = np.random.default_rng(0)
    directions, skew = rng.standard_normal((WORDS, D)), rng.standard_normal((D, D)) * 0.06
    about = {"models": [{"name": "a"}, {"name": "b"}], "layer": 1, "dtype": "float32", "width": D, "max_tokens": 1024}
    shards._begin(folder, about)
    pending = []
    for number in order:
        own = np.random.default_rng([1, number])
        ids = own.integers(WORDS, size=LENGTH)
        base = directions[ids] + 0.7 * directions[np.roll(ids, 1)] + 0.1 * own.standard_normal((LENGTH, D))
        pair = np.stack([base, base + own.standard_normal((LENGTH, D)) @ skew.T], 1).astype(np.float32)
        pending.append(shards._Part(shards.Text(f"text {number}", ""), pair, ids.tolist(), 1))
        if len(pending) == texts_a_shard:
            shards._write(folder, len(shards._lines(folder)), pending)
            pending = []
    return Shards(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Shards:
    return recorded(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def rows(pair) -> np.ndarray:
    return np.arange(len(pair))


def test_base_against_itself_is_twice_the_base_model(pair, rows):
    twin = Twin(pair.folder, null_pairs.same()).activations(rows)
    assert np.array_equal(twin[:, 0], twin[:, 1]) and np.array_equal(twin[:, 0], pair.activations(rows)[:, 0])


def test_noise_has_the_covariance_of_the_difference_and_no_mean(pair, rows):
    raw = pair.activations(rows).astype(np.float64)
    difference = raw[:, 1] - raw[:, 0]
    wanted = np.cov(difference.T, bias=True)
    np.testing.assert_allclose(null_pairs.difference_covariance(pair, rows), wanted, atol=1e-12)
    twin = Twin(pair.folder, null_pairs.noise(pair, rows, seed=3)).activations(rows).astype(np.float64)
    assert np.array_equal(twin[:, 0], raw[:, 0])
    found = np.cov((twin[:, 1] - twin[:, 0]).T, bias=True)
    assert np.abs(found - wanted).max() < 5 * np.abs(wanted).max() / np.sqrt(len(rows))
    assert np.abs((twin[:, 1] - twin[:, 0]).mean(0)).max() < 5 * np.sqrt(np.diag(wanted).max() / len(rows))


def test_a_token_has_its_noise_in_every_batch_and_every_recording(pair, rows, tmp_path):
    noise = null_pairs.noise(pair, rows, seed=3)
    twin, some = Twin(pair.folder, noise), np.random.default_rng(2).permutation(rows)[:200]
    whole = twin.activations(rows)
    assert np.array_equal(twin.activations(some), whole[some])
    other = recorded(tmp_path, texts_a_shard=7, order=reversed(range(N_TEXTS)))
    again = Twin(other.folder, noise)
    for text in ("text 4", "text 59"):
        assert np.array_equal(again.activations(other.rows_of(text)), whole[pair.rows_of(text)])
    assert not np.array_equal(Twin(pair.folder, null_pairs.noise(pair, rows, seed=4)).activations(rows), whole)


def test_a_planted_direction_stands_on_its_share_of_tokens_and_nowhere_else(pair, rows):
    planted = null_pairs.planted(pair, rows, seed=3)
    noisy = Twin(pair.folder, null_pairs.noise(pair, rows, seed=3)).activations(rows)
    raw = pair.activations(rows).astype(np.float64)
    more = Twin(pair.folder, planted.added).activations(rows) - noisy
    there = planted.added.places(pair.tokens(rows), pair.texts())
    assert sorted(set(planted.strength)) == list(STRENGTHS) and there.shape == (len(rows), len(planted.strength))
    assert np.abs(there.mean(0) - SHARE_PLANTED).max() < 5 * np.sqrt(SHARE_PLANTED / len(rows))
    unit = np.linalg.norm(raw[:, 1] - raw[:, 0], axis=1).mean()
    expected = there @ (planted.directions * planted.strength[:, None] * unit)
    np.testing.assert_allclose(more[:, 1], expected, atol=1e-5)
    assert not more[:, 0].any()


def settings(**keys) -> Settings:
    return Settings(
        **{
            "n_models": 2,
            "width": D,
            "n_features": 96,
            "k": 4,
            "steps": 400,
            "batch": 256,
            "learning_rate": 3e-3,
            "dead_after": 5000,
            "aux_k": 16,
            **keys,
        }
    )


def trained(shards: Shards, **keys) -> tuple:
    """A crosscoder of the recording, its NRN, frequency and classes, on the tokens that it learned from."""
    own = settings(**keys)
    trainer, scale = Trainer(own), torch.tensor(shards.scale(), dtype=torch.float32)
    every = shards.activations(np.arange(len(shards)))
    for _, batch in zip(range(own.steps), shards.batches(own.batch, own.seed), strict=False):
        trainer.step(torch.from_numpy(every[batch]) * scale[:, None])
    dictionary = trainer.dictionary(scale, {})
    scaling = LatentScaling(dictionary)
    scaling.add(every, dictionary.encode(torch.from_numpy(every)))
    found = scaling.statistics()
    live = found.frequency > 0
    return dictionary, nrn(dictionary, 2)[live], classify(nrn(dictionary, 2), found.nu_eps, found.nu_r)[live], live


def test_a_null_pair_has_features_of_neither_model(pair, rows):
    for added, width in ((null_pairs.same(), 0.03), (null_pairs.noise(pair, rows, seed=3), 0.2)):
        _, of_live, classes, _ = trained(Twin(pair.folder, added))
        assert len(of_live) > 40 and np.abs(of_live - 0.5).max() < width
        assert not set(classes) & {"base only", "distilled only"}


def test_what_is_planted_strongly_is_found_and_what_is_planted_weakly_is_not(pair, rows):
    planted = null_pairs.planted(pair, rows, seed=3)
    dictionary, of_live, classes, live = trained(Twin(pair.folder, planted.added), steps=600, n_features=160)
    decoder = torch.nn.functional.normalize(dictionary.decoder[1].double(), dim=1).numpy()[live]
    cosines = decoder @ planted.directions.T
    nearest = cosines.argmax(0)
    is_found = (cosines.max(0) > FOUND_COSINE) & (classes[nearest] == "distilled only") & (of_live[nearest] > 0.8)
    by_strength = {strength: is_found[planted.strength == strength].mean() for strength in STRENGTHS}
    assert by_strength[4.0] == 1 and by_strength[2.0] > by_strength[0.5] and by_strength[0.25] == 0


def test_exchanging_the_models_mirrors_nrn_about_a_half(pair):
    own = settings(steps=60)
    one, other = Trainer(own), Trainer(own)
    with torch.no_grad():
        for weights in (other.encoder, other.decoder):
            weights.copy_(weights.view(-1, 2, D).flip(1).reshape(-1, 2 * D))
    scale = torch.tensor(pair.scale(), dtype=torch.float32)
    for _, batch in zip(range(own.steps), pair.batches(own.batch, 0), strict=False):
        scaled = torch.from_numpy(pair.activations(batch)) * scale[:, None]
        one.step(scaled)
        other.step(scaled.flip(1))
    mirrored = 1 - nrn(other.dictionary(scale.flip(0), {}), 2)
    np.testing.assert_allclose(nrn(one.dictionary(scale, {}), 2), mirrored, atol=1e-3)


def test_what_is_frozen_stays_as_drawn(pair):
    scale = torch.tensor(pair.scale(), dtype=torch.float32)
    for frozen in ("encoder", "decoder"):
        trainer = Trainer(settings(frozen=frozen, dead_after=300))
        before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
        for _, batch in zip(range(20), pair.batches(256, 0), strict=False):
            trainer.step(torch.from_numpy(pair.activations(batch)) * scale[:, None])
        after = trainer.tensors()
        still = {"encoder": {"encoder", "encoder_bias"}, "decoder": {"decoder"}}[frozen]
        for name in ("encoder", "decoder", "encoder_bias", "decoder_bias"):
            assert torch.equal(before[name], after[name]) == (name in still), (frozen, name)
        if frozen == "decoder":
            dictionary = trainer.dictionary(scale, {})
            assert np.array_equal(nrn(dictionary, 1), np.full(96, 0.5))
            assert np.array_equal(nrn(dictionary, 2), np.full(96, 0.5))


def test_a_frozen_decoder_needs_one_width():
    with pytest.raises(CrosscoderTrainingError, match="alike in all models"):
        Trainer(settings(frozen="decoder", widths=(D, D - 4)))


def test_features_that_went_silent_come_back_where_the_auxiliary_loss_weighs_as_in_its_source(pair):
    """Without it the loss of all features is a hundred times the auxiliary one, and hardly any comes back."""
    dead, explained, every = {}, {}, pair.activations(np.arange(len(pair)))
    for aux_relative in (False, True):
        own = settings(n_features=256, steps=900, aux_k=32, aux_relative=aux_relative)
        trainer, scale = Trainer(own), torch.tensor(pair.scale(), dtype=torch.float32)
        for _, batch in zip(range(own.steps), pair.batches(own.batch, 0), strict=False):
            measured = trainer.step(torch.from_numpy(every[batch]) * scale[:, None])
        dead[aux_relative], explained[aux_relative] = measured.dead, measured.variance_explained
    assert dead[False] > 0.5 and dead[True] < 0.6 * dead[False]
    assert min(explained[True]) > min(explained[False]) - 0.01
