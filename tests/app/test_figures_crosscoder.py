"""Figures of features show what they are given, count what they leave out,
and shade the quadrant that the rule names."""

import numpy as np
import pandas as pd
import pytest

from app.figures import crosscoder
from app.figures.crosscoder import (
    ablation_effects,
    activation_histogram,
    category_frequencies,
    firing_by_category,
    frequency_histogram,
    logit_effects,
    nrn_and_scaling,
    nrn_histogram,
    training_curves,
)
from backend.crosscoder.diff import classify

HOSTILE = "<img src=x onerror=alert(1)> $x$"


@pytest.fixture
def features():
    return pd.DataFrame(
        {
            "feature": range(6),
            "nrn_l1": [0.02, 0.5, 0.51, 0.97, 0.95, np.nan],
            "nu_eps": [50.0, 1.0, 0.9, 0.01, 0.8, np.nan],
            "nu_r": [60.0, 1.0, 1.0, 0.1, 0.9, np.nan],
            "class": ["base only", "shared", "shared", "distilled only", "suspect", None],
            "frequency": [0.1, 0.2, 0.01, 0.003, np.nan, 0.0],
        }
    )


def title(figure):
    return figure.layout.title.text


def test_every_feature_with_an_nrn_is_in_one_bar(features):
    figure = nrn_histogram(features, norm="l1", chosen=(0.9, 1.0))
    assert sum(sum(trace.y) for trace in figure.data) == 5 and "1 without a known NRN" in title(figure)
    assert {trace.name for trace in figure.data} == {"base only (1)", "shared (2)", "distilled only (1)", "suspect (1)"}
    assert figure.layout.yaxis.type == "log" and figure.layout.dragmode == "select"
    assert any(shape.x0 == 0.9 and shape.x1 == 1.0 for shape in figure.layout.shapes)


def test_the_null_pairs_stand_behind_the_histogram_as_many_as_the_features():
    features = pd.DataFrame({"nrn_l1": np.linspace(0.1, 0.9, 60), "class": ["shared"] * 60})
    nulls = pd.DataFrame({"nrn_l1": [0.48, 0.5, 0.5, 0.52, np.nan], "null": ["same"] * 5})
    figure = nrn_histogram(features, norm="l1", chosen=None, nulls=nulls, band=(0.48, 0.52))
    (line,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert line.name == "null pair: base against itself (4)" and np.nansum(line.y) == pytest.approx(60)
    assert (0.48, 0.52) in [(shape.x0, shape.x1) for shape in figure.layout.shapes]
    assert not [trace for trace in nrn_histogram(features, norm="l1", chosen=None).data if trace.type == "scatter"]


def test_the_shaded_quadrants_hold_exactly_the_suspects_of_the_rule():
    rng = np.random.default_rng(0)
    nrn, nu = rng.random(400), np.exp(rng.normal(0, 3, 400))
    classes = classify(nrn, nu, np.where(nrn > 0.5, 0.0, np.inf))  # the other scaling is always convinced
    made = pd.DataFrame({"feature": range(400), "nrn_l1": nrn, "nu_eps": nu, "class": classes, "frequency": 0.1})
    figure = nrn_and_scaling(made, norm="l1", scaling="nu_eps", selected=None)
    boxes = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    for trace in figure.data:
        for x, y in zip(trace.x, trace.y, strict=True):
            inside = any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes)
            assert inside == trace.name.startswith("suspect")


def test_a_negative_scaling_is_drawn_at_the_edge_and_counted(features):
    features.loc[3, "nu_eps"] = -0.1
    figure = nrn_and_scaling(features, norm="l1", scaling="nu_eps", selected=3)
    (trace,) = [trace for trace in figure.data if (trace.name or "").startswith("distilled only")]
    assert trace.y == (1.0,) and "1 with ν < 0" in title(figure)
    assert figure.data[-1].customdata == (3,) and figure.data[-1].marker.symbol == "circle-open"


def test_histogram_and_logits_show_tokens_as_text(features):
    assert "n = 7 tokens" in title(activation_histogram([0, 1, 2], [5, 2]))
    logits = pd.DataFrame(
        {
            "model_id": ["a", "a", "b"],
            "side": ["top", "bottom", "top"],
            "rank": [0, 0, 0],
            "token_id": [1, 2, 3],
            "token": [HOSTILE, " Wait", " Wait"],
            "effect": [0.4, -0.2, 0.1],
        }
    )
    figure = logit_effects(logits, {"a": "base", "b": "distilled"})
    assert [list(trace.x) for trace in figure.data] == [[-0.2, 0.4], [0.1]]
    assert "<img" not in str(figure.to_dict()) and "&lt;img" in str(figure.to_dict())


def test_every_feature_that_fires_is_in_one_bar_and_the_silent_ones_are_counted(features):
    figure = frequency_histogram(features, chosen=(0.01, 0.2))
    assert sum(figure.data[0].y) == 4 and "1 never do" in title(figure)
    shaded = figure.layout.shapes[0]
    assert (10**shaded.x0, 10**shaded.x1) == pytest.approx((0.01, 0.2)) and figure.layout.dragmode == "select"


