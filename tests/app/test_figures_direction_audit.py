"""The figures of an audit show the numbers they are given beside those of random vectors, and say what is missing."""

import pandas as pd
import pytest

from app.figures.direction_audit import RandomCosines, cosine_strip, cost_curves, texts_by_arm
from tests.app.test_figures_steering import words

NULL = RandomCosines(576, 0.08, 0.15)


def cosine_rows():
    rows = [("per_chunk", "own", 0.9, 1e-9), ("per_chunk", "<b>other</b>", 0.1, 0.4), ("random", "r", 0.02, 1.0)]
    rows += [("random", "unknown", None, 1.0)]
    return pd.DataFrame(rows, columns=["kind", "label", "cosine", "p_of_all"])


def test_each_kind_has_its_line_and_each_direction_its_point_over_the_band_of_chance():
    figure = cosine_strip(cosine_rows(), NULL)
    assert [sorted(trace.x) for trace in figure.data] == [[0.1, 0.9], [0.02]]
    assert [tick.rpartition(" ")[2] for tick in figure.layout.yaxis.ticktext] == ["2)", "1)"]
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-0.08, 0.08)
    assert sorted(shape.x0 for shape in figure.layout.shapes if shape.type == "line") == [-0.15, 0.15]
    assert "d = 576<br>dashed: the largest of 3" in words(figure)
    assert "&lt;b&gt;other&lt;/b&gt;" in figure.data[0].text


def costs():
    rows = [("vector", 0.0, 0, 0, 0, 4, 4), ("vector", -4.0, 1, 2, 3, 4, 0), ("vector", 4.0, 2, 3, 4, 4, 0)]
    rows += [("random", -4.0, 0.1, 0.2, 0.3, 4, 1), ("random", 4.0, 0.2, 0.3, 0.4, 4, 1)]
    return pd.DataFrame(rows, columns=["arm", "beta", "low", "median", "high", "n", "n_below_floor"])


def test_the_cost_shows_medians_and_quartiles_with_n_and_the_floor_and_leaves_out_0_that_has_no_logarithm():
    figure = cost_curves(costs(), floor=1e-7, unit="rms")
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named) == [
        "random vectors: median, quartiles (n = 4 chunks)",
        "the vector: median, quartiles (n = 4 chunks)",
    ]
    own = named["the vector: median, quartiles (n = 4 chunks)"]
    assert list(own.x) == [-4.0, 4.0] and list(own.y) == [2, 3]
    assert "noise floor 1e-07" in words(figure) and figure.layout.xaxis.title.text == "β (RMS of the residual stream)"


def test_the_texts_of_each_arm_have_their_intervals_and_n():
    rows = pd.DataFrame(
        [
            {"arm": "base", "n": 16, "n_problems": 8, "length": 50.0, "length_low": 40.0, "length_high": 60.0},
            {"arm": "changed", "n": 16, "n_problems": 8, "length": 80.0, "length_low": None, "length_high": None},
        ]
    ).assign(loops=[0.0, 0.5], loops_low=[0.0, 0.3], loops_high=[0.2, 0.7])
    rows[["length_low", "length_high"]] = rows[["length_low", "length_high"]].astype(float)
    figure = texts_by_arm(rows)
    assert list(figure.layout.yaxis.ticktext) == ["unsteered<br>n = 16, 8 problems", "steered<br>n = 16, 8 problems"]
    length, loops = figure.data
    assert list(length.error_x.array) == [10.0, None] and list(loops.error_x.arrayminus) == pytest.approx([0.0, 0.2])


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (lambda: cosine_strip(cosine_rows().iloc[:0], NULL), "no other direction"),
        (lambda: cost_curves(costs().iloc[:0], floor=None, unit="rms"), "No KL has been measured"),
        (lambda: texts_by_arm(pd.DataFrame(columns=["arm"])), "No chain of thought"),
    ],
)
def test_without_rows_the_figure_says_so(figure, said):
    assert said in words(figure())
