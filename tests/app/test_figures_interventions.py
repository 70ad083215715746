"""Shares by arm are drawn as they were counted: one point an arm, its interval, and nothing where nothing is known."""

import math

import pandas as pd
import pytest

from app.figures.intervention_effects import shares_by_arm
from backend.statistics.intervals import wilson


def row(model: str, arm: str, label: str, solved: tuple[int, int], loops: tuple[int, int]) -> dict:
    found = {"model": model, "arm": arm, "label": label}
    for name, (k, n) in (("solved", solved), ("degenerate", loops)):
        low, high = wilson(k, n)
        found |= {name: k / n if n else math.nan, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
    return found


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("base", "base", "unedited", (5, 24), (1, 24)),
            row("base", "changed", "×1.5 <b>", (4, 24), (0, 24)),
            row("distilled", "base", "unedited", (20, 24), (0, 24)),
            row("distilled", "reconstruct", "reconstruction alone", (0, 24), (24, 24)),
            row("distilled", "changed", "×1.5 <b>", (0, 0), (3, 12)),
        ]
    )


def points(figure, title: str) -> dict[str, tuple]:
    """Label to (share, text, interval) of the panel with this title."""
    axis = next(k for k, note in enumerate(figure.layout.annotations) if note.text == title)
    name = "x" if axis == 0 else f"x{axis + 1}"
    labels = figure.layout.yaxis.ticktext
    for trace in figure.data:
        if trace.xaxis == name and "markers" in trace.mode:
            ends = zip(trace.x - trace.error_x.arrayminus, trace.x + trace.error_x.array, strict=True)
            return {
                labels[y]: (x, text, end) for x, y, text, end in zip(trace.x, trace.y, trace.text, ends, strict=True)
            }
    return {}


def test_each_arm_of_each_model_has_its_share_with_wilsons_interval(rows):
    figure = shares_by_arm(rows)
    assert [note.text for note in figure.layout.annotations] == [
        "base: solved",
        "base: degenerate",
        "distilled: solved",
        "distilled: degenerate",
    ]
    found = points(figure, "distilled: solved")
    assert found["unedited"][:2] == (20 / 24, "20 / 24") and found["unedited"][2] == pytest.approx(
        tuple(wilson(20, 24))
    )
    assert found["reconstruction alone"][2] == pytest.approx((0, wilson(0, 24).high))
    assert set(found) == {"unedited", "reconstruction alone"}  # of the changed arm nothing was judged
    assert points(figure, "distilled: degenerate")["×1.5 &lt;b&gt;"][1] == "3 / 12"
    assert set(points(figure, "base: solved")) == {"unedited", "×1.5 &lt;b&gt;"}


def test_the_base_arms_share_is_drawn_through_the_others(rows):
    lines = [trace for trace in shares_by_arm(rows).data if trace.mode == "lines"]
    assert [line.x[0] for line in lines] == [5 / 24, 1 / 24, 20 / 24, 0]


@pytest.mark.parametrize("known", [False, True])
def test_without_anything_judged_the_figure_says_so(rows, known):
    empty = rows.assign(solved=math.nan) if known else rows.head(0)
    figure = shares_by_arm(empty)
    assert not figure.data and "Nothing has been judged" in figure.layout.annotations[0].text


def test_the_band_of_the_controls_is_shaded_behind_its_change_within_what_a_share_can_be(rows):
    figure = shares_by_arm(
        rows.assign(band_low=[None, -0.2, None, None, None], band_high=[None, 0.4, None, None, None])
    )
    (shade,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (shade.x0, shade.x1) == (0.0, 0.4) and shade.y0 < figure.layout.yaxis.ticktext.index(
        "×1.5 &lt;b&gt;"
    ) < shade.y1
    assert shade.layer == "below" and len(shares_by_arm(rows).layout.shapes) == 0
