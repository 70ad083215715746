"""The heat maps of features along a text: cells hold what each model gets, and what was typed or written is only ever
text.
"""

import pandas as pd

from app.components.token_text import tinted
from app.figures.chain_features import chain_heat

HOSTILE = "<img src=x onerror=alert(1)>"
CELLS = pd.DataFrame(
    {
        "feature": [3, 3, 9, 5],
        "place": [10, 12, 12, 11],
        "code": [1.0, 2.0, 4.0, 9.0],
        "base": [0.5, 1.0, 0.0, 1.0],
        "distilled": [1.0, 2.0, 8.0, 1.0],
    }
)
LABELS = {10: "token 10", 11: HOSTILE, 12: HOSTILE}


def heat(**how):
    given = {
        "rows": {9: "9 · " + HOSTILE, 3: "3"},
        "panels": {"base": "base", "distilled": "distilled: " + "x"},
        "places": range(10, 13),
        "labels": LABELS,
        "ticks": {10: "1"},
        "columns": "tokens",
    }
    return chain_heat(CELLS, **(given | how))


def test_signed_codes_have_a_scale_with_two_sides_and_others_begin_at_0():
    assert heat().layout.coloraxis.cmin == 0 and heat().layout.coloraxis.cmid is None
    signed = CELLS.assign(code=[-1.0, 2.0, 4.0, 9.0], base=[-0.5, 1.0, 0.0, 1.0])
    figure = chain_heat(
        signed, rows={3: "3"}, panels={"base": "base"}, places=range(10, 13), labels=LABELS, ticks={}, columns="tokens"
    )
    assert figure.layout.coloraxis.cmid == 0 and figure.layout.coloraxis.cmin is None
    assert [list(row) for row in figure.data[0].z] == [[-0.5, None, 1.0]]


def test_a_token_is_tinted_by_the_size_of_a_signed_code_and_its_hover_has_the_sign():
    assert [one[1] for one in tinted(["a", "b", "c"], {0: -4.0, 1: 2.0}, 0)] == [1.0, 0.5, 0.0]
    assert tinted(["a"], {0: -4.0}, 0)[0][2].endswith("f -4")


def test_each_model_has_a_map_of_what_it_gets_on_one_scale():
    figure = heat()
    base, distilled = (trace for trace in figure.data if trace.type == "heatmap")
    assert [list(row) for row in base.z] == [[None, None, 0.0], [0.5, None, 1.0]]
    assert [list(row) for row in distilled.z] == [[None, None, 8.0], [1.0, None, 2.0]]
    assert base.coloraxis == distilled.coloraxis == "coloraxis" and base.x == (10, 11, 12)
    assert figure.layout.yaxis.categoryarray[-1].startswith("9 · ")  # from the top
    assert len([trace for trace in heat(panels={"base": "model"}).data if trace.type == "heatmap"]) == 1


def test_invisible_marks_take_the_clicks():
    marks = [trace for trace in heat().data if trace.type == "scattergl"]
    assert [list(trace.customdata) for trace in marks] == [["3.10", "3.12", "9.12"]] * 2
    assert (
        marks[0].marker.color == "rgba(0,0,0,0)"
        and "adds 8" in marks[1].hovertext[2]
        and "f 4" in marks[1].hovertext[2]
    )


def test_the_place_and_the_feature_looked_at_are_marked():
    figure = heat(marked=range(12, 13), selected=3)
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(11.5, 12.5)} and len(figure.layout.shapes) == 2
    assert figure.layout.yaxis.categoryarray[0] == "▸ 3"


def test_words_are_text_and_an_empty_map_says_so():
    assert "<img" not in str(heat().to_dict()) and "&lt;img" in str(heat().to_dict())
    assert not heat(rows={1: "1"}).data and "fires here" in heat(places=range(0, 5)).layout.annotations[0].text


def test_tokens_are_tinted_by_share_of_the_largest_code_shown():
    assert tinted([" a", "b", "c"], {4: 1.0, 5: 4.0, 9: 8.0}, 4) == [
        [" a", 0.25, "token 4, f 1"],
        ["b", 1.0, "token 5, f 4"],
        ["c", 0.0, "token 6, f 0"],
    ]
    assert tinted(["a"], {}, 0) == [["a", 0.0, "token 0, f 0"]]
