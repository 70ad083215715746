"""Cleanings against planted distractors, principal components against scikit-learn."""

import numpy as np
import pytest

from backend.feature_geometry.cleaning import Words, clean, discriminants, length_groups
from backend.feature_geometry.parallelograms import Pairs, measure
from backend.feature_geometry.word_spaces import CLEANINGS, FITTED_ON, NO_PCA

D = 60


def planted(*, distractor=9.0, classes=4, n=24, seed=0):
    """Words of classes whose outputs differ from inputs by the class's own direction, and of a vocabulary; all move
    along one direction by their length, which is drawn for each word."""
    rng = np.random.default_rng(seed)
    along, lengths = rng.standard_normal(D), rng.integers(3, 10, 600)
    along /= np.linalg.norm(along)
    vocabulary = rng.standard_normal((600, D)) + distractor * (lengths - 6.0)[:, None] * along
    made, first = {}, 0
    for name in range(classes):
        relation, own = 3 * rng.standard_normal(D), rng.standard_normal((n, D))
        of = rng.integers(3, 10, (2, n)) - 6.0
        inputs, outputs = (own + k * relation + distractor * of[k][:, None] * along for k in (0, 1))
        ids = np.arange(first, first := first + 2 * n)
        made[f"class {name}"] = Pairs(inputs, outputs, ids[:n], ids[n:], np.zeros(n, int))
    return Words(made, vocabulary, lengths, rng.permutation(600)), along


def mean_loss(words, cleaning, components=NO_PCA):
    seen = clean(words, cleaning, seed=0).seen("class 0", fitted_on="vocabulary", components=components)
    return measure(seen, shuffles=30, seed=0)


def test_projecting_distractors_out_removes_a_planted_one_and_leaves_the_planted_relation():
    words, along = planted()
    cleaned = mean_loss(words, "distractors")
    assert mean_loss(words, "centred").mean > 0.5 > 5 * cleaned.mean
    assert cleaned.ratio < 0.15
    space = clean(words, "distractors", seed=0).spaces[0]
    of_length = words.lengths - words.lengths.mean()
    assert abs(of_length @ space(words.vocabulary) / 600).max() < 0.3 * abs(of_length @ words.vocabulary / 600).max()
    pairs = words.classes["class 0"]
    relation = (pairs.outputs - pairs.inputs).mean(0)
    own = relation - relation @ along * along
    after = space(relation[None])[0] - space(np.zeros((1, D)))[0]
    assert after @ own / (np.linalg.norm(after) * np.linalg.norm(own)) > 0.85  # 11 of 60 directions are gone


def test_groups_have_equal_means_once_their_discriminants_are_gone():
    words, _ = planted(distractor=1.0)
    labels = length_groups(words.lengths)
    cleaned = words.vocabulary @ discriminants(words.vocabulary, labels, most=D).drop
    means = np.stack([cleaned[labels == one].mean(0) for one in np.unique(labels)])
    assert means == pytest.approx(np.broadcast_to(means[0], means.shape), abs=1e-8)


def test_without_shrinkage_discriminants_are_those_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5000)
    x = rng.standard_normal((20_000, 6)) @ rng.standard_normal((6, 6)) + 2 * rng.standard_normal((4, 6))[labels]
    found = discriminants(x, labels, most=3)
    reference = LinearDiscriminantAnalysis(solver="eigen").fit(x, labels).scalings_[:, :3]
    assert found.shrinkage < 0.01
    cosines = [
        abs(one @ other) / np.linalg.norm(one) / np.linalg.norm(other)
        for one, other in zip(found.keep.T, reference.T, strict=True)
    ]
    assert cosines == pytest.approx([1, 1, 1], abs=1e-3)


def test_discriminants_of_the_classes_are_those_of_the_other_half():
    words, _ = planted()
    cleaned = clean(words, "discriminants", seed=3)
    seen = cleaned.seen("class 1", fitted_on="classes", components=2)
    assert sorted(np.unique(seen.part)) == [0, 1] and seen.inputs.shape == (24, 2)
    pairs = words.classes["class 1"]
    own = cleaned.parts["class 1"] == 0
    changed = {**words.classes, "class 1": Pairs(
        np.where(own[:, None], 100 * pairs.inputs, pairs.inputs), pairs.outputs, pairs.input_ids, pairs.output_ids,
        pairs.part,
    )}  # fmt: skip
    again = clean(Words(changed, words.vocabulary, words.lengths, words.token_ids), "discriminants", seed=3)
    assert np.array_equal(again.spaces[0].matrix, cleaned.spaces[0].matrix)  # half 0 takes no part in its own
    assert not np.array_equal(again.spaces[1].matrix, cleaned.spaces[1].matrix)


def test_discriminants_find_no_parallelograms_among_random_words_of_many_dimensions():
    """Fitted on the pairs themselves they would: 40 pairs have any two classes apart in 60 dimensions."""
    rng = np.random.default_rng(0)
    made = {}
    for name in range(3):
        ids = np.arange(40) + 100 * name
        made[f"class {name}"] = Pairs(*rng.standard_normal((2, 40, 60)), ids, ids + 50, np.zeros(40, int))
    words = Words(made, rng.standard_normal((50, 60)), rng.integers(3, 9, 50), np.arange(50))
    seen = clean(words, "discriminants", seed=0).seen("class 0", fitted_on="classes", components=2)
    found = measure(seen, shuffles=100, seed=0)
    assert found.mean > 0.8 and found.ratio_interval.low < 1 < found.ratio_interval.high


@pytest.mark.parametrize("fitted_on", FITTED_ON)
def test_principal_components_are_those_of_scikit_learn(fitted_on):
    from sklearn.decomposition import PCA

    words, _ = planted()
    pairs = words.classes["class 2"]
    every = np.concatenate([side for one in words.classes.values() for side in (one.inputs, one.outputs)])
    population = {
        "class": np.concatenate([pairs.inputs, pairs.outputs]), "classes": every, "vocabulary": words.vocabulary
    }[fitted_on]  # fmt: skip
    reference = PCA(5, svd_solver="full").fit(population)
    centred = clean(words, "centred", seed=0).seen("class 2", fitted_on=fitted_on, components=5)
    raw = clean(words, "raw", seed=0).seen("class 2", fitted_on=fitted_on, components=5)
    assert abs(centred.inputs) == pytest.approx(abs(reference.transform(pairs.inputs)), abs=1e-8)
    assert abs(raw.inputs) == pytest.approx(abs(pairs.inputs @ reference.components_.T), abs=1e-8)


def test_more_components_than_there_are_give_nothing():
    words, _ = planted()
    assert clean(words, "discriminants", seed=0).seen("class 0", fitted_on="vocabulary", components=5) is None
    assert clean(words, "centred", seed=0).seen("class 0", fitted_on="vocabulary", components=D + 1) is None


@pytest.mark.parametrize("cleaning", CLEANINGS)
def test_ratios_do_not_change_under_rotation_and_scale(cleaning):
    words, _ = planted()
    q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((D, D)))

    def turn(x):
        return 2.5 * x @ q

    classes = {
        name: Pairs(turn(one.inputs), turn(one.outputs), one.input_ids, one.output_ids, one.part)
        for name, one in words.classes.items()
    }
    turned = Words(classes, turn(words.vocabulary), words.lengths, words.token_ids)
    assert mean_loss(turned, cleaning, 2).ratio == pytest.approx(mean_loss(words, cleaning, 2).ratio, rel=1e-6)
