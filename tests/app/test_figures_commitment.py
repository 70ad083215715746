"""What the figure of the commitment draws: each curve over the chunks read, its control, and where it changes."""

import pandas as pd

from app.figures.commitment import Curve, commitment_curves, which_first

CURVES = [
    Curve("resample", "text", "#0070C3", "commits at 3, Bayes factor 90"),
    Curve("m:logit:29", "base, the model itself", "#7D5BF7", "unknown, Bayes factor 0.4", "dash"),
]
POINTS = pd.DataFrame(
    {
        "curve": ["resample"] * 3 + ["m:logit:29"] * 2,
        "n_read": [2, 0, 1, 0, 5],
        "value": [0.9, 0.1, None, 0.2, 0.8],
        "low": [0.8, 0.0, None, None, None],
        "high": [0.97, 0.2, None, None, None],
        "told": ["c", "a", "b", "d", "e"],
        "chunk_id": ["c_2", "c_0", "c_1", "c_0", None],
    }
)
LOGS = pd.DataFrame({"curve": "m:logit:29", "n_read": [0, 5], "logprob": [-9.0, -0.2], "other": [None, -3.0]})
GAPS = pd.DataFrame(
    {
        "curve": "resample",
        "first": [0, 1],
        "last": [1, 2],
        "posterior": [0.02, 0.98],
        "is_credible": [False, True],
        "is_likeliest": [False, True],
    }
)
NONE = {name: frame.iloc[:0] for name, frame in (("points", POINTS), ("logs", LOGS), ("gaps", GAPS))}


def drawn(points=POINTS, logs=LOGS, gaps=GAPS, curves=CURVES, selected=None):
    return commitment_curves(points, logs, gaps, curves, 5, selected=selected, axis="share of its own answer")


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_a_curve_is_drawn_in_order_with_what_is_unknown_left_out():
    text = named(drawn(), "text")
    assert text.x.tolist() == [0, 2] and text.y.tolist() == [0.1, 0.9]
    assert list(text.customdata) == ["c_0", "c_2"]
    assert named(drawn(), "base, the model itself").line.dash == "dash"


def test_only_a_curve_with_an_interval_has_a_band():
    (band,) = [trace for trace in drawn().data if trace.fill == "toself"]
    assert list(band.x) == [0, 2, 2, 0] and list(band.y) == [0.2, 0.97, 0.8, 0.0] and band.mode == "lines"


def test_the_control_stands_dotted_beside_the_log_probability_and_not_without_one():
    dotted = [trace for trace in drawn().data if trace.line.dash == "dot"]
    assert [trace.x.tolist() for trace in dotted] == [[5]]
    assert len(drawn(logs=NONE["logs"]).layout.height and drawn(logs=NONE["logs"])._grid_ref) == 2


def test_a_known_change_has_its_set_and_its_mark_and_an_unknown_one_words_alone():
    figure = drawn(selected=2)
    (bar,) = [trace for trace in figure.data if trace.line.width == 8]
    assert bar.x[0] > 1 and bar.x[1] < 2 and bar.opacity > 0.9
    (mark,) = [trace for trace in figure.data if trace.marker.symbol == "diamond" and len(trace.x)]
    assert list(mark.x) == [1.5]
    assert [note.text.partition("</span> ")[2] for note in figure.layout.annotations] == [
        "base, the model itself: unknown, Bayes factor 0.4",
        "text: commits at 3, Bayes factor 90",
    ]
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(1, 2)}


def test_the_axis_says_how_many_chunks_there_are_and_nothing_is_said_of_nothing():
    assert "of 5" in drawn().layout.xaxis3.title.text
    assert "Nothing" in drawn(NONE["points"], NONE["logs"], NONE["gaps"], []).layout.annotations[0].text


def test_chains_are_counted_by_which_curve_is_earlier():
    rows = pd.DataFrame({"pair": ["text – forced answers"], "n_first": [24], "n_same": [56], "n_second": [0]})
    figure = which_first(rows)
    assert [trace.x.tolist() for trace in figure.data] == [[24], [56], [0]]
    assert figure.data[2].text == ("",)
    assert "No chain" in which_first(rows.iloc[:0]).layout.annotations[0].text
