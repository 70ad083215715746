"""Counts of features: every one is counted once, by the rule that gives the classes."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.class_counts import CLASSES, beyond, class_counts
from backend.crosscoder.diff import classify
from backend.statistics.intervals import wilson


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    nrn, nu_eps, nu_r = rng.random(600), np.exp(rng.normal(0, 3, 600)), np.exp(rng.normal(0, 3, 600))
    nrn[:5], nu_eps[5:60] = np.nan, np.nan
    return pd.DataFrame(
        {"nrn_l1": nrn, "nrn_l2": nrn, "nu_eps": nu_eps, "nu_r": nu_r, "class": classify(nrn, nu_eps, nu_r)}
    )


def test_every_feature_of_a_known_class_is_counted_once_with_its_interval(features):
    counts = class_counts(features["class"])
    assert (
        counts["class"].tolist() == list(CLASSES)
        and counts["n"].sum() == counts["of"][0] == features["class"].notna().sum()
    )
    assert counts["share"].sum() == pytest.approx(1) and tuple(counts.loc[1, ["low", "high"]]) == wilson(
        counts["n"][1], counts["of"][1]
    )


def test_at_the_rules_own_bound_the_confirmed_are_the_classes(features):
    rows = beyond(features, norm="l2", bounds=(1 / 6,)).set_index("side")
    for side in ("base only", "distilled only"):
        assert rows.loc[side, "n"] == (features["class"] == side).sum()
    assert (rows["of"] - rows["n"]).sum() == (features["class"] == "suspect").sum()


def test_a_wider_bound_holds_what_the_narrower_ones_do(features):
    rows = beyond(features, norm="l1")
    assert rows["bound"].tolist() == [0.3, 0.3, 1 / 6, 1 / 6, 0.1, 0.1]
    for _, part in rows.groupby("side"):
        assert part["n_beyond"].is_monotonic_decreasing and part["n"].is_monotonic_decreasing
        assert (part["of"] < part["n_beyond"]).all()  # some were never measured
    assert (
        rows["n_beyond"][0] == (features["nrn_l1"] < 0.3).sum()
        and rows["n_beyond"][1] == (features["nrn_l1"] > 0.7).sum()
    )


def test_where_nothing_is_known_no_share_is():
    nothing = pd.DataFrame({"nrn_l1": [np.nan], "nu_eps": [np.nan], "nu_r": [np.nan], "class": [None]})
    assert class_counts(nothing["class"])["share"].isna().all()
    rows = beyond(nothing, norm="l1")
    assert (rows["n_beyond"] == 0).all() and rows["share"].isna().all() and math.isnan(rows["low"][0])
