"""Figures show exactly the numbers they are given, count what they leave out, and say so when there is nothing."""

import math

import numpy as np
import pandas as pd
import pytest

from app.figures.chunk import answers_before_and_after, kl_curves, profile
from app.figures.latent_map import OTHERS, Colour, latent_map
from app.figures.overview import accuracy_by_level
from app.shell.vocabulary import METRICS
from tests.app.conftest import traced_ids

KL = METRICS["counterfactual_importance_kl"]
DIFFERENCE = METRICS["counterfactual_importance_accuracy"]
OF_KL, OF_DIFFERENCE = Colour(KL.label, KL.unit), Colour(DIFFERENCE.label, DIFFERENCE.unit, signed=True)
OF_WORDS = Colour("Model", of_words=True)


def says(figure, words: str) -> bool:
    return any(words in (annotation.text or "") for annotation in figure.layout.annotations)


# The latent map


def test_the_map_draws_every_chunk_once_where_it_lies(points):
    figure = latent_map(points, axes=("UMAP 1", "UMAP 2"), colour=None, path=points.head(0), selected=None)
    drawn = {
        chunk: (x, y) for trace in figure.data for chunk, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert drawn == {row.chunk_id: (row.x, row.y) for row in points.itertuples()}


def test_the_map_coloured_by_a_metric_counts_the_unknown_and_never_draws_them_as_zero(points):
    figure = latent_map(points, axes=("a", "b"), colour=OF_KL, path=points.head(0), selected=None)
    assert sorted(traced_ids(figure)) == sorted(points["chunk_id"])
    hollow = [trace for trace in figure.data if trace.name == "unknown (3)"]
    assert {chunk for trace in hollow for chunk in trace.customdata} == set(points["chunk_id"][points["value"].isna()])
    assert {trace.marker.symbol for trace in hollow} == {"circle-open"}
    colours = [value for trace in figure.data if trace not in hollow for value in trace.marker.color]
    assert sorted(colours) == sorted(points["value"].dropna())


def test_a_signed_metric_has_a_scale_centred_on_zero(points):
    figure = latent_map(
        points.assign(value=points["value"] - 2),
        axes=("a", "b"),
        colour=OF_DIFFERENCE,
        path=points.head(0),
        selected=None,
    )
    scaled = [trace.marker for trace in figure.data if trace.marker.cmin is not None]
    assert scaled and all(marker.cmin == -marker.cmax for marker in scaled)


def test_the_map_coloured_by_words_has_one_colour_for_each_and_grey_for_the_rest(points):
    said = points.assign(value=["base", "<b>reasoner</b>", OTHERS] * 9 + [None] * 3)
    figure = latent_map(said, axes=("a", "b"), colour=OF_WORDS, path=points.head(0), selected=None)
    assert sorted(traced_ids(figure)) == sorted(points["chunk_id"])
    names = {trace.name: set(trace.marker.color.split()) for trace in figure.data}
    assert set(names) == {"base (9)", "&lt;b&gt;reasoner&lt;/b&gt; (9)", "others (9)", "unknown (3)"}
    assert len(set(map(frozenset, names.values()))) == 4 - (names["others (9)"] == names["unknown (3)"])
    hovers = " ".join(hover for trace in figure.data for hover in trace.hovertext)
    assert hovers.count("Model: base") == 9 and hovers.count("Model: unknown") == 3 and "<b>reasoner" not in hovers


def test_a_value_stands_in_the_hover_and_the_scale_of_no_metric_may_begin_above_zero(points):
    norm = points.assign(value=100.0 + points["x"])
    figure = latent_map(norm, axes=("a", "b"), colour=Colour("Norm", "norm"), path=points.head(0), selected=None)
    assert {trace.marker.cmin for trace in figure.data} == {norm["value"].min()}
    assert all("Norm: " in hover for trace in figure.data for hover in trace.hovertext)


def test_a_few_values_far_from_all_others_do_not_take_the_whole_scale(points):
    far = points.assign(value=[1000.0, *(1.0 + k / 100 for k in range(len(points) - 1))])
    many = pd.concat([far, *[far.iloc[1:]] * 4], ignore_index=True)
    figure = latent_map(many, axes=("a", "b"), colour=Colour("Steepness"), path=points.head(0), selected=None)
    (bar,) = {trace.marker.colorbar.title.text for trace in figure.data if trace.marker.showscale}
    assert {trace.marker.cmax < 2 for trace in figure.data} == {True} and "largest 2 % alike" in bar


@pytest.mark.parametrize("colour", [None, OF_KL])
def test_chunks_that_are_not_lit_are_dimmed_and_not_hidden(points, colour):
    figure = latent_map(points, axes=("a", "b"), colour=colour, path=points.head(0), selected=None)
    faint = {chunk for trace in figure.data if trace.marker.opacity < 0.5 for chunk in trace.customdata}
    assert faint == set(points["chunk_id"][~points["lit"]])
    assert sorted(traced_ids(figure)) == sorted(points["chunk_id"])


def test_the_path_of_the_selected_cot_runs_in_reading_order(points):
    path = points[points["cot_id"] == "c1"]
    figure = latent_map(points, axes=("a", "b"), colour=None, path=path, selected="c1_0004")
    line = next(trace for trace in figure.data if trace.mode == "lines")
    assert list(line.x) == list(path["x"]) and list(line.y) == list(path["y"])
    ring = next(trace for trace in figure.data if trace.name == "selected chunk")
    assert list(ring.customdata) == ["c1_0004"]


def test_a_map_in_three_dimensions_has_three_coordinates(points):
    figure = latent_map(points, axes=("a", "b", "c"), colour=None, path=points.head(4), selected=None)
    assert {trace.type for trace in figure.data} == {"scatter3d"}
    assert sorted(z for trace in figure.data if trace.customdata is not None for z in trace.z) == sorted(points["z"])


def test_fifty_thousand_points_are_drawn_by_webgl(points):
    many = pd.concat([points] * 1667, ignore_index=True).head(50_000)
    figure = latent_map(many, axes=("a", "b"), colour=None, path=many.head(0), selected=None)
    assert {trace.type for trace in figure.data} == {"scattergl"}
    assert sum(len(trace.x) for trace in figure.data) == 50_000


# One chunk


def test_answer_shares_are_of_the_rollouts_with_an_answer_and_the_silent_are_counted_beside():
    outcomes = pd.DataFrame(
        {
            "side": ["before", "before", "before", "after"],
            "cluster": ["54", "84", None, "54"],
            "is_correct": pd.array([True, False, None, True], dtype="boolean"),
            "n": [3, 1, 2, 5],
            "n_forced": [1, 1, 0, 0],
        }
    )
    bars = {trace.name: trace for trace in answers_before_and_after(outcomes).data}
    assert set(bars) == {"chunk resampled (n = 4, 2 without answer, 2 forced at the cap)", "chunk kept (n = 5)"}
    assert list(bars["chunk resampled (n = 4, 2 without answer, 2 forced at the cap)"].x) == [0.75, 0.25]
    assert list(bars["chunk kept (n = 5)"].x) == [1.0, 0.0]


def test_a_kl_curve_goes_through_its_points_and_its_fit_is_the_least_squares_quadratic():
    betas = np.linspace(-10, 10, 21)
    kl = 0.002 * betas**2 + 0.001 * betas + 0.01
    figure = kl_curves(curves_frame(betas, kl, steepness=0.002))
    marks, fit = figure.data[0], figure.data[1]
    assert list(marks.x) == list(betas) and list(marks.y) == list(kl)
    assert np.asarray(fit.y) == pytest.approx(0.002 * np.asarray(fit.x) ** 2 + 0.001 * np.asarray(fit.x) + 0.01)
    assert marks.name == "a chunk's own activation, |a| = 0.002"


def test_points_at_or_below_the_noise_floor_are_hollow_and_the_floor_is_drawn():
    betas = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    figure = kl_curves(curves_frame(betas, 1e-3 * betas**2, steepness=1e-3, floor=1e-3))
    assert list(figure.data[0].marker.symbol) == ["circle", "circle-open", "circle-open", "circle-open", "circle"]
    assert list(figure.data[-1].y) == [1e-3, 1e-3] and "noise floor" in figure.data[-1].name


def test_an_unknown_steepness_is_not_named():
    betas = np.array([-1.0, 1.0])
    assert kl_curves(curves_frame(betas, betas**2, steepness=math.nan)).data[0].name == "a chunk's own activation"


def curves_frame(betas, kl, *, steepness: float, floor: float = 1e-6) -> pd.DataFrame:
    row = {
        "kind": "per_chunk",
        "betas": betas,
        "kl": kl,
        "noise_floor": floor,
        "steepness": steepness,
        "unit": "rms",
        "n_tokens": 5,
    }
    return pd.DataFrame([row])


def test_the_profile_has_a_bar_for_every_known_value_and_a_hollow_mark_for_every_unknown_one(points):
    chunks = points.head(10).assign(category=lambda rows: rows["category"].fillna("untagged"))
    bars, unknown = profile(chunks, KL, selected="c0_0002").data
    assert list(bars.y) == list(chunks["value"].dropna())
    assert list(unknown.customdata) == list(chunks["chunk_id"][chunks["value"].isna()])
    assert list(bars.marker.line.width).index(2) == list(bars.customdata).index("c0_0002")


def test_accuracy_by_level_shows_share_interval_and_counts_and_leaves_out_what_nobody_judged():
    levels = pd.DataFrame(
        {
            "model": ["m", "m", "m"],
            "level": pd.array([1, 2, None], dtype="Int64"),
            "n": [10, 0, 4],
            "n_correct": [5, 0, 4],
            "low": [0.2, np.nan, 0.5],
            "high": [0.8, np.nan, 1.0],
        }
    )
    trace = accuracy_by_level(levels).data[0]
    assert list(trace.x) == ["level 1", "unknown"] and list(trace.y) == [0.5, 1.0]
    assert [words.strip() for words in trace.text] == ["5 / 10", "4 / 4"]
    assert list(trace.error_y.array) == pytest.approx([0.3, 0.0]) and list(trace.error_y.arrayminus) == pytest.approx(
        [0.3, 0.5]
    )


# Nothing to show


def test_an_empty_frame_gives_a_figure_that_says_so(points):
    none = points.head(0)
    assert says(latent_map(none, axes=("a", "b"), colour=None, path=none, selected=None), "No chunk")
    assert says(kl_curves(pd.DataFrame()), "not been steered")
    assert says(
        answers_before_and_after(pd.DataFrame({"side": [], "cluster": [], "is_correct": [], "n": []})), "No rollout"
    )
    assert says(profile(none, KL, selected=None), "unknown for every chunk")
    assert says(accuracy_by_level(pd.DataFrame({"n": []})), "No accuracy")


# Untrusted text


def test_what_a_model_wrote_means_itself_in_hovers(points):
    first = latent_map(points, axes=("a", "b"), colour=None, path=points.head(0), selected=None)
    hovers = " ".join(hover for trace in first.data for hover in trace.hovertext)
    assert "&lt;b&gt;bold&lt;/b&gt; &#36;x&#36;" in hovers and "<b>bold" not in hovers and "$x$" not in hovers


def test_the_curves_of_the_chosen_direction_stand_out_where_there_are_any():
    betas = np.linspace(-2, 2, 5)
    rows = pd.concat(
        [curves_frame(betas, betas**2, steepness=1.0).assign(kind=kind) for kind in ("per_chunk", "random")]
    )
    opacity = {
        trace.name.split(",")[0]: trace.opacity
        for trace in kl_curves(rows, direction="random").data
        if trace.mode == "markers"
    }
    assert opacity["random"] == 1.0 > opacity["a chunk's own activation"]
    assert all(trace.opacity == 1.0 for trace in kl_curves(rows, direction="pca").data if trace.mode == "markers")
