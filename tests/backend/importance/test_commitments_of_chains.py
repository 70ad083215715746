"""Rows of a chain become curves, each with its one change; over chains they are compared pair by pair."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.importance import commitment
from backend.importance.commitment import (
    COMMITS,
    CORRECT,
    DRAWN,
    EVERY,
    FORCED,
    LOG,
    OWN,
    TEXT,
    TURNS_AWAY,
    UNKNOWN,
    UNMEASURED,
)
from backend.statistics.commitment import change_of_counts, share

CHAIN = pd.Series({"cot_id": "c", "problem_id": "p", "role": "base", "model_id": "a", "cluster": "7", "n_chunks": 5})


def row(n_read, cluster, n, *, kind=TEXT, is_correct=None):
    return {"cot_id": "c", "n_read": n_read, "kind": kind, "cluster": cluster, "is_correct": is_correct, "n": n}


OUTCOMES = pd.DataFrame(
    [
        row(0, "3", 8, is_correct=False),
        row(0, None, 2),
        row(1, "3", 7, is_correct=False),
        row(1, "7", 1, is_correct=True),
        row(2, "7", 9, is_correct=True),
        row(2, "5", 1, is_correct=False),
        row(4, "7", 10, is_correct=True),
        row(0, "5", 5, kind=FORCED, is_correct=False),
        row(3, "7", 5, kind=FORCED, is_correct=True),
    ]
)


def test_what_counts_as_an_outcome_is_counted_with_the_followed_one_first():
    own = commitment.counts_along(OUTCOMES, TEXT, CHAIN, OWN)
    assert own.tolist() == [[0, 8], [1, 7], [9, 1], [0, 0], [10, 0]]
    every = commitment.counts_along(OUTCOMES, TEXT, CHAIN, EVERY)
    assert every.tolist() == [[0, 8, 0], [1, 7, 0], [9, 0, 1], [0, 0, 0], [10, 0, 0]]
    assert commitment.counts_along(OUTCOMES, TEXT, CHAIN, CORRECT).tolist() == own.tolist()
    assert commitment.counts_along(OUTCOMES, FORCED, CHAIN, EVERY)[0].tolist() == [0, 0, 5]


def test_the_change_is_that_of_the_counts_and_commits_where_the_own_answer_rises():
    change = commitment.change_of(OUTCOMES, TEXT, CHAIN, OWN)
    assert change == change_of_counts(np.array([[0, 8], [1, 7], [9, 1], [0, 0], [10, 0]]))
    assert change.likeliest == (1, 2) and commitment.state_of(change) == COMMITS
    other = commitment.change_of(OUTCOMES, TEXT, CHAIN.replace("7", "3"), OWN)
    assert commitment.state_of(other) == TURNS_AWAY and other.likeliest == change.likeliest


def test_a_chain_that_gives_no_answer_has_no_curve_but_that_of_correctness():
    silent = pd.Series({**CHAIN, "cluster": None})
    assert commitment.change_of(OUTCOMES, TEXT, silent, OWN) is None
    assert commitment.change_of(OUTCOMES, TEXT, silent, EVERY) is None
    assert commitment.points(OUTCOMES, silent, OWN).empty
    assert commitment.change_of(OUTCOMES, TEXT, silent, CORRECT).is_known


def test_points_have_the_posterior_of_their_share_and_count_those_without_an_answer():
    points = commitment.points(OUTCOMES, CHAIN, OWN).set_index(["curve", "n_read"])
    first, second = points.loc[TEXT, 0], points.loc[TEXT, 1]
    assert (first["k"], first["n"], first["n_without"]) == (0, 8, 2)
    assert (second["share"], second["low"], second["high"]) == tuple(vars(share([1, 7])).values())
    assert points.index.tolist() == [(TEXT, 0), (TEXT, 1), (TEXT, 2), (TEXT, 4), (FORCED, 0), (FORCED, 3)]
    assert commitment.points(OUTCOMES, CHAIN, EVERY).equals(points.reset_index())


def readings(values, *, model="a", layer=29, is_model=True, lens="logit"):
    return pd.DataFrame(
        {
            "cot_id": "c",
            "n_read": range(len(values)),
            "model_id": model,
            "lens": lens,
            "layer": layer,
            "is_model": is_model,
            "logprob": values,
            "other_logprob": [math.nan] * len(values),
        }
    )


def test_log_odds_tell_apart_what_draws_would_and_nothing_below():
    found = commitment.scaled(readings([-40.0, -20.0, np.log(0.5), 0.0, -9.0]), 4, DRAWN)
    assert found[0] == pytest.approx(found[1], abs=1e-6) and found[2] == pytest.approx(0)
    assert found[3] == pytest.approx(-found[0]) and len(found) == 4
    sure = readings([-8.0, -9.5, -28.0, -18.0, -30.0, 0.0, -0.1])
    assert not commitment.reading_change(sure, 6, LOG).is_known
    change = commitment.reading_change(sure, 6, DRAWN)
    assert commitment.state_of(change) == COMMITS and change.likeliest == (4, 5)


def test_what_a_lens_comes_to_hold_shows_in_the_log_probability_alone():
    middle = readings([-14.0, -15.0, -14.5, -8.0, -6.0, -5.5, -5.0])
    assert commitment.state_of(commitment.reading_change(middle, 6, LOG)) == COMMITS
    assert commitment.state_of(commitment.reading_change(middle, 6, DRAWN)) == UNKNOWN


def test_what_the_last_chunk_does_takes_no_part_in_the_change_of_a_reading():
    early = readings([-9.0, -9.5, -1.0, -0.5, -0.4, -20.0])
    change = commitment.reading_change(early, 5, DRAWN)
    assert change.likeliest == (1, 2) and change.n_points == 5
    assert commitment.reading_change(early, 5, DRAWN, "other_logprob") is None


def test_over_chains_each_curve_has_its_state_and_the_chunk_that_commits():
    chains = pd.DataFrame([CHAIN.to_dict(), {**CHAIN, "cot_id": "d"}])
    own = readings([-9.0, -9.5, -1.0, -0.5, -0.4, -0.1])
    flat = readings([-3.0] * 6, model="b", layer=9)
    lens = readings([-0.1, -0.05, -0.06, -9.0, -9.9, -9.4], layer=15, is_model=False)
    found = commitment.commitments(chains, OUTCOMES, pd.concat([own, flat, lens]), OWN, DRAWN)
    of = found.set_index(["cot_id", "curve"])
    assert (of.loc[("c", TEXT), "state"], of.loc[("c", TEXT), "chunk"]) == (COMMITS, 2)
    assert of.loc[("c", "own_model"), "chunk"] == 2
    assert of.loc[("c", "other_model"), "state"] == UNKNOWN and math.isnan(of.loc[("c", "other_model"), "chunk"])
    assert of.loc[("c", "own_lens"), "state"] == TURNS_AWAY
    assert set(found.loc[found["cot_id"] == "d", "state"]) == {UNMEASURED}
    pairs = [(one.first, one.second) for one in commitment.all_compared(found)]
    assert (TEXT, "own_model") in pairs and (TEXT, FORCED) in pairs
    without = commitment.commitments(chains, OUTCOMES, own.iloc[:0], OWN, DRAWN)
    assert [(one.first, one.second) for one in commitment.all_compared(without)] == [(TEXT, FORCED)]


def test_one_lens_at_one_layer_stands_beside_the_models_themselves():
    own = readings([-1.0])
    at = {(lens, layer): readings([-2.0], layer=layer, is_model=False, lens=lens) for lens in "lt" for layer in (3, 5)}
    kept = commitment.under(pd.concat([own, *at.values()]), "t", 5)
    assert kept[["lens", "layer"]].to_numpy().tolist() == [["logit", 29], ["t", 5]]
    assert len(commitment.under(own, None, None)) == 1


def planted(text, forced):
    rows = [
        {"cot_id": f"c{k}", "problem_id": f"p{k // 2}", "curve": curve, "state": COMMITS, "chunk": chunk}
        for k, both in enumerate(zip(text, forced, strict=True))
        for curve, chunk in zip((TEXT, FORCED), both, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_earlier_curve_is_found_and_unknown_chains_are_counted():
    text = [3, 4, 3, 5, 4, 4, 3, 2, 5, 3, 4, 3, math.nan, 2]
    forced = [2, 3, 3, 3, 3, 3, 2, 1, 4, 3, 2, 2, 3, math.nan]
    found = commitment.compared(planted(text, forced), TEXT, FORCED)
    assert (found.n_first, found.n_same, found.n_second, found.n_left_out) == (0, 2, 10, 2)
    assert found.difference.mean == pytest.approx(np.nanmean(np.subtract(text, forced)))
    assert found.difference.low > 0 and found.difference.p <= 0.05
    back = commitment.compared(planted(text, forced), FORCED, TEXT)
    assert (back.difference.mean, back.n_first) == (-found.difference.mean, found.n_second)
