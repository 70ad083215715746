"""The steering figures show the numbers they are given, with their controls and intervals, and leave out and count what
is unknown.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest

from app.figures.steering import (
    accuracy_by_arm,
    answers_by_arm,
    dose_panels,
    dose_response,
    kl_at,
    kl_curve,
)
from app.shell.theme import ACCENT, CORRECT, MISSING, UNKNOWN, WRONG
from app.shell.vocabulary import ARMS, REWORDED_ARMS
from backend.importance.outcomes import arm_summary
from backend.importance.outcomes import dose_response as dose_rows
from backend.statistics.bands import control_band
from backend.statistics.changepoint import changepoint
from backend.statistics.intervals import wilson

BETAS = [-4.0, -2.0, 0.0, 2.0, 4.0]
SQUARES = [beta**2 / 10 for beta in BETAS]


def curve(**changes) -> dict:
    fit = {"a": 0.1, "b": 0.0, "c": 0.0, "r2": 1.0}
    return {"betas": BETAS, "kl": SQUARES, "fit": fit, "noise_floor": 0.4, "n_tokens": 14, "unit": "rms"} | changes


def trace(figure, start: str):
    return next(one for one in figure.data if (one.name or "").startswith(start))


def names(figure) -> str:
    return " · ".join(one.name for one in figure.data if one.name and one.showlegend is not False)


def words(figure) -> str:
    return " · ".join(annotation.text for annotation in figure.layout.annotations)


def lines_at(figure) -> list[float]:
    return [shape.x0 for shape in figure.layout.shapes if shape.type == "line"]


# KL(β)


def test_the_curve_shows_every_measured_point_and_those_at_or_below_the_floor_are_hollow():
    figure = kl_curve(curve(), beta=3.0, controls=None)
    points = trace(figure, "measured")
    assert list(points.x) == BETAS and list(points.y) == SQUARES
    assert list(points.marker.symbol) == ["circle", "circle-open", "circle-open", "circle-open", "circle"]
    assert set(trace(figure, "noise floor").y) == {0.4}
    assert "mean of 14 tokens" in points.name
    assert figure.layout.xaxis.title.text == "β (RMS of the residual stream)"
    assert figure.layout.yaxis.title.text == "KL(steered ‖ unsteered), nats"


def test_the_drawn_fit_is_the_one_that_was_given_and_an_unknown_fit_is_not_drawn():
    given = {"a": 0.2, "b": -0.1, "c": 0.3, "r2": 0.9}
    fit = trace(kl_curve(curve(fit=given), beta=1.0, controls=None), "fit")
    assert np.asarray(fit.y) == pytest.approx(0.2 * np.square(fit.x) - 0.1 * np.asarray(fit.x) + 0.3)
    assert "|a| = 0.2" in fit.name and "R² = 0.90" in fit.name
    for unknown in (None, dict.fromkeys(given), dict.fromkeys(given, math.nan)):
        assert "fit" not in names(kl_curve(curve(fit=unknown), beta=1.0, controls=None))


def test_the_rings_stand_on_the_lines_between_measured_points_at_beta_and_at_minus_beta():
    skew = [5.0, 1.0, 0.0, 2.0, 8.0]
    figure = kl_curve(curve(kl=skew), beta=3.0, controls=None)
    ring, mirrored = trace(figure, "as set"), trace(figure, "sign-flipped")
    assert (ring.x[0], ring.y[0], ring.marker.color) == (3.0, pytest.approx(5.0), ACCENT)
    assert (mirrored.x[0], mirrored.y[0]) == (-3.0, pytest.approx(3.0))
    assert (trace(figure, "β = 0").x[0], trace(figure, "β = 0").y[0]) == (0.0, 0.0)
    assert lines_at(figure) == [3.0]
    assert "β = +3: 5 nats" in words(figure) and "sign-flipped: 3" in words(figure)


def test_at_beta_0_there_is_one_ring_and_no_mirror_image():
    figure = kl_curve(curve(), beta=0.0, controls=None)
    assert (
        trace(figure, "as set").x[0] == 0 and "sign-flipped" not in words(figure) and "β = 0: 0 nats" in words(figure)
    )


def test_beyond_the_measured_betas_nothing_is_read_off():
    assert math.isnan(kl_at(5.0, np.array(BETAS), np.array(SQUARES)))
    figure = kl_curve(curve(), beta=5.0, controls=None)
    assert "β = +5: not measured" in words(figure) and not [
        one for one in figure.data if one.name in ("as set", "sign-flipped")
    ]


def test_unknown_points_are_absent_and_counted():
    points = trace(kl_curve(curve(kl=[1.6, None, 0.0, math.nan, 1.6]), beta=4.0, controls=None), "measured")
    assert list(points.x) == [-4.0, 0.0, 4.0] and "2 β unknown" in points.name


def test_the_band_spans_the_random_directions_around_their_median_whatever_the_order_of_beta():
    rng = np.random.default_rng(0)
    kl, betas = rng.random((5, 4)), [2.0, -1.0, 0.0, 1.0]
    band, order = control_band(betas, kl.tolist()), np.argsort(betas)
    assert list(band.betas) == sorted(betas) and band.n_unknown == 0
    assert np.array_equal(band.low, kl.min(0)[order]) and np.array_equal(band.high, kl.max(0)[order])
    assert np.array_equal(band.median, np.median(kl, axis=0)[order])


def test_the_legend_states_how_many_random_directions_there_are_and_what_is_unknown_of_them():
    controls = {"betas": BETAS, "kl": [[0.1, None, 0, 1, None], [0.3, 0.2, 0, 2, None], [0.2, 0.4, 0, 3, None]], "k": 3}
    figure = kl_curve(curve(), beta=2.0, controls=controls)
    band = trace(figure, "3 random, same norm")
    assert "4 values unknown" in band.name and 4.0 not in band.x
    assert list(trace(figure, "median").y) == pytest.approx([0.2, 0.3, 0, 2])
    assert "random" not in names(kl_curve(curve(), beta=2.0, controls=None))


def test_a_band_of_which_nothing_is_known_is_not_drawn():
    controls = {"betas": BETAS, "kl": [[None] * 5], "k": 1}
    assert "random" not in names(kl_curve(curve(), beta=2.0, controls=controls))


# Arms


def answers() -> pd.DataFrame:
    columns = ["arm", "cluster", "n", "is_correct", "total", "silent"]
    rows = [
        ("base", "54", 3, True, 6, 2),
        ("base", "84", 1, False, 6, 2),
        ("changed", "54", 1, True, 5, 0),
        ("changed", "<b>7</b>", 4, None, 5, 0),
        ("random", "54", 2, True, 2, 0),
    ]
    return pd.DataFrame(rows, columns=columns)


def test_answer_shares_are_of_those_with_an_answer_and_the_silent_are_counted_in_the_legend():
    figure = answers_by_arm(answers())
    bars = {one.name: one for one in figure.data if one.showlegend is False}
    ticks = list(figure.layout.yaxis.ticktext)
    assert ticks == ["54 ✓", "&lt;b&gt;7&lt;/b&gt;", "84 ✗"]
    assert list(bars["base"].x) == [0.75, 0, 0.25]
    assert list(bars["changed"].x) == [0.2, 0.8, 0]
    assert list(bars["random"].x) == [1, 0, 0]
    assert all(list(bar.marker.color) == [CORRECT, UNKNOWN, WRONG] for bar in bars.values())
    assert names(figure) == "unsteered (n = 4, 2 without answer) · steered (n = 5) · random directions (n = 2)"


def test_each_arm_has_a_hatch_of_its_own_in_the_bars_and_in_the_legend():
    hatches = {}
    for one in answers_by_arm(answers()).data:
        hatches.setdefault(one.legendgroup, set()).add(one.marker.pattern.shape)
    assert all(len(shapes) == 1 for shapes in hatches.values())
    assert len(set.union(*hatches.values())) == len(hatches) == 3


def test_rare_answers_share_one_bar_without_a_verdict():
    frame = pd.DataFrame(
        {"arm": "base", "cluster": [str(k) for k in range(11)], "n": 1, "is_correct": False, "total": 11, "silent": 0}
    )
    figure = answers_by_arm(frame)
    assert list(figure.layout.yaxis.ticktext)[-1] == "3 other answers"
    assert list(figure.data[0].x)[-1] == pytest.approx(3 / 11) and list(figure.data[0].marker.color)[-1] == UNKNOWN


def samples(arm: str, verdicts: list, *, beta: float | None = None) -> pd.DataFrame:
    n = len(verdicts)
    return pd.DataFrame(
        {
            "arm": arm,
            "beta": beta,
            "sample": range(n),
            "text": "It is so.",
            "answer": ["1" if v else None for v in verdicts],
            "cluster": ["1" if v else None for v in verdicts],
            "is_correct": pd.array(verdicts, dtype="boolean"),
            "finish": "eos",
            "n_tokens": [10 + number for number in range(n)],
            "reflection_words": 0,
            "repetition": 0.1,
            "compression_ratio": 1.0,
        }
    )


def test_accuracy_is_drawn_with_its_wilson_interval_and_its_counts():
    summaries = arm_summary(pd.concat([samples("base", [True, True, False, None]), samples("changed", [False] * 4)]))
    figure = accuracy_by_arm(json.loads(json.dumps(summaries)))
    points = figure.data[0]
    interval = wilson(2, 3)
    assert list(points.x) == pytest.approx([2 / 3, 0]) and list(points.text) == ["2 / 3", "0 / 4"]
    assert points.x[0] + points.error_x.array[0] == pytest.approx(interval.high)
    assert points.x[0] - points.error_x.arrayminus[0] == pytest.approx(interval.low)
    assert list(figure.layout.yaxis.ticktext) == ["unsteered<br>1 of 4 not judged", "steered"]


def test_an_arm_that_was_not_judged_keeps_its_line_without_a_point():
    figure = accuracy_by_arm(arm_summary(pd.concat([samples("base", [True, False]), samples("random", [None, None])])))
    assert list(figure.data[0].y) == [0]
    assert list(figure.layout.yaxis.ticktext)[1] == "random directions<br>2 of 2 not judged"


# Dose and response


@pytest.fixture
def doses() -> list[dict]:
    table = pd.concat([samples("changed", [True, beta < 2, None], beta=beta) for beta in BETAS])
    return json.loads(json.dumps(dose_rows(table, dict(zip(BETAS[1:], SQUARES[1:], strict=True)))))


def test_length_is_drawn_in_thinking_tokens_where_they_were_counted(doses):
    counted = [row | {"thinking": {"value": 5.0, "low": 4.0, "high": 6.0, "n": 3}} for row in doses]
    assert [panel.name for panel in dose_panels(doses)][2] == "length, tokens"
    panel = dose_panels(counted)[2]
    assert panel.name == "thinking, tokens" and [found["value"] for found in panel.found] == [5.0] * len(doses)


def test_each_panel_shows_its_quantity_along_beta_with_its_interval(doses):
    figure = dose_response(doses, {})
    for number, key in enumerate(("kl", "accuracy", "length", "degenerate_share")):
        drawn = figure.data[number]
        assert list(drawn.x) == BETAS
        if key == "kl":
            assert list(drawn.y) == [None, *SQUARES[1:]]
            continue
        assert list(drawn.y) == [row[key]["value"] for row in doses]
        assert np.add(drawn.y, drawn.error_y.array) == pytest.approx([row[key]["high"] for row in doses])
        assert np.subtract(drawn.y, drawn.error_y.arrayminus) == pytest.approx([row[key]["low"] for row in doses])
    assert {axis.matches for axis in figure.select_xaxes()} == {"x4", None}


def test_an_unknown_dose_has_no_point_breaks_the_line_and_is_counted(doses):
    doses[1]["accuracy"] = {"value": None, "low": None, "high": None, "n": 0}
    assert [panel.n_unknown for panel in dose_panels(doses)] == [1, 1, 0, 0]
    figure = dose_response(doses, {})
    assert figure.data[1].y[1] is None and not figure.data[1].connectgaps
    assert "KL unknown at 1 of 5 β" in words(figure) and "accuracy unknown at 1 of 5 β" in words(figure)


def test_a_quantity_that_is_unknown_everywhere_says_so(doses):
    assert "KL unknown at every β" in words(dose_response([row | {"kl": None} for row in doses], {}))


def test_zero_is_notched_in_every_panel(doses):
    notches = [shape.xref for shape in dose_response(doses, {}).layout.shapes if shape.x0 == shape.x1 == 0]
    assert sorted(notches) == ["x", "x2", "x3", "x4"]


def tested(step=None, reason=None, n=15) -> dict:
    return {"step": step, "reason": reason, "n": n, "n_doses": 5}


def test_a_step_stands_in_the_middle_of_its_gap_in_the_panel_of_its_own_quantity_with_its_p_and_n(doses):
    step = vars(changepoint(BETAS, [[10, 11, 12]] * 3 + [[90, 91, 92]] * 2))
    assert (step["x_before"], step["x_after"]) == (0.0, 2.0)
    weak = step | {"p": 0.4, "low": None, "high": None}
    figure = dose_response(doses, {"length": tested(step), "degenerate_share": tested(weak, n=9)})
    lines = {shape.xref: (shape.x0, shape.line.color) for shape in figure.layout.shapes if shape.line.dash == "dash"}
    assert lines == {"x3": (1.0, ACCENT), "x4": (1.0, MISSING)}
    assert f"steps between β = 0 and +2, p = {step['p']:.2g}, n = 15" in words(figure)
    assert "steps between β = 0 and +2, p = 0.4, n = 9" in words(figure)
    bands = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert bands == [(step["low"], step["high"])]


def test_a_panel_without_a_step_says_why_and_has_no_line(doses):
    figure = dose_response(doses, {"accuracy": tested(reason="it takes more of them", n=0)})
    assert "no step tested: it takes more of them" in words(figure)
    assert not [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]


def test_arms_of_a_new_wording_are_called_by_what_was_done_to_the_sentence():
    arms = {arm: samples(arm, [True, False]) for arm in ("base", "changed", "same", "paraphrase")}
    figure = accuracy_by_arm(arm_summary(pd.concat(arms.values())), REWORDED_ARMS)
    assert list(figure.layout.yaxis.ticktext) == list(REWORDED_ARMS.values())
    assert "base" not in (*ARMS.values(), *REWORDED_ARMS.values())


def test_the_unit_of_beta_is_on_the_axis_where_it_is_known(doses):
    assert dose_response(doses, {}, unit="norm").layout.xaxis4.title.text == "β (norm of the residual stream)"


# Nothing to show


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (lambda: kl_curve({"betas": BETAS, "kl": [], "unit": "rms"}, beta=1.0, controls=None), "has not been measured"),
        (lambda: kl_curve(curve(kl=[None] * 5), beta=1.0, controls=None), "has not been measured"),
        (lambda: answers_by_arm(pd.DataFrame([])), "No continuation gave an answer"),
        (lambda: accuracy_by_arm({}), "no continuation was judged"),
        (lambda: accuracy_by_arm(arm_summary(samples("base", [None]))), "no continuation was judged"),
        (lambda: dose_response([], {}), "No dose"),
    ],
)
def test_without_data_the_figure_says_so(figure, said):
    assert said in words(figure()) and not figure().data
