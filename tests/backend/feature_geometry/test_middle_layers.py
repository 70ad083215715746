"""Middle layers against the others: planted contrasts are found, intervals hold what they say, chance is no finding."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backend.feature_geometry.middle_layers import (
    Spread,
    answer,
    beyond,
    comparable,
    contrast,
    is_middle,
    level,
    mean_size,
    spread,
)

N_LAYERS, LAYERS = 30, range(0, 30, 3)


def sizes(rng, step=0.0, seeds=3, sd=0.1, level=1.0):
    return {layer: list(level + step * is_middle(layer, N_LAYERS) + sd * rng.normal(size=seeds)) for layer in LAYERS}


def test_thirds_are_of_the_depth():
    assert [layer for layer in range(9) if is_middle(layer, 9)] == [3, 4, 5]
    assert [layer for layer in LAYERS if is_middle(layer, 30)] == [12, 15, 18]
    assert [layer for layer in range(4) if is_middle(layer, 4)] == [2]


def test_the_contrast_is_the_difference_of_means_with_the_t_interval_of_the_pooled_spread():
    own = sizes(np.random.default_rng(0), step=0.5)
    of = spread(list(own.values()))
    middle = [np.mean(own[layer]) for layer in LAYERS if is_middle(layer, 30)]
    outer = [np.mean(own[layer]) for layer in LAYERS if not is_middle(layer, 30)]
    found = contrast(own, N_LAYERS, of)
    assert of.df == 20 and of.sd == pytest.approx(np.sqrt(np.mean([np.var(seeds, ddof=1) for seeds in own.values()])))
    assert found.value == pytest.approx(np.mean(middle) - np.mean(outer))
    half = stats.t.ppf(0.975, 20) * of.sd * np.sqrt((1 / len(middle) + 1 / len(outer)) / 3)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
    assert found.is_above and (found.n_middle, found.n_outer) == (3, 7)


def test_intervals_cover_and_the_detectable_contrast_is_detected_as_often_as_said():
    """Of 600 studies without a contrast one in twenty is claimed; of as many with the detectable one, four in five."""
    rng = np.random.default_rng(1)
    size = contrast(sizes(rng), N_LAYERS, Spread(0.1, 20)).detectable
    claimed = {0.0: 0, size: 0}
    for step in claimed:
        for _ in range(600):
            own = sizes(rng, step)
            found = contrast(own, N_LAYERS, spread(list(own.values())))
            claimed[step] += found.is_above or found.is_below
    assert claimed[0.0] / 600 == pytest.approx(0.05, abs=0.03)
    assert claimed[size] / 600 == pytest.approx(0.8, abs=0.06)


def test_what_a_null_does_too_is_not_beyond_it():
    rng = np.random.default_rng(2)
    own, null = sizes(rng, 0.5), sizes(rng, 0.5, seeds=1, level=3.0)
    of = spread([*own.values(), *null.values()])
    assert of.df == 20, "one seed says nothing of the spread"
    assert contrast(own, N_LAYERS, of).is_above and contrast(null, N_LAYERS, of).is_above
    shown = beyond(own, null, N_LAYERS, of)
    assert shown.low < 0 < shown.high and (shown.n_middle, shown.n_outer) == (3, 7)
    assert beyond(own, sizes(rng, 0.0, seeds=1), N_LAYERS, of).is_above
    fewer = {layer: null[layer] for layer in (0, 12, 27)}
    assert beyond(own, fewer, N_LAYERS, of).value == pytest.approx(
        np.mean(own[12]) - np.mean(own[0]) / 2 - np.mean(own[27]) / 2 - null[12][0] + null[0][0] / 2 + null[27][0] / 2
    )


def test_without_two_seeds_there_is_no_interval_and_without_a_middle_no_contrast():
    own = sizes(np.random.default_rng(3), seeds=1)
    assert spread(list(own.values())) is None
    found = contrast(own, N_LAYERS, None)
    assert (found.low, found.high, found.detectable) == (None, None, None) and not (found.is_above or found.is_below)
    assert contrast({0: [1.0], 27: [2.0]}, N_LAYERS, None) is None
    assert mean_size({0: [1.0], 27: [2.0]}, None) == (1.5, None, None)


def test_the_mean_over_layers_has_the_interval_of_its_seeds():
    own, of = sizes(np.random.default_rng(4)), Spread(0.1, 20)
    value, low, high = mean_size(own, of)
    assert value == pytest.approx(np.mean(list(own.values())))
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 20) * 0.1 / np.sqrt(30))


def test_the_level_beside_a_null_is_the_mean_difference_over_shared_layers_with_its_interval():
    own, null, of = sizes(np.random.default_rng(6)), {0: [0.5], 12: [0.1], 29: [9.0]}, Spread(0.1, 20)
    value, low, high = level(own, null, of)
    assert value == pytest.approx((np.mean(own[0]) - 0.5 + np.mean(own[12]) - 0.1) / 2)
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 20) * 0.1 * np.sqrt(2 / 3 + 2) / 2)
    assert level(own, {29: [1.0]}, of) is None


def test_layers_of_another_l0_are_not_compared():
    assert comparable({0: 32.0, 3: 31.0, 6: 12.0}) == {0, 3} and comparable({}) == set()
    rng = np.random.default_rng(5)
    rows = [
        {"trained_on": name, "layer": layer, "l0": 10.0 if layer == 27 else 32.0, "size": value}
        for name, own in (("model", sizes(rng, 0.5)), ("gaussian", sizes(rng, 0.0, seeds=1)))
        for layer, seeds in own.items()
        for value in seeds
    ]
    rows[0]["size"] = np.nan
    found = answer(pd.DataFrame(rows), N_LAYERS)
    assert found.contrast.n_outer == 6 and found.n_layers_left_out == 2 and found.n_unknown == 1
    assert found.nulls["gaussian"].beyond.is_above and not found.nulls["gaussian"].contrast.is_above
    assert answer(pd.DataFrame(rows).query("trained_on == 'gaussian'"), N_LAYERS).contrast is None


@pytest.mark.parametrize(
    ("shape", "peak"), [(lambda layer: -abs(layer - 13.5), True), (lambda layer: layer**0.5, False)]
)
def test_a_tail_that_grows_with_depth_has_no_peak_in_the_middle(shape, peak):
    rows = [
        {"trained_on": "model", "layer": layer, "l0": 32.0, "size": shape(layer) + noise}
        for layer in range(0, 30, 3)
        for noise in (-0.01, 0.0, 0.01)
    ]
    found = answer(pd.DataFrame(rows), 30)
    assert found.contrast.is_above and found.earlier.is_above and found.is_peak is peak
    assert found.later.is_above is peak and found.later.is_below is not peak
    assert (found.earlier.n_middle, found.earlier.n_outer, found.later.n_outer) == (3, 4, 3)
