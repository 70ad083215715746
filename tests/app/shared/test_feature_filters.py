"""Filters of features: any of them, as one short text that a link can hold."""

import numpy as np
import pandas as pd
import pytest

from app.shared.feature_filters import COLUMNS, NOT_KNOWN, Between, as_text, nothing, parse, passing
from backend.crosscoder.class_counts import scaling_share


@pytest.fixture
def features():
    return pd.DataFrame(
        {
            "feature": range(5),
            "nrn_l1": [0.02, 0.5, 0.97, np.nan, 0.95],
            "class": ["base only", "shared", "distilled only", None, "suspect"],
            "rdn_l2": [0.0, 1.0, np.inf, np.nan, 20.0],
            "label": ["Wait, doubt", "digits", None, None, "wait: <b>again</b>"],
        }
    )


def kept(features, **filters):
    return features["feature"][passing(features, {name.rstrip("_"): given for name, given in filters.items()})].tolist()


def test_every_filter_is_read_back_as_it_was_written():
    filters = {
        "nrn_l1": Between(0.9, 1),
        "frequency": Between(0.001),
        "nu_eps": Between(high=-0.5),
        "class": ("distilled only", "none"),
        "label": "a,b|c:d..e&f=g%",
    } | {name: nothing(name) for name in ("nrn_l2", "top_category")}
    text = as_text(filters)
    assert parse(text) == filters and text.startswith("nrn_l1:0.9..1,frequency:0.001..,")
    assert {name: nothing(name) for name in COLUMNS} == parse(as_text({name: nothing(name) for name in COLUMNS}))


@pytest.mark.parametrize(
    "text", ["", "nrn_l1", "nrn_l1:0.5", "nrn_l1:nan..", "nrn_l1:..inf", "sha256:0..1", "feature:0..1,feature:0..2"]
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(ValueError):
        parse(text)


def test_bounds_are_included_and_unknown_passes_none_of_them(features):
    assert kept(features, nrn_l1=Between(0.5, 0.95)) == [1, 4] and kept(features, nrn_l1=Between(high=1)) == [
        0,
        1,
        2,
        4,
    ]
    assert kept(features, rdn_l2=Between(20)) == [2, 4]  # an infinite ratio is known


def test_choices_can_ask_for_what_is_not_known(features):
    assert kept(features, class_=("shared", NOT_KNOWN)) == [1, 3]


def test_words_are_looked_for_within_labels_as_they_stand(features):
    assert (
        kept(features, label="WAIT") == [0, 4]
        and kept(features, label=".") == []
        and kept(features, label="<b>") == [4]
    )


def test_filters_are_joined_and_empty_ones_let_everything_pass(features):
    assert kept(features, label="wait", nrn_l1=Between(0.5)) == [4]
    assert kept(features, label="", class_=(), nrn_l1=Between()) == [0, 1, 2, 3, 4]


def test_the_share_of_a_scaling_lies_on_the_scale_of_nrn():
    shares = scaling_share(pd.Series([0.0, 1.0, np.inf, 3.0, -0.1, -5.0, np.nan]))
    assert shares[:6].tolist() == [1.0, 0.5, 0.0, 0.25, 1.0, 0.0] and np.isnan(shares[6])
