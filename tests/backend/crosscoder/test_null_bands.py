"""Bands of null pairs, what lies beyond them, and the power of the rule, on numbers that are known."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder import null_bands
from backend.crosscoder.null_bands import beyond, beyond_of_nulls, nrn_band, power, share_bands
from backend.statistics.intervals import share_prediction


def features(nrn, *, nu=1.0, frequency=0.1, **more) -> pd.DataFrame:
    nrn = np.asarray(nrn, float)
    known = {"nrn_l2": nrn, "nu_eps": nu, "nu_r": nu, "frequency": frequency, "class": "shared"} | more
    return pd.DataFrame(known, index=range(len(nrn)))


def null(nrn, kind="same", number=0, **more) -> pd.DataFrame:
    return features(nrn, **more).assign(null=kind, number=number, null_id=f"{kind}{number}")


def test_the_band_leaves_half_a_percent_of_the_live_features_on_either_side():
    nrn = np.linspace(0.4, 0.6, 1000)
    band = nrn_band(null(nrn), "l2")
    assert (nrn < band.low).sum() == (nrn > band.high).sum() == 4  # the order statistics at or beyond 0.5 % and 99.5 %
    assert (band.kinds, band.n_features, band.n_trainings) == (("same",), 1000, 1)


def test_the_band_is_the_envelope_of_the_pairs_and_knows_no_dead_features_and_no_other_nulls():
    pairs = [null([0.45, 0.55]), null([0.3, 0.6], "noise"), null([0.0, 1.0], "noise", frequency=0.0)]
    band = nrn_band(pd.concat([*pairs, null([0.1, 0.9], "planted"), null([0.5], "frozen_decoder")]), "l2")
    assert (band.low, band.high, band.kinds) == (0.3, 0.6, ("same", "noise"))
    assert nrn_band(null([0.1, 0.9], "planted"), "l2") is None and nrn_band(null([]), "l2") is None


def test_beyond_counts_both_sides_and_those_that_latent_scaling_confirms():
    band = nrn_band(null([0.4, 0.6]), "l2")
    found = features(
        [0.1, 0.2, 0.5, 0.7, 0.95, 0.99, 0.99],
        nu=[np.inf, 2.0, 1.0, 0.5, 0.1, 0.0, 0.0],
        frequency=[0.1] * 6 + [0.0],
    )
    base, distilled = beyond(found, band, "l2")
    assert (base.n_live, base.n_beyond, base.n_confirmed) == (6, 2, 1)
    assert (distilled.n_live, distilled.n_beyond, distilled.n_confirmed) == (6, 3, 2)


def test_exchanging_the_models_exchanges_the_sides():
    rng = np.random.default_rng(0)
    nrn, nu = rng.random(400), np.exp(3 * rng.standard_normal(400))
    pair = null(rng.normal(0.5, 0.1, 300).clip(0, 1))
    base, distilled = beyond(features(nrn, nu=nu), nrn_band(pair, "l2"), "l2")
    mirrored = nrn_band(pair.assign(nrn_l2=1 - pair["nrn_l2"]), "l2")
    other_base, other_distilled = beyond(features(1 - nrn, nu=1 / nu), mirrored, "l2")
    assert (base.n_beyond, base.n_confirmed) == (other_distilled.n_beyond, other_distilled.n_confirmed)
    assert (distilled.n_beyond, distilled.n_confirmed) == (other_base.n_beyond, other_base.n_confirmed)


def test_a_training_of_several_is_held_against_the_others():
    wide, narrow = null([0.4, 0.6]), null([0.3, 0.5, 0.5], number=1)
    rows = beyond_of_nulls(pd.concat([wide, narrow]), "l2").set_index(["number", "side"])
    assert rows.loc[(1, "base only"), "n_beyond"] == 1 and rows.loc[(0, "distilled only"), "n_beyond"] == 1
    assert not rows["is_own_band"].any()
    alone = beyond_of_nulls(wide, "l2")
    assert alone["is_own_band"].all() and alone["n_beyond"].tolist() == [0, 0]
    assert beyond_of_nulls(null([0.1], "planted"), "l2").empty


def test_the_band_of_a_class_is_what_as_many_features_of_the_pooled_nulls_would_give():
    own = features([0.5] * 200, **{"class": ["shared"] * 150 + ["suspect"] * 50})
    pair = null([0.5] * 100, **{"class": ["shared"] * 90 + ["suspect"] * 10})
    rows = share_bands(own, pair, "class", ("shared", "suspect", "base only")).set_index("class")
    assert rows["n"].tolist() == [150, 50, 0] and set(rows["of"]) == {200}
    assert tuple(rows.loc["suspect", ["low", "high"]]) == pytest.approx(
        [200 * end for end in share_prediction(10, 100, 200, 0.99)]
    )
    assert rows.loc["base only", "low"] == 0 and 0 < rows.loc["base only", "high"] < 20
    without = share_bands(own, pair.iloc[:0], "class", ("shared",))
    assert without["low"].isna().all() and without["n"].tolist() == [150]


def test_power_is_the_share_of_planted_directions_that_the_rule_finds():
    band = nrn_band(null([0.4, 0.6]), "l2")
    planted = features([0.9, 0.9, 0.9, 0.55, 0.9], nu=[0.0, 0.0, 1.0, 0.0, np.nan]).assign(
        cosine=[null_bands.FOUND_COSINE, 0.3, 0.9, 0.9, 0.9], strength=[1.0, 1.0, 1.0, 2.0, 2.0]
    )
    rows = power(planted, band, "l2")
    assert rows["strength"].tolist() == [1.0, 2.0] and rows["n"].tolist() == [3, 2] and rows["found"].tolist() == [1, 0]
    assert (rows["low"] <= rows["share"]).all() and (rows["share"] <= rows["high"]).all()
