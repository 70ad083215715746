"""Reasoning categories beside nulls: what a null is cannot be beyond it, what is planted is, and unknown stays so."""

import numpy as np
import pandas as pd
import pytest

from backend.cot.categories import CATEGORIES
from backend.crosscoder.null_bands import LEVEL
from backend.crosscoder.reasoning_bands import evidence, reasoning_bands
from backend.statistics.intervals import Interval, beyond, share_prediction, wilson

TAGS = list(CATEGORIES)
WORDS = ("self-reflection", "deductive")


def live(n: int, of_words: int, *, seed: int = 0, nrn: float = 0.5) -> pd.DataFrame:
    """`n` features, `of_words` of them of self-reflection."""
    rng = np.random.default_rng(seed)
    is_of = np.arange(n) < of_words
    return pd.DataFrame(
        {
            "feature": range(n),
            "nrn_l2": rng.normal(nrn, 0.05, n),
            "reasoning": np.where(is_of, "self-reflection", None),
            "reasoning_lift": np.where(is_of, rng.uniform(1, 4, n), np.nan),
        }
    )


def null(features: pd.DataFrame, kind: str, number: int = 0) -> pd.DataFrame:
    return features.assign(null=kind, number=number, null_id=f"{kind}{number}")


NONE = null(live(0, 0), "same")


def found(features: pd.DataFrame, nulls: pd.DataFrame) -> pd.DataFrame:
    return reasoning_bands(features, nulls, "reasoning", WORDS, norm="l2").set_index(["category", "quantity"])


def outside(rows: pd.DataFrame) -> dict:
    return {key: beyond(row.value, Interval(row.band_low, row.band_high)) for key, row in rows.iterrows()}


def test_a_dictionary_that_is_its_own_null_is_nowhere_beyond():
    own = live(400, 40)
    rows = found(own, pd.concat([null(own, "same"), null(own, "frozen_decoder")]))
    assert outside(rows) == {
        **{("self-reflection", quantity): False for quantity in ("share", "nrn", "lift")},
        ("deductive", "share"): False,
        ("deductive", "nrn"): None,
        ("deductive", "lift"): None,
    }
    first = rows.loc["self-reflection", "share"]
    assert (first.n, first.of, first.n_null, first.of_null, first.n_twin, first.of_twin) == (40, 400) * 3
    assert (first.low, first.high) == wilson(40, 400)
    assert (first.band_low, first.band_high) == share_prediction(40, 400, 400, LEVEL)


def test_features_of_one_model_that_fire_on_reasoning_words_alone_lie_beyond():
    """Planted: 60 features with NRN 0.95 and a lift of 40."""
    more = live(60, 60, nrn=0.95, seed=1).assign(reasoning_lift=40.0)
    rows = found(pd.concat([live(340, 34), more]), null(live(400, 40, seed=2), "noise"))
    said = outside(rows)
    assert all(said["self-reflection", quantity] for quantity in ("share", "nrn", "lift"))
    assert (rows.loc["self-reflection"]["value"] > rows.loc["self-reflection"]["band_high"]).all()


def test_the_band_is_the_widest_of_the_pairs_and_no_twin_is_in_it():
    own, pairs = (
        live(200, 20),
        [null(live(300, 3), "same"), null(live(300, 60), "noise"), null(live(300, 0), "noise", 1)],
    )
    rows = found(own, pd.concat([*pairs, null(live(100, 90), "frozen_decoder"), null(live(100, 90), "frozen_encoder")]))
    first = rows.loc["self-reflection", "share"]
    assert (first.band_low, first.band_high) == (
        share_prediction(3, 300, 200, LEVEL).low,
        share_prediction(60, 600, 200, LEVEL).high,
    )
    assert (first.n_null, first.of_null, first.n_twin, first.of_twin) == (63, 900, 90, 100)


def test_the_mean_of_as_many_features_of_a_null_lies_in_its_band_as_often_as_said():
    nulls = null(live(5000, 5000), "same")
    inside = [
        outside(found(live(10, 10, seed=seed), nulls))["self-reflection", "nrn"] is False for seed in range(2, 202)
    ]
    assert np.mean(inside) >= 0.96


def test_without_null_pairs_nothing_is_beyond_and_nothing_within():
    rows = found(live(50, 5), NONE)
    assert set(outside(rows).values()) == {None} and rows["band_low"].isna().all() and (rows["of_null"] == 0).all()
    assert rows.loc[("self-reflection", "share"), "value"] == pytest.approx(0.1)
    assert found(live(0, 0), NONE)["value"].isna().all()


def peaks(n: int, share: float) -> pd.DataFrame:
    """Of the first `share` one token is half of the strongest ones."""
    is_one = np.arange(n) < share * n
    return pd.DataFrame(
        {"feature": range(n), "counts": [[10, 5] if one else [9, 5] for one in is_one], "n_examples": 20}
    )


def test_a_twin_that_is_the_dictionary_has_as_much_evidence_and_unknown_tags_are_none():
    tags = pd.DataFrame({"feature": range(100), "top_category": [TAGS[0]] * 30 + [TAGS[1]] * 20 + [None] * 50})
    own = peaks(100, 0.4)
    rows = evidence(tags, own, own.merge(tags, on="feature"), TAGS).set_index("evidence")
    assert rows["n"].to_dict() == rows["twin_n"].to_dict() and (rows["of"] == 100).all()
    assert rows.loc[["token", "tag", TAGS[0], TAGS[1]], "n"].tolist() == [40, 50, 30, 20]
    assert (rows.loc["token", "low"], rows.loc["token", "high"]) == wilson(40, 100)
    empty = evidence(tags, own, own.merge(tags, on="feature").head(0), TAGS)
    assert empty["twin_share"].isna().all() and (empty["twin_of"] == 0).all()
