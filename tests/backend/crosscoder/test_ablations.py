"""Zeroing features as stored codes say equals zeroing them in the models; means come with intervals over problems and
random sets.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.crosscoder.ablations import (
    CodedText,
    clustered_mean,
    drawn_targets,
    taken_out,
    target_changes,
    top_features,
    top_firing,
)
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.feature_interventions import FeatureIntervention
from backend.models.edits import encode
from tests.conftest import tuned

D_MODEL, N_FEATURES, LAYER = 64, 40, 1
TOKENS = tuple(torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(2)).tolist())


@pytest.fixture(scope="module")
def pair(tiny):
    """A base model, and another that was made from it."""
    base = tiny("llama")
    return base, tuned(base)


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    draw = torch.Generator().manual_seed(4)
    return Dictionary(
        kind="batchtopk",
        encoder=0.2 * torch.randn(2, D_MODEL, N_FEATURES, generator=draw),
        encoder_bias=torch.randn(N_FEATURES, generator=draw),
        decoder=0.3 * torch.randn(2, N_FEATURES, D_MODEL, generator=draw),
        decoder_bias=torch.randn(2, D_MODEL, generator=draw),
        scale=torch.tensor([0.8, 1.3]),
        threshold=torch.tensor(0.5),
        k=6,
        weighted=False,
        subtract=False,
    )


@pytest.fixture(scope="module")
def text(pair, dictionary) -> CodedText:
    """With the codes of all its tokens but the first."""
    codes = dictionary.encode(torch.stack([encode(one, TOKENS, layers=[LAYER]).residual(LAYER) for one in pair], 1)[1:])
    rows, features = codes.nonzero(as_tuple=True)
    return CodedText("c1", TOKENS, (9, 20), (rows + 1).numpy(), features.numpy(), codes[rows, features].numpy())


@pytest.mark.parametrize("place", [0, 1])
def test_it_is_the_zeroing_of_features_in_the_model(pair, dictionary, text, place):
    sets = [(3, 11, 20), (7,)]
    found = target_changes(pair[place], dictionary, place, LAYER, text, sets)
    encoded = encode(pair[place], TOKENS[:20], layers=[LAYER])
    own = encoded.base_logits([8, 19]).double()
    norms = encoded.residual(LAYER).double().norm(dim=1)
    for number, features in enumerate(sets):
        intervention = FeatureIntervention(dictionary, place, LAYER, "zero", features)
        zeroed = encoded.logits([intervention.everywhere(20, pair[1 - place])], [8, 19])[0].double()
        for measure, (after, before) in enumerate(((zeroed, own), (zeroed.log_softmax(1), own.log_softmax(1)))):
            wanted = [float(after[row, TOKENS[t]] - before[row, TOKENS[t]]) for row, t in enumerate(text.targets)]
            assert found.change[number, measure] == pytest.approx(wanted, abs=1e-4)
            assert found.before[measure] == pytest.approx(
                [float(before[row, TOKENS[t]]) for row, t in enumerate(text.targets)], abs=1e-4
            )
        here = np.isin(text.features, features) & (text.positions < 20)
        out = np.zeros((20, D_MODEL))
        for position, feature, code in zip(text.positions[here], text.features[here], text.codes[here], strict=True):
            out[position] += code * (dictionary.decoder[place, feature] / dictionary.scale[place]).double().numpy()
        assert found.removed[number] == pytest.approx(np.mean(np.linalg.norm(out[1:], axis=1) / norms[1:].numpy()))
    assert np.abs(found.change[0]).max() > 1e-3


def test_what_is_taken_out_of_the_narrower_of_two_models_has_its_width(dictionary, text):
    """Negative codes, of a linear dictionary, are taken out too."""
    own = torch.arange(D_MODEL) < torch.tensor([40, D_MODEL])[:, None]
    narrow = replace(
        dictionary,
        encoder=dictionary.encoder * own[:, :, None],
        decoder=dictionary.decoder * own[:, None],
        decoder_bias=dictionary.decoder_bias * own,
        widths=(40, D_MODEL),
    )
    signed = replace(text, codes=-text.codes)
    positions, vectors = taken_out(narrow, 0, signed, (3, 11), 20)
    assert vectors.shape == (len(positions), 40)
    expected = np.zeros((20, 40))
    for position, feature, code in zip(signed.positions, signed.features, signed.codes, strict=True):
        if feature in (3, 11) and position < 20:
            expected[position] += code * narrow.raw_rows(0)[feature].double().numpy()
    np.testing.assert_allclose(vectors.numpy(), expected[list(positions)], rtol=1e-5)


def test_what_does_not_fire_changes_nothing(pair, dictionary, text):
    silent = sorted(set(range(N_FEATURES)) - set(text.features.tolist()))
    found = target_changes(pair[1], dictionary, 1, LAYER, text, [tuple(silent), ()])
    assert not found.change.any() and not found.removed.any()


def test_later_tokens_do_not_count(pair, dictionary, text):
    cut = replace(text, token_ids=TOKENS[:21])
    of = [target_changes(pair[0], dictionary, 0, LAYER, one, [(3, 11)]) for one in (text, cut)]
    assert (of[0].change == of[1].change).all()


def test_targets_are_drawn_text_by_text():
    targets = {f"c{k}": list(range(1, 2 + k)) for k in range(12)}
    drawn = drawn_targets(targets, 15, seed=1)
    assert drawn == drawn_targets(dict(reversed(targets.items())), 15, seed=1) != drawn_targets(targets, 15, seed=2)
    assert sum(map(len, drawn.values())) == 15 and all(
        set(own) <= set(targets[name]) - {1} for name, own in drawn.items()
    )
    assert max(map(len, drawn.values())) == 4
    everything = drawn_targets(targets, 1000, seed=1)
    assert set(everything) == set(targets) - {"c0"}  # nothing is known of a text's first two tokens
    assert drawn_targets({}, 5, seed=1) == {}


def test_top_features_are_the_most_frequent_of_all_that_are_also_the_distilled_models():
    frequency = np.array([0.9, 0.8, 0.7, 0.7, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    strength = np.array([1, 1, 2, 3, 1, np.nan, np.nan, np.nan, np.nan, np.nan])
    nrn = np.array([0.9, 0.5, 0.9, 0.6, np.nan, 0.9, 0.9, 0.9, 0.9, 0.9])
    tops = [top_features(frequency, strength, nrn, above=0.5, percent=percent) for percent in (5, 10, 20, 30, 40, 100)]
    assert tops == [
        (0,),
        (0,),
        (0,),
        (0, 3),
        (0, 2, 3),
        (0, 2, 3),
    ]  # of two that fire as often, the stronger; never what never fires
    assert top_features(frequency, strength, nrn, above=0.9, percent=100) == ()


def test_of_those_that_fire_k_counts_what_fires_and_zeroes_different_sets():
    """Planted: 5 of 1,000 features fire, so that from 0.5 % on the published ranking zeroes the same ones."""
    frequency, nrn = np.zeros(1000), np.full(1000, 0.9)
    frequency[:5], nrn[1] = [0.9, 0.8, 0.7, 0.2, 0.1], 0.2
    strength = np.where(frequency > 0, 1.0, np.nan)
    percents = (0.5, 2, 5, 20, 40, 60, 100)
    of_all = [top_features(frequency, strength, nrn, above=0.5, percent=percent) for percent in percents]
    assert set(of_all) == {(0, 2, 3, 4)}
    of_firing = [top_firing(frequency, strength, nrn, above=0.5, percent=percent) for percent in percents]
    assert of_firing == [(0,), (0,), (0,), (0,), (0,), (0, 2), (0, 2, 3, 4)]
    assert top_firing(np.zeros(4), np.full(4, np.nan), np.ones(4), above=0.5, percent=100) == ()


def test_a_mean_has_an_interval_over_whole_problems():
    counts = np.array([2, 2, 1, 1])
    mean, (low, high) = clustered_mean(np.array([2.0, 2.0, 3.0, 3.0]), counts, [["p", "p", "q", "q"]], seed=1)
    assert mean == pytest.approx(10 / 6) and (low, high) == (1, 3)  # either problem twice, or both
    alike, interval = clustered_mean(counts * 0.5, counts, [["p", "p", "q", "q"]], seed=1)
    assert alike == 0.5 and interval == (0.5, 0.5)
    assert all(map(math.isnan, clustered_mean(counts * 1.0, counts, [["p"] * 4], seed=1)[1]))
    assert math.isnan(clustered_mean(np.array([]), np.array([]), [[]], seed=1)[0])


def test_random_sets_widen_the_interval():
    rng = np.random.default_rng(0)
    by_set = rng.normal(size=8)
    turns = np.arange(80) % 8
    sums, counts = by_set[turns], np.ones(80)
    problems = np.arange(80) // 8  # each problem meets every set: over problems nothing varies
    _, narrow = clustered_mean(sums, counts, [problems], seed=1)
    _, wide = clustered_mean(sums, counts, [problems, turns], seed=1)
    assert narrow.high - narrow.low < 1e-9 and wide.high - wide.low > by_set.std()