def test_a_training_has_a_panel_for_each_metric_and_a_line_for_each_model():
    metrics = ("loss", "l0", "dead_share", "learning_rate", "variance_explained_base", "variance_explained_distilled")
    points = pd.DataFrame(
        [
            {"metric": metric, "step": step, "tokens": 10 * step, "value": 1.0 / step, "n_steps": 2}
            for metric in metrics
            for step in (2, 4, 6)
        ]
    )
    points.loc[0, "value"] = np.nan
    figure = training_curves(points)
    assert [(trace.xaxis, len(trace.x)) for trace in figure.data] == [
        ("x", 2),
        ("x2", 3),
        ("x3", 3),
        ("x4", 3),
        ("x4", 3),
    ]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["base", "distilled"]
    alone = training_curves(points[points["metric"] != "variance_explained_distilled"])
    assert not any(trace.showlegend for trace in alone.data)


def test_firing_by_category_stands_beside_the_share_of_all_tokens():
    rows = pd.DataFrame(
        {
            "category": ["deductive", HOSTILE],
            "n_tokens": [50, 20],
            "n_fired": [10, 1],
            "frequency": [0.2, 0.05],
            "low": [0.1, 0.01],
            "high": [0.35, 0.2],
        }
    )
    figure = firing_by_category(rows, overall=0.03, names={"deductive": "Therefore"})
    trace = figure.data[0]
    assert list(trace.x) == [0.05, 0.2] and trace.y[1] == "Therefore" and "<img" not in str(figure.to_dict())
    assert list(trace.error_x.array) == pytest.approx([0.15, 0.15]) and list(trace.error_x.arrayminus) == pytest.approx(
        [0.04, 0.1]
    )
    assert figure.layout.shapes[0].x0 == 0.03


def test_frequencies_of_zero_are_counted_and_not_drawn():
    rows = pd.DataFrame(
        {
            "feature": [0, 1, 0, 1],
            "category": ["self-reflection"] * 2 + ["deductive"] * 2,
            "nrn_l1": [0.1, 0.9] * 2,
            "frequency": [0.0, 0.3, 0.01, 0.0],
            "n_tokens": [50, 50, 80, 80],
        }
    )
    figure = category_frequencies(rows, norm="l1")
    assert [(trace.name, list(trace.customdata)) for trace in figure.data] == [
        ("self-reflection (n = 50 tokens)", [1]),
        ("deductive (n = 80 tokens)", [0]),
    ]
    assert "2 pairs" in title(figure)


def test_ablations_stand_beside_their_control_with_intervals():
    rows = pd.DataFrame(
        [
            {
                "category": "self-reflection",
                "role": role,
                "control": control,
                "top_percent": percent,
                "n_features": {0.5: 0, 1: 3, 20: 40, 50: 40}[percent],
                "n_targets": 100,
                "n_there": 125,
                "effect": -percent if percent > 0.5 else np.nan,
                "ci_low": -percent - 1,
                "ci_high": -percent + 2,
            }
            for role in ("base", "distilled")
            for control in ("features", "random")
            for percent in (0.5, 1, 20, 50)
        ]
    )
    figure = ablation_effects(rows, measure="log_probability")
    assert {trace.name for trace in figure.data} == {
        "base",
        "distilled",
        "base, random features",
        "distilled, random features",
    }
    for trace in figure.data:  # at 0.5 % there was nothing to zero
        assert (
            list(trace.x) == ["1", "20"]
            and set(trace.error_y.array) == {2.0}
            and set(trace.error_y.arrayminus) == {1.0}
        )
    # at 50 % the same are zeroed as at 20 %: drawn once, and said
    assert figure.layout.xaxis.ticktext == ("0.5<br>0", "1<br>3", "20<br>40", "50<br>=")
    assert figure.layout.xaxis.categoryarray == ("0.5", "1", "20", "50") and "nats" in figure.layout.yaxis.title.text
    assert "n = 100 of 125 tokens (80%)" in figure.layout.annotations[0].text
    is_own = rows["control"] == "features"
    banded = ablation_effects(
        rows.assign(band_low=np.where(is_own, -0.5, np.nan), band_high=np.where(is_own, 0.25, np.nan)), measure="logit"
    )
    bars = [trace for trace in banded.data if trace.type == "bar"]
    assert {bar.name for bar in bars} == {"base, band of the twin", "distilled, band of the twin"}
    assert all(set(bar.base) == {-0.5} and set(bar.y) == {0.75} and list(bar.x) == ["1", "20"] for bar in bars)
    assert len(banded.data) == len(figure.data) + len(bars)
    nothing = ablation_effects(rows.assign(effect=np.nan))
    assert not nothing.data and "No feature is both" in nothing.layout.annotations[0].text


@pytest.mark.parametrize(
    "figure",
    [
        nrn_histogram(pd.DataFrame({"nrn_l1": [np.nan], "class": [None]}), norm="l1", chosen=None),
        nrn_and_scaling(
            pd.DataFrame({"nrn_l1": [0.5], "nu_eps": [np.nan]}), norm="l1", scaling="nu_eps", selected=None
        ),
        activation_histogram([0, 1], [0]),
        logit_effects(pd.DataFrame({"model_id": []}), {}),
        frequency_histogram(pd.DataFrame({"frequency": [0.0, np.nan]}), chosen=None),
        training_curves(pd.DataFrame({"metric": ["loss"], "value": [np.nan]})),
        firing_by_category(pd.DataFrame({"category": []}), overall=0.1, names={}),
        ablation_effects(pd.DataFrame()),
    ],
)
def test_nothing_to_show_is_said_in_words(figure):
    assert figure.layout.annotations[0].text and not figure.data


def test_the_extreme_is_that_of_the_rule():
    at = np.array([crosscoder.EXTREME - 1e-9, crosscoder.EXTREME + 1e-9])
    assert list(classify(at, np.full(2, np.inf), np.full(2, np.inf))) == ["base only", "shared"]
