"""Small autoencoders by layer: a mark a training, a line through geometric means, unknown is not drawn."""

import pandas as pd
import pytest

from app.figures.geometry_saes import quality_by_layer, tails_by_layer


def rows(**changed):
    told = {"panel": "base", "source": "own", "layer": 0, "seed": 1, "times": 2.0}
    told |= {"variance_explained": 0.7, "l0": 31.0, "dead": 0.1}
    return told | changed


def test_lines_go_through_the_geometric_mean_of_a_layers_seeds():
    frame = pd.DataFrame(
        [
            rows(),
            rows(seed=2, times=8.0),
            rows(layer=3, times=3.0),
            rows(layer=6, times=None),
            rows(source="cloud", times=1.5),
            rows(panel="tuned", times=5.0),
        ]
    )
    figure = tails_by_layer(frame, middle={"base": (9.5, 19.5), "tuned": (9.5, 19.5)})
    line, marks = figure.data[:2]
    assert list(line.x) == [0, 3] and list(line.y) == pytest.approx([4.0, 3.0])
    assert list(marks.y) == [2.0, 8.0, 3.0] and list(marks.customdata) == [1, 2, 1]
    assert [one.name for one in figure.data if one.showlegend] == ["own", "cloud"]
    assert {note.text for note in figure.layout.annotations} == {"base", "tuned"}
    assert sum(shape.type == "line" and shape.y0 == shape.y1 == 1 for shape in figure.layout.shapes) == 2
    assert figure.layout.yaxis.type == "log" and "times isotropic" in figure.layout.yaxis.title.text


def test_the_quality_of_each_training_is_drawn_for_each_model():
    figure = quality_by_layer(pd.DataFrame([rows(), rows(seed=2, l0=33.0), rows(panel="tuned", dead=0.3)]))
    marks = [one for one in figure.data if one.mode == "markers"]
    assert [list(one.y) for one in marks] == [[0.7, 0.7], [31.0, 33.0], [0.1, 0.1], [0.7], [31.0], [0.3]]
    assert [figure.layout[name].title.text for name in ("yaxis", "yaxis3", "yaxis5")] == [
        "variance explained",
        "L0, features a token",
        "dead, share of features",
    ]


def test_nothing_to_draw_is_said():
    empty = pd.DataFrame([rows(times=None)])
    assert "exceeds the threshold" in tails_by_layer(empty, middle={}).layout.annotations[0].text
    assert "No dictionary" in quality_by_layer(empty[:0]).layout.annotations[0].text
