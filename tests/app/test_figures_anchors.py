"""What the figures of steered anchors draw is what they were given."""

import numpy as np
import pandas as pd
import pytest

from app.figures.anchors import along_beta, along_the_chain, attention_by_layer, means_over_study
from backend.statistics.course import course

STEPS = pd.DataFrame(
    [
        {"arm": arm, "number": k, "side": side, "beta": beta, "kl_rest": size * beta**2, "kl_answer": None}
        for side, size in (("before", 0.2), ("after", 0.1))
        for arm, n in (("counterfactual", 1), ("random", 2))
        for k in range(n)
        for beta in (-1.0, -0.5, 0.0)
    ]
)


def line(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_kl_along_beta_has_a_line_a_side_and_none_at_zero():
    figure = along_beta(STEPS, readout="rest", norm=3.2, floor=1e-6)
    before = line(figure, "steered before")
    assert list(before.x) == [-1.0, -0.5] and list(before.y) == [0.2, 0.05]
    assert list(line(figure, "random, after").y) == pytest.approx([0.1, 0.025])
    assert "3.2" in figure.layout.xaxis.title.text and "nats" in figure.layout.yaxis.title.text
    assert "2 random directions" in figure.layout.title.text


def test_a_readout_without_a_known_kl_says_so():
    figure = along_beta(STEPS, readout="answer", norm=1.0, floor=None)
    assert not figure.data and "answer" in figure.layout.annotations[0].text


def test_the_chain_has_its_anchors_its_means_and_its_best_step():
    rows = pd.DataFrame(
        [
            {"arm": arm, "number": k, "place": place, "kl_rest": None if place == 6 else kl, "kl_answer": None}
            for arm, kl in (("alternative", 0.4), ("random_alternative", 0.1))
            for k in range(3)
            for place in range(7)
        ]
    )
    found = course({place: [0.0, 0.1] if place < 3 else [-2.0, -2.1] for place in range(6)})
    figure = along_the_chain(rows, readout="rest", found=found, chunks={2: True, 4: False, 1: True}, selected=2)
    assert list(line(figure, "single counterfactuals (mean)").y) == pytest.approx([0.4] * 6)
    shapes = figure.layout.shapes
    assert {(shape.x0, shape.x1) for shape in shapes} >= {(2, 3), (1, 2), (2.5, 2.5)} and (4, 5) not in {
        (shape.x0, shape.x1) for shape in shapes
    }
    assert "n = 6 places, 3 counterfactuals" in figure.layout.title.text and "6 unknown" in figure.layout.title.text


def test_means_are_drawn_with_the_interval_they_have():
    rows = pd.DataFrame(
        [
            {"group": "difference", "along": "beyond", "factor": 1.5, "low": 1.0, "high": 2.5, "n": 9},
            {"group": "anchors", "along": "counterfactual", "factor": np.nan, "low": np.nan, "high": np.nan, "n": 0},
        ]
    )
    figure = means_over_study(rows, what="KL before ÷ after")
    (trace,) = [trace for trace in figure.data if len(trace.x)]
    assert (trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]) == (1.5, 1.0, 0.5)
    assert "n = 9 pairs" in figure.layout.title.text
    assert not means_over_study(rows.iloc[1:], what="x").data


def test_attention_is_drawn_at_the_layers_above_the_steered_one():
    rows = pd.DataFrame(
        [
            {"side": "none", "arm": "unsteered", "number": 0, "by_layer": [0.1, 0.2]},
            {"side": "after", "arm": "random", "number": 0, "by_layer": [0.2, 0.4]},
            {"side": "after", "arm": "random", "number": 1, "by_layer": [0.4, 0.6]},
        ]
    )
    figure = attention_by_layer(rows, layer=15)
    assert list(line(figure, "unsteered").x) == [16, 17]
    assert list(line(figure, "random, after").y) == pytest.approx([0.3, 0.5])
    assert not attention_by_layer(rows.iloc[:0], layer=15).data
