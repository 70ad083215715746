"""Figures of cosine tails show what their rows say, and what is not known is absent."""

import numpy as np
import pandas as pd
import pytest

from app.figures.cosine_tails import (
    LAW,
    NULL,
    RANDOM,
    SET,
    mass_by_frequency,
    mass_by_layer,
    ratio_by_layer,
    tail_histograms,
)
from app.geometry import cosine_frames, cosine_words
from backend.feature_geometry.exact_law import exceedance
from backend.feature_geometry.trained_on import GAUSSIAN, MODEL, SOURCES
from tests.cosine_sets import autoencoders, rows_of

D = 24


@pytest.fixture(scope="module")
def stored():
    return rows_of(kind="mlp_out", layers=(0, 2, 5), d=D)


@pytest.fixture(scope="module")
def tails(stored):
    return cosine_frames.lines_of(stored["cosine_tails"])


@pytest.fixture(scope="module")
def exceedances(stored):
    return cosine_frames.lines_of(stored["cosine_exceedances"])


def at(rows, subset="all", **values):
    kept = rows["subset"] == subset
    for name, value in values.items():
        kept &= rows[name] == value
    return rows[kept]


def test_a_bin_of_the_histogram_is_its_share_of_the_pairs_and_a_click_says_which(tails):
    frame = cosine_frames.histogram(at(tails))
    own = frame[frame["line"] == SET]
    (first, *_) = at(tails, layer=0, role="base").itertuples()
    of_first = own[own["mark"].str.startswith(first.set_id)]
    assert of_first["share"].sum() == pytest.approx((sum(first.negative) + sum(first.positive)) / first.n_pairs)
    held = {f"{first.set_id}|{k + 1}" for k, n in enumerate(first.positive) if n}
    assert held == set(of_first.loc[of_first["cosine"] > 0, "mark"])
    assert set(frame.loc[frame["line"] != SET, "mark"]) == {""}


def test_the_red_line_is_the_exact_law_in_every_panel(tails):
    frame = cosine_frames.histogram(at(tails))
    panels = frame["panel"].unique()
    assert len(panels) == 3
    for panel in panels:
        law = frame[(frame["panel"] == panel) & (frame["line"] == LAW)]
        assert law["share"].sum() == pytest.approx(float(exceedance(0.1, D)), rel=1e-3)
    figure = tail_histograms(frame, selected=None, left_out="")
    red = [trace for trace in figure.data if trace.line.color == RANDOM]
    assert len(red) == 6 and sum(trace.showlegend for trace in red) == 1


def test_no_line_is_drawn_across_empty_bins(tails):
    frame = cosine_frames.histogram(at(tails, layer=0))
    own = frame[(frame["line"] == SET) & (frame["cosine"] > 0) & (frame["series"] == "base")]
    cut = frame.drop(own.index[3:5])
    figure = tail_histograms(cut, selected=None, left_out="")
    line = next(trace for trace in figure.data if trace.name == "base" and trace.x[0] > 0)
    assert line.y[3] is None and None not in line.y[:3] and len(line.customdata) == len(line.x)


def test_the_bin_that_was_clicked_is_ringed(tails):
    frame = cosine_frames.histogram(at(tails))
    mark = frame.loc[frame["line"] == SET, "mark"].iloc[3]
    rings = [
        trace
        for trace in tail_histograms(frame, selected=mark, left_out="").data
        if trace.mode == "markers" and trace.x
    ]
    assert len(rings) == 1 and rings[0].x[0] == frame["cosine"][frame["mark"] == mark].iloc[0]


def test_every_fifth_layer_is_drawn_where_there_are_many():
    assert cosine_frames.drawn_layers(list(range(26))) == [0, 5, 10, 15, 20, 25]
    assert cosine_frames.drawn_layers([9, 20, 31]) == [9, 20, 31]
    assert cosine_frames.drawn_layers(list(range(42))) == [0, 5, 10, 15, 20, 25, 30, 35, 40]


def test_a_tail_mass_has_its_interval_its_law_and_its_draw(exceedances):
    rows = at(exceedances, mark="0.1")
    points = cosine_frames.mass(rows)
    assert set(points["line"]) == {SET, NULL, LAW}
    for row in rows[rows["line"] == SET].itertuples():
        point = points[(points["series"] == row.series) & (points["layer"] == row.layer)].iloc[0]
        assert (point.value, point.low, point.high) == (row.share, row.ci_low, row.ci_high)
    assert points.loc[points["line"] == LAW, "value"].tolist() == pytest.approx([float(exceedance(0.1, D))] * 3)
    assert len(mass_by_layer(points, axis="y", x_axis="x").data) >= 5


def test_a_mass_of_zero_is_an_open_mark_at_the_foot_and_an_unknown_one_is_absent(exceedances):
    points = cosine_frames.mass(at(exceedances, mark="0.1"))
    zero = points.assign(value=points["value"].where(points["layer"] != 2, 0.0).where(points["layer"] != 5))
    zero.loc[zero["value"] == 0, "low"] = 0.0
    base = next(
        trace for trace in mass_by_layer(zero, axis="y", x_axis="x").data if trace.name == zero["series"].iloc[0]
    )
    assert base.x == (0, 2) and list(base.marker.symbol) == ["circle", "circle-open"] and base.y[1] > 0


