"""Figures of parallelograms: what each line and mark stands at, and what is said where there is nothing."""

import numpy as np
import pandas as pd
import pytest

from app.figures.parallelograms import cumulative_losses, losses_by_layer, ratios_to_shuffled, searched_losses
from backend.feature_geometry.feature_quadruples import SEARCHED
from backend.feature_geometry.parallelogram_layers import COLUMNS, over_classes

LOSSES, SHUFFLED = [0.1, 0.2, 0.3], [0.5, 0.7, 0.9]


def classes(*names, **changed):
    return pd.DataFrame(
        {
            "word_class": name,
            "role": role,
            "n_quadruples": 66,
            "n_pairs": 12,
            "losses": LOSSES,
            "null_losses": SHUFFLED,
            "loss": 0.2,
            "null": 0.7,
            "ratio": 0.3 + 0.1 * place,
            "ratio_low": 0.2,
            "ratio_high": 0.6,
            "p": 0.01,
        }
        | changed
        for place, name in enumerate(names)
        for role in ("base", "distilled")
    )


def test_a_line_rises_from_none_to_all_of_the_quadruples_beside_that_of_shuffled_pairs():
    figure = cumulative_losses(classes("antonym", "<b>odd</b>"))
    own = [line for line in figure.data if line.xaxis == "x"]
    assert [line.name for line in own] == [
        "base", "base, pairs shuffled", "reasoner", "reasoner, pairs shuffled",
    ]  # fmt: skip
    assert list(own[0].x) == LOSSES and list(own[0].y) == [0, 0.5, 1] and list(own[1].x) == SHUFFLED
    assert own[1].line.dash == "dash" and own[0].line.color != own[2].line.color
    assert sum(line.showlegend for line in figure.data) == 4
    titles = [note.text for note in figure.layout.annotations]
    assert "antonym, n = 66" in titles and any("&lt;b&gt;odd" in title for title in titles)


def test_a_mark_stands_at_the_ratio_with_its_interval_and_classes_stand_in_its_order():
    figure = ratios_to_shuffled(classes("low", "high"))
    base, distilled = figure.data
    assert list(base.x) == pytest.approx([0.3, 0.4]) and base.error_x.array[0] == pytest.approx(0.3)
    assert base.error_x.arrayminus[1] == pytest.approx(0.2) and base.y[0] < distilled.y[0]
    assert list(figure.layout.yaxis.ticktext) == ["high (n = 12)", "low (n = 12)"]
    assert figure.layout.shapes[0].x0 == 1 and "shuffled pairs" in figure.layout.xaxis.title.text


def test_what_is_unknown_has_no_mark_and_nothing_at_all_is_said():
    rows = classes("a", "b")
    rows.loc[rows["word_class"] == "a", "ratio"] = np.nan
    assert [len(trace.x) for trace in ratios_to_shuffled(rows).data] == [1, 1]
    assert "No class has a ratio" in ratios_to_shuffled(classes("a", ratio=np.nan)).layout.annotations[0].text
    assert "No class has quadruples" in cumulative_losses(classes("a", losses=None)).layout.annotations[0].text


def test_every_draw_of_a_null_is_a_line_and_each_search_is_once_in_the_legend():
    rows = pd.DataFrame(
        {"role": role, "searched": name, "draw": draw, "n_sides": 40, "losses": LOSSES}
        for role in ("base", "distilled")
        for name in SEARCHED
        for draw in range(1 if name == "rows" else 3)
    )
    figure = searched_losses(rows, words=SEARCHED)
    assert len(figure.data) == 20
    assert [line.name for line in figure.data if line.showlegend] == list(SEARCHED.values())
    (own,) = {line.line.color for line in figure.data if line.name == SEARCHED["rows"]}
    assert own not in {line.line.color for line in figure.data if line.name != SEARCHED["rows"]}
    assert "could be matched" in searched_losses(rows.assign(losses=None), words=SEARCHED).layout.annotations[0].text


def test_over_layers_a_mark_is_the_mean_over_classes_and_two_models_are_compared_beside_1():
    rows = pd.concat([classes("low", "high", ratio=0.2 + 0.1 * layer).assign(layer=layer) for layer in (3, 9)])
    differences = pd.DataFrame(
        {"layer": [3, 9], "log_ratio": [0.0, np.log(2)], "log_ratio_low": [-1.0, 0.1], "log_ratio_high": [1.0, 1.0]}
    )
    figure = losses_by_layer(over_classes(rows), differences)
    base = [line for line in figure.data if line.name == "base"]
    assert [list(line.y) for line in base] == [[0.2, 0.2], pytest.approx([0.5, 1.1])]
    assert list(figure.data[-1].y) == pytest.approx([1, 2]) and list(figure.layout.xaxis.tickvals) == [3, 9]
    alone = losses_by_layer(over_classes(rows), differences.assign(log_ratio=np.nan))
    assert len(alone.layout.annotations) == 2
    assert "No class" in losses_by_layer(pd.DataFrame(columns=COLUMNS), differences).layout.annotations[0].text
