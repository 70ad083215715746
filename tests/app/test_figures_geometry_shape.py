"""What figures of shape, curves and paths draw, and what they leave out."""

import math

import pandas as pd

from app.figures.geometry_curves import r2_by_layer, words_on_circle
from app.figures.geometry_paths import outcomes_by_layer, path_by_length
from app.figures.geometry_shape import shape_by_category, shape_by_layer


def shapes() -> pd.DataFrame:
    rows = [
        {"panel": panel, "layer": layer, "value": value, "low": value - 1, "high": value + 2, "isotropic": 300.0}
        for panel in ("base, n = 30 chunks", "distilled, n = 40 chunks")
        for layer, value in ((5, 4.0), (10, 8.0))
    ]
    return pd.DataFrame(rows).assign(matched=4.5)


def named(figure, name: str):
    return [trace for trace in figure.data if trace.name == name]


def test_a_measure_has_its_interval_and_nulls_in_a_panel_a_model():
    figure = shape_by_layer(shapes(), axis="Participation ratio, directions")
    values = named(figure, "this study, 95 %")
    assert [list(trace.x) for trace in values] == [[5, 10], [5, 10]]
    assert list(values[0].error_y.array) == [2, 2] and list(values[0].error_y.arrayminus) == [1, 1]
    assert list(named(figure, "isotropic normal points")[0].y) == [300, 300]
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis.title.text == "Participation ratio, directions"
    assert sum(bool(trace.showlegend) for trace in figure.data) == 3, "each line is named once"


def test_values_of_one_size_or_below_zero_stay_on_a_linear_axis():
    assert shape_by_layer(shapes().assign(isotropic=9.0), axis="a").layout.yaxis.type is None
    assert shape_by_layer(shapes().assign(isotropic=-0.01), axis="a").layout.yaxis.type is None


def test_a_category_stands_before_as_many_chunks_of_any_and_an_unknown_one_is_not_drawn():
    rows = pd.DataFrame(
        [
            {"label": "self checking, n = 40", "colour": "#AD4605", "value": 3.0, "low": 2.0, "high": 4.0},
            {"label": "unknown, n = 3", "colour": "#8A8F98", "value": math.nan, "low": math.nan, "high": math.nan},
        ]
    ).assign(any_category=5.0, any_category_sd=0.5)
    null, own = shape_by_category(rows, axis="a").data
    assert list(own.x) == [3] and list(null.x) == [5] and list(null.error_x.array) == [1]
    assert len(shape_by_category(rows.iloc[1:], axis="a").data) == 0


def curves() -> pd.DataFrame:
    known = {"fourier": 0.8, "fourier_low": 0.6, "fourier_high": 0.9, "polynomial": -3.0, "polynomial_low": -4.0}
    known |= {"polynomial_high": -1.0, "smooth_high": 0.5, "permuted_high": 0.1, "digits_high": math.nan}
    return pd.DataFrame([{"panel": "base", "layer": layer, "is_shown": layer == 9, **known} for layer in (4, 9)])


def test_a_shown_circle_has_a_ring_and_a_null_that_is_not_there_no_line():
    figure = r2_by_layer(curves())
    assert list(named(figure, "shown beyond all of them")[0].x) == [9]
    assert not named(figure, "digits dealt anew, 95th percentile")
    polynomial = named(figure, "polynomial, as many parameters")[0]
    assert min(polynomial.y) == -0.5 and list(polynomial.customdata) == [-3, -3], "drawn at the rim, told as it is"
    assert set(polynomial.marker.symbol) == {"triangle-down-open"}


def test_words_stand_where_they_are_and_lines_lead_to_their_own_places():
    rows = pd.DataFrame({"place": [0, 1], "word": ["Monday", "<b>x"], "x": [0.9, math.nan], "y": [0.1, 0.2]})
    circle, lines, words = words_on_circle(rows, period=7).data
    assert list(words.text) == ["Monday"] and list(lines.x) == [1, 0.9, None] and len(circle.x) == 181
    assert len(words_on_circle(rows.iloc[1:], period=7).data) == 0


def test_names_of_words_that_lie_close_together_stand_on_their_far_sides():
    rows = pd.DataFrame({"place": [0, 1], "word": ["Monday", "Tuesday"], "x": [0.2, 0.1], "y": [0.3, 0.2]})
    assert list(words_on_circle(rows, period=7).data[-1].textposition) == ["top right", "bottom left"]


def test_paths_stand_over_their_length_beside_both_nulls():
    rows = pd.DataFrame(
        {
            "n_chunks": [3, 3, 5],
            "verdict": ["correct", "wrong", "no verdict"],
            "value": [0.5, 0.4, 0.3],
            "shuffled": [0.4, 0.2, 0.1],
            "walk": [0.6, 0.6, 0.5],
            "label": ["a", "b", "<i>c"],
        }
    )
    figure = path_by_length(rows, axis="a", dodge={"correct": -0.1})
    (shuffled,) = named(figure, "random order, mean")
    assert list(shuffled.x) == [3, 5] and shuffled.y[0] == 0.30000000000000004
    assert (
        list(named(figure, "correct, n = 1")[0].x) == [2.9]
        and "<i>" not in named(figure, "no verdict, n = 1")[0].text[0]
    )
    assert len(path_by_length(rows.assign(value=math.nan), axis="a", dodge={}).data) == 0


def test_a_difference_that_is_unknown_is_not_drawn():
    rows = pd.DataFrame(
        [
            {"panel": "base", "comparison": kind, "label": kind, "layer": layer, "difference": value}
            for kind in ("unmatched", "matched")
            for layer, value in ((5, 0.2), (20, math.nan))
        ]
    ).assign(low=0.1, high=0.5)
    figure = outcomes_by_layer(rows, axis="a")
    assert [(trace.name, list(trace.customdata)) for trace in figure.data] == [("unmatched", [5]), ("matched", [5])]
    assert list(figure.layout.xaxis.ticktext) == ["5"]
    assert len(outcomes_by_layer(rows.iloc[:0], axis="a").data) == 0
