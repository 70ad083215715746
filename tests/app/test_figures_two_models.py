"""The figure of both models along β draws each quantity with its interval, over the least and most of random rows."""

import numpy as np
import pytest

from app.figures.two_models import QUANTITIES, curve_of, two_models_along
from app.steering.both_models import said

STEPS = [-4.0, 0.0, 4.0]


def row(beta: float, shift: float, **other) -> dict:
    found = {
        name: {"value": shift + beta, "low": shift + beta - 1, "high": shift + beta + 1, "n": 4} for name in QUANTITIES
    }
    change = {"value": 10 * shift + beta, "low": 0.0, "high": 20.0, "n": 4, "p": 0.125}
    return {"beta": beta, "n": 4, **found, "kl": abs(beta), "thinking_change": change} | other


def model(role: str, shifts=(1.0, 2.0, 5.0)) -> dict:
    return {
        "role": role,
        "steps": STEPS,
        "rows": [row(beta, 3.0) for beta in STEPS],
        "controls": [[row(beta, shift) for beta in STEPS] for shift in shifts],
    }


def test_a_band_spans_the_random_rows_and_the_line_is_the_features():
    curve = curve_of(model("base"), "thinking")
    assert [found["value"] for found in curve.values] == [-1, 3, 7]
    assert (curve.lowest, curve.highest) == ([-3, 1, 5], [1, 5, 9])
    figure = two_models_along([model("base"), model("distilled")], axis="β")
    lines = [one for one in figure.data if one.mode == "lines+markers"]
    assert len(lines) == 2 * len(QUANTITIES) and list(lines[0].y) == [-1, 3, 7]
    assert np.add(lines[0].y, lines[0].error_y.array).tolist() == [0, 4, 8]
    band = next(one for one in figure.data if one.fill == "toself")
    assert list(band.x) == [*STEPS, *STEPS[::-1]] and list(band.y) == [1, 5, 9, 5, 1, -3]
    assert "3 random rows of equal norm, least to most" in band.name
    titles = [note.text for note in figure.layout.annotations[:2]]
    assert titles == ["base · n = 4 at each β", "reasoner · n = 4 at each β"]


def test_what_is_unknown_is_said_and_never_drawn_as_zero():
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    unknown = model("base") | {"rows": [row(beta, 3.0, accuracy=nothing, kl=None) for beta in STEPS]}
    figure = two_models_along([unknown], axis="β")
    assert sum("unknown at every β" in note.text for note in figure.layout.annotations) == 2
    assert not two_models_along([], axis="β").data


def test_the_sentence_is_made_of_the_runs_numbers():
    words = said([model("base"), model("distilled", shifts=(9.0, 9.0))])
    assert "at +4 × its mean code the base thinks +34 [+0, +20] tokens (n = 4 pairs, p = 0.12)" in words
    assert "and 1 of 3 random rows move it as far; " in words and words.endswith("2 of 2 random rows move it as far.")


@pytest.mark.parametrize("value", [None])
def test_a_change_that_is_unknown_is_said_to_be(value):
    lost = model("base")
    lost["rows"][-1]["thinking_change"]["value"] = value
    assert said([lost]) == "Here in the base the change of thinking is unknown."


def test_no_axis_that_two_models_share_has_a_range_of_its_own():
    figure = two_models_along([model("base"), model("distilled")], axis="β")
    assert [axis.range for axis in figure.select_yaxes()] == [None] * 2 * len(QUANTITIES)
    shares = list(figure.select_yaxes(row=1 + list(QUANTITIES).index("accuracy")))
    assert [axis.autorangeoptions.include for axis in shares] == [(0, 1)] * 2
