"""A metric is one entry: what it is made of, its words and its unit; stages, pages and links follow."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from backend.importance.conventions import AFTER, ALL, DISSIMILAR, PUBLISHED, Sides
from backend.importance.metric_registry import (
    ACCURACIES,
    KL,
    METRICS,
    Comparison,
    Metric,
    MetricError,
    Own,
    definition,
    metrics_to_compute,
    rules,
    why_unknown,
)
from backend.importance.metrics import RolloutsError, importance_of_cot
from tests.backend.importance.test_metrics import of, rollout, table
from tests.registering import lists_of, registered

ANSWERED = Metric(
    "said_something",
    "Answered",
    "Share of the rollouts that end in an answer.",
    Own(
        lambda at, rng: at.share((at.here.answer >= 0).astype(int), rng),
        "share of those with an answer among the rollouts at i",
        "share of rollouts",
    ),
)
STRICT = Metric(
    "probe_importance_accuracy",
    "Strict importance",
    "Accuracy with a different chunk, minus accuracy at the next one.",
    Comparison(ACCURACIES, Sides(DISSIMILAR, (AFTER,))),
)
BY_CONVENTION = replace(STRICT, name="probe_importance_kl", measure=Comparison(KL, lambda c: c.resampling))
ROWS = table(
    [rollout("c0", correct=k == 0, similarity=0.1) for k in range(4)]
    + [rollout("c0", answer=None, correct=None, similarity=0.9)]
    + [rollout("c1") for _ in range(3)]
)


def test_a_new_metric_is_computed_with_the_others_in_a_row_of_its_own():
    plain = importance_of_cot(ROWS, ["c0", "c1"], seed=1)
    with registered(METRICS, ANSWERED), registered(METRICS, STRICT), registered(METRICS, BY_CONVENTION):
        found = importance_of_cot(ROWS, ["c0", "c1"], seed=1)
        assert of(found, "c0", "said_something").value == 0.8 and of(found, "c0", "said_something").n == 5
        assert of(found, "c0", "probe_importance_accuracy").value == 0.25 - 1
        assert set(found[found.metric == "probe_importance_kl"].convention) == {"ta", "fl", "paper"}
    rest = found[found.metric.isin(plain.metric)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, plain)  # and changes no other


def test_a_kl_of_fixed_sides_is_refused_as_it_has_no_outcomes():
    without = replace(STRICT, name="strict_importance_kl", measure=Comparison(KL, Sides(DISSIMILAR, (AFTER,))))
    with registered(METRICS, without), pytest.raises(MetricError, match="needs a convention"):
        importance_of_cot(ROWS, ["c0", "c1"], seed=1)


def test_a_new_metric_has_its_words_and_definition_wherever_it_is_shown():
    from app.shell import vocabulary

    with registered(METRICS, ANSWERED), registered(METRICS, STRICT):
        assert vocabulary.metric_choice("said_something:all") == "Answered (share of rollouts)"
        assert definition("said_something", ALL).startswith("share of those with an answer")
        assert definition("said_something", PUBLISHED).startswith("as published: share of those")
        assert definition(STRICT.name, ALL) == "accuracy of dissimilar rollouts at i − accuracy of rollouts at i+1"
        assert why_unknown(STRICT.name, ALL, 0, 5) == "no dissimilar rollout here has an answer"
        assert vocabulary.metric(STRICT.name).short == "Strict importance (accuracy)"
    assert vocabulary.metric("said_something").label == "said_something"


def test_a_new_metric_has_its_place_in_the_picker_and_can_be_resampled():
    from app.shared.chunk_colours import importance_options
    from backend.live.resample import resampled

    names = ["said_something", "counterfactual_accuracy", "stored elsewhere"]
    choices = pd.DataFrame({"metric": names, "convention": ["all"] * 3})
    store = SimpleNamespace(importance_choices=lambda: choices)
    with registered(METRICS, ANSWERED):
        options = [option.split(":")[0] for option in importance_options(store)]
        assert options == ["counterfactual_accuracy", "said_something", "stored elsewhere"]
        assert "said_something" in resampled()


def test_units_are_computed_anew_for_a_new_metric_and_keep_their_keys_without_one():
    plain, strict = rules(), rules(needs_returns=True)
    with registered(METRICS, ANSWERED):
        assert rules() == {"metrics": plain.get("metrics", {}) | {"said_something": 1}}
        assert rules(needs_returns=True) == strict
    with registered(METRICS, replace(ANSWERED, needs_returns=True)):
        assert "said_something" not in metrics_to_compute() and rules() == plain
        assert rules(needs_returns=True) == {"metrics": strict.get("metrics", {}) | {"said_something": 1}}
    with registered(METRICS, replace(ANSWERED, rule=0)):
        assert rules() == plain


def test_a_metric_that_no_entry_knows_is_refused_with_those_there_are():
    with pytest.raises(
        MetricError, match="There is no metric 'said_something'; expected one of counterfactual_importance_"
    ):
        importance_of_cot(ROWS, ["c0", "c1"], seed=1, metrics=["said_something"])
    with pytest.raises(RolloutsError, match="no convention"):
        importance_of_cot(ROWS, ["c0", "c1"], seed=1, conventions=["x"])


@pytest.mark.parametrize("part", ["name", "label", "meaning", "measure"])
def test_an_entry_without_one_of_its_parts_is_refused(part):
    with pytest.raises(MetricError, match=f"needs {part}"):
        METRICS.register(replace(ANSWERED, **{part: None}))
    for cls in (Metric, Own, Comparison):
        with pytest.raises(TypeError):
            cls()


def test_no_other_module_lists_the_metrics():
    # A reader of published data knows what they are called there.
    own = ("backend/importance/metric_registry.py", "precompute/importers/")
    assert lists_of(METRICS.keys(), allowed=own) == []
