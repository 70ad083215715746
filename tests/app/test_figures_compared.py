"""Features side by side: a mark where each fires, what it adds to each model, and tokens that several promote."""

import pandas as pd
import pytest

from app.figures.compared_features import COLOURS, at_once, firing, overlay, written

HOSTILE = "<img src=x onerror=alert(1)>"
CELLS = pd.DataFrame(
    {
        "feature": [3, 3, 9, 5],
        "place": [10, 12, 12, 11],
        "code": [1.0, -2.0, 4.0, 9.0],
        "base": [0.5, -1.0, 3.0, 1.0],
        "distilled": [1.0, -2.0, 8.0, 1.0],
    }
)
LABELS = {10: "token 10", 11: HOSTILE, 12: HOSTILE}


def drawn(**how):
    given = {
        "names": {9: "9 · " + HOSTILE, 3: "3"},
        "panels": {"base": "base", "distilled": "reasoner"},
        "places": range(10, 13),
        "labels": LABELS,
    }
    return overlay(CELLS, **(given | how))


def test_each_feature_has_a_mark_where_it_fires_with_what_it_adds_to_each_model():
    figure = drawn()
    marks = [trace for trace in figure.data if trace.legendgroup != "together"]
    assert [(list(one.x), list(one.y)) for one in marks] == [
        ([12], [3.0]),
        ([10, 12], [0.5, -1.0]),
        ([12], [8.0]),
        ([10, 12], [1.0, -2.0]),
    ]
    assert [one.marker.color for one in marks[:2]] == list(COLOURS[:2]) and marks[0].marker.symbol != marks[
        1
    ].marker.symbol
    assert list(marks[1].error_y.arrayminus) == [0.5, 0] and list(marks[1].error_y.array) == [0, 1.0]  # stems end at 0
    assert [one.name.endswith("(n = 2)") for one in marks] == [False, True, False, True]
    assert "<img" not in "".join([one.name for one in marks] + [text for one in marks for text in one.hovertext])


def test_where_two_fire_on_one_token_stands_a_cross_and_features_that_are_not_chosen_count_not():
    (base, distilled) = [trace for trace in drawn().data if trace.legendgroup == "together"]
    assert list(base.x) == list(distilled.x) == [12] and base.showlegend and not distilled.showlegend
    assert at_once(CELLS).to_dict() == {12: 2}
    assert not [one for one in drawn(names={3: "3"}).data if one.legendgroup == "together"]


def test_what_does_not_fire_there_says_so_and_one_model_has_one_panel():
    assert "None of these features" in drawn(names={7: "7"}).layout.annotations[0].text
    one = overlay(
        CELLS.rename(columns={"base": "model"}),
        names={3: "3"},
        panels={"model": "model"},
        places=range(10, 13),
        labels=LABELS,
    )
    assert len(one.data) == 1 and "yaxis2" not in one.layout.to_plotly_json()
    assert drawn(marked=range(11, 13)).layout.shapes[0].x0 == 10.5


def test_both_models_have_one_scale_that_holds_every_mark():
    ranges = [axis.range for axis in (drawn().layout.yaxis, drawn().layout.yaxis2)]
    assert ranges[0] == ranges[1] and ranges[0][0] < -2 and ranges[0][1] > 8
    cells = CELLS.assign(base=[0.5, 1.0, 3.0, 1.0], distilled=[1.0, 2.0, 8.0, 1.0])
    figure = overlay(cells, names={9: "9"}, panels={"base": "base"}, places=range(10, 13), labels=LABELS)
    assert figure.layout.yaxis.range[0] == 0


def test_a_feature_that_fires_nowhere_on_the_text_is_counted():
    (_, silent) = [one for one in drawn(names={3: "3", 7: "7"}, panels={"base": "base"}).data]
    assert silent.name == "7 (n = 0)" and list(silent.x) == [None]


def test_shares_of_categories_stand_on_one_line_a_category_with_their_intervals():
    rows = pd.DataFrame(
        [
            {"category": name, "feature": feature, "n_tokens": 50, "n_fired": n, "frequency": n / 50}
            for name, fired in (("deductive", (1, 30)), (HOSTILE, (2, 3)))
            for feature, n in zip((3, 9), fired, strict=True)
        ]
    )
    rows = rows.assign(low=rows["frequency"] - 0.01, high=rows["frequency"] + 0.02)
    figure = firing(rows, names={3: "3", 9: "9"}, categories={"deductive": "Deductive"})
    assert list(figure.layout.yaxis.ticktext)[1] == "Deductive" and "&lt;img" in figure.layout.yaxis.ticktext[0]
    first, second = figure.data
    assert list(first.x) == [0.02, 0.04] and list(second.x) == [0.6, 0.06]
    assert [round(line) for line in first.y] == [round(line) for line in second.y] == [1, 0] and first.y != second.y
    assert list(second.error_x.array) == pytest.approx([0.02, 0.02])
    assert list(second.error_x.arrayminus) == pytest.approx([0.01, 0.01])
    assert "none of the features" in firing(rows.iloc[:0], names={3: "3"}, categories={}).layout.annotations[0].text


def logits():
    rows = [
        {"feature": feature, "model_id": model, "side": side, "rank": rank, "token": token, "effect": effect}
        for feature, tokens in ((3, [" Wait", HOSTILE]), (9, [" so", " Wait"]))
        for model in ("a", "b")
        for side in ("top", "bottom")
        for rank, (token, effect) in enumerate(zip(tokens, (2.0, 1.0), strict=True))
    ]
    return pd.DataFrame(rows)


def test_the_tokens_that_each_promotes_stand_in_a_grid_and_shared_ones_are_bold():
    figure = written(logits(), features={3: "feature 3", 9: "feature 9"}, roles={"a": "base", "b": "distilled"})
    assert len(figure.data) == 4 and [list(one.x) for one in figure.data] == [[1.0, 2.0]] * 4  # the strongest on top
    titles = [one.text for one in figure.layout.annotations]
    assert titles == ["feature 3, base", "feature 9, base", "feature 3, reasoner", "feature 9, reasoner"]
    words = list(figure.layout.yaxis.ticktext)
    assert words[1] == "<b>' Wait'</b>" and words[0].startswith("'&lt;img")
    assert list(figure.layout.yaxis2.ticktext) == ["<b>' Wait'</b>", "' so'"]
    assert "not known" in written(logits().iloc[:0], features={3: "3"}, roles={"a": "base"}).layout.annotations[0].text
