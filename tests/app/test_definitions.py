"""A value stands on the page with its direction and its comparator, and what was published beside its like."""

import pandas as pd
import pytest

from app.chains_of_thought.metric_table import metric_table
from app.shell.vocabulary import CONVENTIONS, METRICS, SET_BY_SMOOTHING, decision, definition, smoothing_decides
from backend.importance import conventions, metric_registry


def row(convention, metric="resampling_importance_kl", **values):
    known = {"value": 0.5, "ci_low": 0.1, "ci_high": 0.9, "n": 5, "n_comparator": 9, "is_last": False}
    return {"metric": metric, "convention": convention, **known, **values}


def test_every_convention_has_words_on_the_page_in_the_order_of_the_registry():
    assert list(CONVENTIONS) == [*conventions.CONVENTIONS, conventions.PUBLISHED, conventions.ALL]
    for metric in METRICS:
        assert any(metric_registry.definition(metric, name) for name in CONVENTIONS), metric


def test_a_definition_names_who_computes_so_and_in_which_direction():
    said = definition("resampling_importance_kl", "ta")
    assert "published code" in said and "KL( all rollouts at i ‖ rollouts at i+1 )" in said
    assert definition("new metric", "new convention") == "Convention new convention: stored under this name"


def test_published_values_stand_right_below_their_like():
    table = metric_table(pd.DataFrame([row(name) for name in ("fl", "paper", "published", "ta")]))
    assert list(table["convention"]) == ["ta", "published", "fl", "paper"]
    assert list(table["is"]) == [
        metric_registry.definition("resampling_importance_kl", name) for name in table["convention"]
    ]


@pytest.mark.parametrize(("convention", "here", "after"), [("ta", "n", "n_comparator"), ("fl", "n_comparator", "n")])
def test_the_side_that_is_empty_is_named_whichever_way_the_kl_runs(convention, here, after):
    unknown = {"value": None, "ci_low": None, "ci_high": None}
    for side, words in ((here, "no rollout here has an answer"), (after, "no rollout at the next chunk has an answer")):
        assert metric_table(pd.DataFrame([row(convention, **unknown, **{side: 0})]))["note"].item() == words


def test_a_tiny_smoothing_decides_a_large_kl_whoever_adds_it():
    decided = [name for name in CONVENTIONS if smoothing_decides("resampling_importance_kl", name, 15.0)]
    assert decided == ["ta", "paper", "published"]


def test_a_kl_above_the_log_of_the_other_sides_rollouts_says_that_an_answer_was_not_seen_there():
    """Seen once in n at least, no answer of p has a probability below 1/n in q."""
    for value, n, expected in ((3.1, 20, True), (2.9, 20, False), (4.0, 100, False), (15.0, None, True)):
        assert smoothing_decides("counterfactual_importance_kl", "ta", value, n) is expected
    unknown = {"value": 3.1, "ci_low": 2.0, "ci_high": 4.0, "n": 9, "n_comparator": 20}
    assert metric_table(pd.DataFrame([row("ta", **unknown)]))["note"].item() == SET_BY_SMOOTHING


def test_a_decision_says_p_and_q_and_over_how_many_chunks():
    assert decision(0.001, 0.02, 432) == (
        "more than chance: permutation p = 0.001, q = 0.02 over the 432 chunks of the study"
    )
    assert decision(0.04, 0.2, 432).startswith("no more than chance gives: ") and decision(None, None, None) == ""