def test_sets_of_one_layer_stand_side_by_side_with_their_intervals(exceedances):
    points = cosine_frames.mass(at(exceedances, mark="0.1", layer=5))
    figure = mass_by_layer(points, axis="y", x_axis="x")
    assert len({trace.x[0] for trace in figure.data}) == points["series"].nunique() == len(figure.data)
    drawn = [trace for trace in figure.data if trace.error_y.array]
    assert len(drawn) == 2 and drawn[0].error_y.array[0] > 0 and "layer 5" in figure.layout.xaxis.title.text


def test_the_ratio_of_rows_that_correspond_leaves_the_same_ones_out(exceedances):
    found = cosine_frames.ratios(at(exceedances, mark="0.1"))
    assert found["layer"].tolist() == [0, 2, 5] and found["series"].str.endswith("same rows left out of both").all()
    for row in found.itertuples():
        own = at(exceedances, mark="0.1", layer=row.layer, line=SET).set_index("role")["share"]
        assert row.value == pytest.approx(own["tuned"] / own["base"]) and row.low < row.value < row.high
    assert len(ratio_by_layer(found, axis="y", x_axis="x").data) == 1
    others = exceedances.assign(source=exceedances["set_id"])  # of two dictionaries nothing corresponds
    assert not cosine_frames.ratios(at(others, mark="0.1"))["series"].str.contains("same rows").any()


def test_quarters_are_told_with_how_often_their_features_fire():
    stored = rows_of(kind="dictionary", layers=(3,), d=D, fires=True)
    rows = cosine_frames.lines_of(stored["cosine_exceedances"])
    points = cosine_frames.quarters(rows[rows["mark"] == "0.1"])
    series = points["series"].iloc[0]
    assert points.loc[points["series"] == series, "quarter"].tolist() == ["rarest", "second", "third", "most often"]
    assert len(mass_by_frequency(points, axis="y").data) == 3  # base, tuned, law
    assert "of the pairs of the rarest quarter" in cosine_words.of_quarters(points)


def test_autoencoders_of_several_seeds_make_one_line_beside_those_trained_on_nulls():
    rows = cosine_frames.lines_of(rows_of(autoencoders((0, 3), D))["cosine_exceedances"])
    rows = at(rows, mark="0.1", line=SET)
    points = cosine_frames.mass(rows)
    named = points.loc[points["line"] == SET, "series"].unique()
    called = {name: f"base, trained on {source.label}" for name, source in SOURCES.items()}
    assert set(named) == set(called.values())
    own = rows[(rows["trained_on"] == "model") & (rows["layer"] == 3)]["share"]
    point = points[(points["series"] == called[MODEL]) & (points["layer"] == 3)].iloc[0]
    assert (point.value, point.low, point.high) == pytest.approx((own.mean(), own.min(), own.max()))
    assert "3 seeds from" in point.told
    clouds = points[(points["series"] == called[GAUSSIAN]) & (points["layer"] == 3)].iloc[0]
    assert clouds.high < point.low  # what was trained on no clusters has none


def test_empty_rows_give_a_figure_that_says_so():
    empty = pd.DataFrame(columns=["panel", "line", "series", "cosine", "share", "mark", "told"])
    assert "No pair" in tail_histograms(empty, selected=None, left_out="").layout.annotations[0].text
    none = pd.DataFrame(columns=["line", "series", "layer", "quarter", "value", "low", "high", "told"])
    for figure in (
        mass_by_layer(none, axis="y", x_axis="x"),
        ratio_by_layer(none, axis="y", x_axis="x"),
        mass_by_frequency(none, axis="y"),
    ):
        assert figure.layout.annotations[0].text


# ---- words


def test_the_sentence_counts_the_sets_above_the_law_and_above_their_draws(exceedances):
    rows = at(exceedances, mark="0.1")
    said = cosine_words.of_tails(rows)
    base = rows[(rows["role"] == "base") & (rows["line"] == SET)]
    above = int((base["ci_low"] > base["expected"]).sum())
    assert f"lies above that in {above} and below it in" in said and "of 3 sets" in said
    assert "Gaussian rows with its own mean and covariance have" in said


def test_of_one_law_the_sentence_finds_no_tails(exceedances):
    rows = at(exceedances, mark="0.1", line=SET)
    same = rows.assign(share=rows["expected"], ci_low=rows["expected"] / 2, ci_high=rows["expected"] * 2)
    assert "above that in 0 and below it in 0 of 3 sets" in cosine_words.of_tails(same)
    assert cosine_words.of_tails(rows.iloc[:0]) == "No tail mass is known of these rows."


def test_ratios_are_told_with_what_chance_would_leave_out():
    frame = pd.DataFrame(
        {
            "series": "tuned over base",
            "layer": [1, 2, 3],
            "value": [2.0, 0.5, np.nan],
            "low": [1.5, 0.3, np.nan],
            "high": [2.5, 0.8, np.nan],
        }
    )
    said = cosine_words.of_ratios(frame)
    for words in ("above 1 with its 95 % interval at layer 1", "below 1 at layer 2", "0.1 of these 2", "At 1 layers"):
        assert words in said


def test_left_out_rows_are_counted(stored):
    said = cosine_words.of_rows(stored["cosine_sets"])
    assert "n = 6 sets" in said and "how often they fire is unknown" in said and "repeat an earlier one" in said
