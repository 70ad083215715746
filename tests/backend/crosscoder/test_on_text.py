"""Features on one text: what is ranked, summed and named, on codes small enough to count by hand."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.on_text import (
    NoFeatures,
    TextCodes,
    by_chunk,
    by_token,
    contributions,
    firing_at,
    lifts,
    named,
    ranked,
    specific,
    summary,
)

TEXT = TextCodes(
    tokens=["<", "P", "a", "b", "c", "d", "e"],
    n_prompt=2,
    codes=pd.DataFrame(
        {"position": [1, 2, 3, 3, 5, 6], "feature": [9, 4, 4, 7, 7, 4], "code": [8.0, 1.0, 3.0, 2.0, 6.0, 5.0]}
    ),
    chunks=pd.DataFrame({"chunk_id": ["k0", "k1"], "number": [1, 2], "token_start": [2, 4], "token_end": [4, 7]}),
)


def test_a_mean_is_over_all_tokens_of_the_text_and_none_of_the_prompt():
    found = summary(TEXT)
    assert found.to_dict("list") == {
        "feature": [4, 7],
        "mean": [9 / 5, 8 / 5],
        "largest": [5.0, 6.0],
        "n_fired": [3, 2],
    }


def test_signed_codes_are_ranked_by_their_size_and_keep_their_sign():
    """Of a linear dictionary."""
    signed = TEXT.codes.assign(code=[8.0, -1.0, -3.0, 2.0, 6.0, -5.0])
    text = TextCodes(TEXT.tokens, TEXT.n_prompt, signed, TEXT.chunks)
    assert summary(text).equals(summary(TEXT))
    assert firing_at(text, 3, 4)[["feature", "code"]].to_numpy().tolist() == [[4, -3.0], [7, 2.0]]


def test_without_a_prompt_the_first_token_does_not_count():
    text = TextCodes(["a", "b", "c"], 0, pd.DataFrame({"position": [1], "feature": [0], "code": [3.0]}), TEXT.chunks)
    assert text.n_coded == 2 and summary(text)["mean"].tolist() == [1.5]
    empty = TextCodes(["a"], 0, text.codes[:0], TEXT.chunks)
    assert empty.n_coded == 0 and summary(empty).empty


def test_features_are_ranked_by_mean_or_from_either_end_of_nrn():
    found, nrn = summary(TEXT), {4: 0.2, 7: 0.9}
    assert [ranked(found, nrn, how, 5) for how in ("mean", "distilled", "base")] == [[4, 7], [7, 4], [4, 7]]
    assert ranked(found, nrn | {4: np.nan}, "base", 5) == [7] and ranked(found, nrn, "mean", 1) == [4]


def test_a_lift_is_a_rate_here_over_the_rate_elsewhere_and_few_tokens_have_none():
    """Feature 4 fires on 3 of 5 tokens here and 30 of 300 elsewhere; 7 on two, fewer than have a rate."""
    found = lifts(summary(TEXT), TEXT, pd.Series({4: 0.1, 7: 0.0}), 300).set_index("feature")
    assert found.loc[4, "lift"] == pytest.approx((3 / 5) / (30.5 / 301)) and np.isnan(found.loc[7, "lift"])
    nowhere = lifts(summary(TEXT), TEXT, pd.Series({4: 0.0, 7: 0.0}), 300).set_index("feature")
    assert np.isfinite(nowhere.loc[4, "lift"]) and nowhere.loc[4, "lift"] > found.loc[4, "lift"]


def test_what_is_specific_leads_and_what_fires_everywhere_does_not():
    """By mean code the feature that fires on every token leads; by lift the one that fires here alone."""
    tokens = [f"t{k}" for k in range(21)]
    everywhere = pd.DataFrame({"position": range(1, 21), "feature": 0, "code": 9.0})
    here = pd.DataFrame({"position": range(1, 5), "feature": 1, "code": 1.0})
    rare = pd.DataFrame({"position": [5], "feature": [2], "code": [5.0]})
    text = TextCodes(tokens, 1, pd.concat([everywhere, here, rare]), TEXT.chunks)
    found = summary(text)
    assert ranked(found, {}, "mean", 3)[0] == 0
    assert specific(lifts(found, text, pd.Series({0: 0.9, 1: 0.01, 2: 0.001}), 5000), 3) == [1, 0, 2]


def test_tokens_and_chunks_hold_the_same_activation():
    tokens = by_token(TEXT, [4, 7], with_prompt=False)
    assert tokens.to_dict("list") == {
        "feature": [4, 4, 7, 7, 4],
        "place": [2, 3, 3, 5, 6],
        "code": [1.0, 3.0, 2.0, 6.0, 5.0],
    }
    assert (
        by_token(TEXT, [9], with_prompt=True)["place"].tolist() == [1] and by_token(TEXT, [9], with_prompt=False).empty
    )
    chunks = by_chunk(TEXT, [4, 7])
    assert chunks["place"].tolist() == [1, 1, 2, 2] and chunks["n_fired"].tolist() == [2, 1, 1, 1]
    assert chunks["code"].tolist() == pytest.approx([4 / 2, 2 / 2, 5 / 3, 6 / 3])
    assert (chunks["code"] * chunks["n_tokens"]).sum() == pytest.approx(tokens["code"].sum())
    assert by_chunk(TEXT, [5]).empty


def test_what_a_feature_adds_is_code_times_decoder_norm_of_each_model():
    norms = pd.DataFrame({"base": [1.0, 0.0], "distilled": [2.0, 3.0]}, index=[4, 7])
    found = contributions(by_token(TEXT, [4, 7], with_prompt=False), norms)
    assert found["base"].tolist() == [1, 3, 0, 0, 5] and found["distilled"].tolist() == [2, 6, 6, 18, 10]


def test_what_fires_at_a_place_comes_largest_first():
    assert firing_at(TEXT, 3, 4).to_dict("list") == {"feature": [4, 7], "code": [3.0, 2.0], "n_fired": [1, 1]}
    assert firing_at(TEXT, 4, 7)["feature"].tolist() == [7, 4] and firing_at(TEXT, 0, 1).empty
    assert [TEXT.chunk_at(position) for position in (1, 2, 6)] == [None, "k0", "k1"]


def test_a_set_is_named_by_numbers():
    assert named(" 3, 12;3\n4 ", 20) == [3, 12, 4] and named("", 20) == []
    for words, why in (
        ("3, 20", "features 0 to 19"),
        ("-1", "no feature"),
        ("x" * 99, "no feature"),
        ("²", "no feature"),
    ):
        with pytest.raises(NoFeatures, match=why):
            named(words, 20)
    with pytest.raises(NoFeatures, match="at most 60"):
        named(" ".join(map(str, range(61))), 100)
