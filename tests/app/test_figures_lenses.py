"""The figures of lenses: every cell where it belongs, unknown left out, words only ever text, and small enough."""

import numpy as np
import pandas as pd
import pytest

from app.figures.lens_curves import followed_along, followed_over_layers
from app.figures.lens_quality import quality_by_layer
from app.figures.lenses import MOST_WORDED, lens_heat
from app.shell.theme import DIVERGING
from app.shell.untrusted import visible

HOSTILE = "<img src=x onerror=alert(1)>$\\alpha$"


def cells(n_layers=3, n_columns=4, first=10) -> pd.DataFrame:
    rows = [
        {
            "layer": layer,
            "column": first + column,
            "value": layer + column / 10,
            "word": "␣the",
            "probability": 0.123456,
            "entropy": 2.5,
            "kl": 1.25,
        }
        for layer in range(n_layers)
        for column in range(n_columns)
    ]
    return pd.DataFrame(rows)


def heat(given=None, n_layers=3, n_columns=4, **how):
    columns = pd.DataFrame({"column": range(10, 10 + n_columns), "tick": ["a"] * n_columns})
    usual = {"title": "entropy", "axis": "token", "low_is_sure": False, "bounds": (0.0, 3.0), "ticks": {}}
    frame = cells(n_layers, n_columns) if given is None else given
    return lens_heat(frame, columns, n_layers=n_layers, **(usual | how))


def test_layers_go_upwards_and_each_cell_has_its_value_and_word():
    drawn = heat().data[0]
    assert drawn.y == (0, 1, 2) and drawn.x == (10, 11, 12, 13) and drawn.z[2][3] == pytest.approx(2.3)
    assert drawn.text[0][0] == "␣the"


def test_a_cell_that_has_not_come_is_empty_and_takes_no_click():
    given = cells().drop(index=5)  # layer 1, column 11
    figure = heat(given)
    assert figure.data[0].z[1][1] is None and figure.data[0].text[1][1] == ""
    assert "1.11" not in [mark[0] for mark in figure.data[1].customdata] and len(figure.data[1].x) == 11


def test_words_that_a_model_wrote_are_only_ever_text():
    figure = heat(cells().assign(word=HOSTILE))
    said = [*np.ravel(figure.data[0].text), *figure.data[1].text]
    assert said and not any("<" in word or "$" in word for word in said)


def test_many_columns_bear_no_words_and_stay_small():
    figure = heat(n_layers=30, n_columns=300, bounds=(0.0, 30.0))
    assert set(np.ravel(figure.data[0].text)) == {""}
    assert len(figure.to_json()) < 1_000_000
    assert len(heat(n_layers=30, n_columns=MOST_WORDED).to_json()) < 200_000


def test_a_difference_has_a_scale_of_two_sides_and_a_sure_low_end_turns_the_other_round():
    assert heat(bounds=(-2.0, 2.0)).data[0].zmin == -2
    assert [list(pair) for pair in heat(bounds=(-2.0, 2.0)).data[0].colorscale] == DIVERGING
    assert heat(low_is_sure=True).data[0].reversescale and not heat().data[0].reversescale


def test_greyed_layers_are_covered_and_the_selected_cell_is_framed():
    shapes = heat(greyed=[0, 2], selected=(1, 12)).layout.shapes
    assert [(shape.y0, shape.y1) for shape in shapes[:2]] == [(-0.5, 0.5), (1.5, 2.5)]
    assert (shapes[2].x0, shapes[2].x1, shapes[2].y0) == (11.5, 12.5, 0.5)


def test_layers_that_were_not_measured_are_hatched_and_take_no_clicks():
    figure = heat(unmeasured=[0, 2])
    hatched = figure.data[1]
    assert hatched.fillpattern.shape == "/" and hatched.hoverinfo == "skip"
    assert [y for y in hatched.y if y is not None] == [-0.5, -0.5, 0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    assert not any(one.fillpattern.shape for one in heat().data if one.type == "scatter")


def test_a_map_of_nothing_says_so():
    assert "nothing to read" in heat(cells().head(0)).layout.annotations[0].text


QUALITY = pd.DataFrame(
    [
        {
            "label": label,
            "panel": panel,
            "layer": layer,
            "kl": None if (label, layer) == ("tuned lens", 2) else 3.0 - layer,
            "ci_low": 2.5 - layer,
            "ci_high": 3.5 - layer,
            "baseline": 2.0,
            "n_tokens": 100,
            "n_problems": 4,
        }
        for label in ("logit lens", "tuned lens")
        for panel in ("all positions", "prompt", "first token of a chunk", "digit of the answer")
        for layer in range(3)
    ]
)


def test_quality_has_a_panel_a_kind_of_position_with_its_n_and_a_line_a_lens_beside_the_baseline():
    figure = quality_by_layer(QUALITY)
    assert figure.layout.annotations[0].text == "all positions, n = 100 tokens of 4 problems"
    lines = [trace for trace in figure.data if trace.name in ("logit lens", "tuned lens", "token frequencies")]
    assert len(lines) == 4 * 3 and len(figure.layout.annotations) == 4
    assert [trace.showlegend for trace in lines].count(True) == 3
    tuned = next(trace for trace in lines if trace.name == "tuned lens")
    assert tuned.x == (0, 1)  # what is unknown is not drawn


def test_quality_of_nothing_known_says_so():
    assert "No lens" in quality_by_layer(QUALITY.assign(kl=float("nan"))).layout.annotations[0].text


POINTS = pd.DataFrame(
    [
        {"model": model, "word": word, "along": x, "probability": p}
        for model in ("base", "distilled")
        for word in ("4 (36)", HOSTILE)
        for x, p in enumerate((0.5, None, 1e-30))
    ]
)


def test_followed_tokens_have_a_line_a_model_and_none_where_they_are_unknown():
    figure = followed_over_layers(POINTS, selected=1, title="at chunk 3")
    assert len(figure.data) == 4 and figure.data[0].x == (0, 2) and figure.data[0].y[0] == 0.5
    assert figure.data[0].y[1] > 0 and figure.layout.yaxis.type == "log"  # a log axis has no 0
    assert not any("<img" in trace.name for trace in figure.data)
    assert "at chunk 3" in figure.layout.xaxis.title.text


def test_along_the_text_the_unit_is_said():
    assert followed_along(POINTS, selected=1, unit="token", title="at layer 2").layout.xaxis.title.text.startswith(
        "token"
    )
    assert followed_along(POINTS.head(0), selected=1, unit="token", title="x").layout.annotations


@pytest.mark.parametrize(
    ("token", "seen"), [(" the", "␣the"), ("\n", "↵"), ("\t\u2003", "⇥␣"), ("", "(no text)"), ("\u202e", "\\u202e")]
)
def test_every_space_of_a_token_is_seen(token, seen):
    assert visible(token) == seen
