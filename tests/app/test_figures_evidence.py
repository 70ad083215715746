"""The scatter of geometry against importance, what chance would draw on it, and the figures about all pairs, metrics
and convergence.
"""

import math

import numpy as np
import pandas as pd
import pytest

from app.figures.evidence import agreement_matrix, convergence, effects
from app.figures.steepness import split, statistics_lines, steepness_and_importance
from app.shell.vocabulary import METRICS, column
from backend.evidence.association import association
from backend.evidence.curve_bands import Drawn, Parameter
from backend.evidence.sample import sample_of
from backend.evidence.within import UNKNOWN_WITHIN, within
from backend.statistics.bands import chance_band, shuffled_within_cots
from tests.app.conftest import traced_ids

KL = METRICS["counterfactual_importance_kl"]
USUAL = {
    "unit": "rms",
    "place": "per_chunk directions, layer 15",
    "logarithmic": False,
    "intervals": False,
    "selected": None,
}


@pytest.fixture
def cloud(points) -> pd.DataFrame:
    """The points with their steepness as x."""
    return points.assign(x=points["steepness"])


def association_of(cloud):
    return association(
        cloud[["cot_id", "problem_id", "x"]].assign(y=cloud["value"]), n_bootstrap=50, n_permutations=50, seed=0
    )


def within_of(cloud):
    frame = cloud[["cot_id", "problem_id", "x"]].assign(y=cloud["value"])
    return within(sample_of(frame), n_bootstrap=50, n_permutations=50, seed=0)


STEEPNESS = column("steepness")


def scatter(cloud, column=STEEPNESS, **how):
    return steepness_and_importance(cloud, column, KL, association_of(cloud), within_of(cloud), **(USUAL | how))


def known(cloud) -> pd.DataFrame:
    return cloud[cloud["value"].notna() & cloud["x"].notna()]


def notes(figure) -> str:
    return " ".join(note.text for note in figure.layout.annotations)


# The scatter


def test_the_cloud_holds_every_chunk_whose_two_values_are_known(cloud):
    drawn = {
        chunk: (x, y)
        for trace in scatter(cloud).data
        for chunk, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert drawn == {row.chunk_id: (row.x, row.value) for row in known(cloud).itertuples()}


def fitted(**changes) -> Drawn:
    x = np.array([-0.5, 0.5, 1.0, 2.0])
    parts = {"x": x, "y": 1 + x, "low": x, "high": 2 + 100 * x} | changes
    return Drawn("inverse", 40, 7, {"A": Parameter(1.0, 0.5, 2.0)}, **parts, n_draws=200)


def test_the_curve_is_drawn_with_its_band_and_without_the_origin_dashed_and_leaves_the_marks_in_view(cloud):
    figure = scatter(cloud, curve=fitted(), away=fitted(y=np.zeros(4)))
    (line,) = [trace for trace in figure.data if trace.name == "A/(x + x₀) + c, n = 40"]
    assert list(line.x) == [-0.5, 0.5, 1.0, 2.0] and list(line.y) == [0.5, 1.5, 2.0, 3.0]
    (band,) = [trace for trace in figure.data if trace.name == "95 % over 7 problems"]
    assert list(band.y) == [-48, 52, 102, 202, 2.0, 1.0, 0.5, -0.5] and band.fill == "toself"
    (dashed,) = [trace for trace in figure.data if trace.name == "the same away from the origin"]
    assert dashed.line.dash == "dash" and set(dashed.y) == {0}
    low, high = figure.layout.yaxis.range
    assert low < known(cloud)["value"].min() and known(cloud)["value"].max() < high < 100
    logarithmic = scatter(cloud, curve=fitted(), logarithmic=True)
    (line,) = [trace for trace in logarithmic.data if trace.name == "A/(x + x₀) + c, n = 40"]
    assert list(line.x) == [0.5, 1.0, 2.0]
    assert not [trace for trace in scatter(cloud, curve=Drawn("inverse", 3, 1)).data if "A/(x" in str(trace.name)]


def test_what_is_not_drawn_is_counted_by_its_reason(cloud):
    shown = split(cloud, logarithmic=True)
    assert (shown.n_no_x, shown.n_no_importance, shown.n_not_on_log) == (2, 2, 1)
    assert len(shown.drawn) + 2 + 2 + 1 == len(cloud)
    assert (
        "not drawn: 2 without x, 2 without importance, 1 at 0 or below"
        in scatter(cloud, logarithmic=True).layout.title.text
    )


def test_the_statistics_and_every_n_are_on_the_figure(cloud):
    found, text = association_of(cloud), scatter(cloud).layout.title.text
    assert f"ρ within CoTs = {within_of(cloud).rho:.2f}".replace("-", "−") in text and "by chance [" in text
    assert f"Spearman ρ over all chunks = {found.spearman:.2f}".replace("-", "−") in text
    assert "n = 26 chunks of 3 CoTs of 2 problems" in text
    assert "exactly 0: 1 importances, 1 of x" in text and "unknown: 4" in text
    assert "hollow: 1 below the floor" in text and "per_chunk directions, layer 15" in text


def test_the_axes_bear_the_column_and_the_metric_with_their_units(cloud):
    figure = scatter(cloud)
    assert figure.layout.xaxis.title.text == "Swept steepness |a|, nats per β² (β in RMS of the residual stream)"
    assert figure.layout.yaxis.title.text == "Counterfactual importance (KL, nats)"
    other = scatter(cloud, column("curvature"), unit="none")
    assert other.layout.xaxis.title.text == "Curvature, radians"
    assert column("different_trajectories_fraction").label == "Different trajectories"


def test_chunks_below_the_noise_floor_are_hollow_and_without_a_sweep_nothing_is_said_of_the_floor(cloud):
    hollow = [
        chunk
        for trace in scatter(cloud).data
        if str(trace.marker.symbol).endswith("-open")
        for chunk in trace.customdata
    ]
    assert hollow == ["c0_0007"]
    assert "floor" not in scatter(cloud.assign(below_floor=None)).layout.title.text


def test_intervals_are_drawn_from_their_lower_to_their_upper_end(cloud):
    lines = next(trace for trace in scatter(cloud, intervals=True).data if trace.mode == "lines")
    rows = known(cloud)
    assert list(lines.y[0::3]) == list(rows["ci_low"]) and list(lines.y[1::3]) == list(rows["ci_high"])
    assert np.isnan(np.asarray(lines.y[2::3], dtype=float)).all()


def test_an_unknown_correlation_is_said_to_be_unknown(cloud):
    found = association_of(cloud.assign(x=1.0))
    assert math.isnan(found.spearman)
    assert statistics_lines(found, UNKNOWN_WITHIN)[:2] == [
        "ρ within CoTs unknown",
        "Spearman ρ over all chunks unknown",
    ]


def test_an_empty_cloud_says_so(cloud):
    assert "No chunk has both" in notes(scatter(cloud.head(0)))


# Chance


def test_shuffling_deals_importance_with_its_interval_anew_within_each_cot(cloud):
    before, after = known(cloud), known(shuffled_within_cots(cloud, 1))
    assert (
        after["chunk_id"].tolist() == before["chunk_id"].tolist()
        and after["value"].tolist() != before["value"].tolist()
    )
    what = ["cot_id", "value", "ci_low", "ci_high"]
    assert sorted(map(tuple, after[what].to_numpy())) == sorted(map(tuple, before[what].to_numpy()))
    pd.testing.assert_frame_equal(shuffled_within_cots(cloud, 1), shuffled_within_cots(cloud, 1))
    assert shuffled_within_cots(cloud, 2)["value"].tolist() != shuffled_within_cots(cloud, 1)["value"].tolist()


def test_a_shuffled_cloud_says_so_and_gives_no_statistics_of_the_true_one(cloud):
    figure = scatter(shuffled_within_cots(cloud, 4), shuffle=4)
    assert "shuffled, seed 4" in notes(figure)
    assert "seed 4" in figure.layout.title.text and "ρ" not in figure.layout.title.text


def many(*, law: float) -> pd.DataFrame:
    """Four CoTs of 60 chunks; importance falls with x by `law`."""
    rng = np.random.default_rng(5)
    x = rng.exponential(1.0, 240)
    y = rng.exponential(1.0, 240) * np.exp(-law * x)
    return pd.DataFrame({"cot_id": np.repeat(list("abcd"), 60), "x": x, "value": y})


def test_the_band_of_chance_is_left_by_a_law_and_holds_what_has_none():
    law, none = chance_band(many(law=2.0)), chance_band(many(law=0.0))
    assert (law["mean"] > law["high"]).iloc[0] and (law["mean"] < law["low"]).iloc[-1]
    assert none["mean"].between(none["low"], none["high"]).sum() >= 9
    assert law["n"].sum() == 240 and (law["x_low"] <= law["x_high"]).all()


def test_the_band_is_flat_where_cots_do_not_differ_and_follows_them_where_they_do():
    cloud = many(law=0.0).sort_values("cot_id")
    shifted = cloud.assign(
        x=cloud["x"] + 10 * (cloud["cot_id"] == "d"), value=cloud["value"] + 5.0 * (cloud["cot_id"] == "d")
    )
    band = chance_band(shifted)
    assert band["low"].iloc[-1] > band["high"].iloc[0]  # what CoTs alone give is chance too


def test_the_band_and_the_means_are_drawn_as_steps_over_their_groups(cloud):
    band = chance_band(cloud)
    shade, means = scatter(cloud, band=band).data[:2]
    assert len(band) == 3 and list(means.x) == list(band[["x_low", "x_high"]].to_numpy().ravel())
    assert list(means.y) == list(np.repeat(band["mean"], 2)) and max(shade.y) == band["high"].max()
    assert min(scatter(cloud, band=band, logarithmic=True).data[0].x) > 0
    assert chance_band(cloud.head(10)).empty


# All pairs


@pytest.fixture
def pairs() -> pd.DataFrame:
    rows = pd.DataFrame(
        {"within": [-0.4, np.nan, 0.1], "within_low": [-0.5, np.nan, -0.1], "within_high": [-0.3, np.nan, 0.3]}
    )
    rows = rows.assign(within_null_low=-0.15, within_null_high=0.12, verdict=["inverse", None, "none"], n=[200, 2, 150])
    return rows.assign(spearman=[0.2, np.nan, 0.1], ci_low=0.1, ci_high=0.3)


def test_every_known_pair_has_its_interval_over_the_band_of_chance(pairs):
    figure = effects(pairs, ["a", "b", "<c>"])
    chance, law, none, pooled = figure.data
    assert list(chance.base) == [-0.15, -0.15] and list(chance.x) == pytest.approx([0.27, 0.27])
    assert list(law.x) == [-0.4] and list(law.customdata) == [0] and list(none.customdata) == [2]
    assert list(pooled.x) == [0.2, 0.1] and "over all chunks 0.20 [0.10, 0.30]" in law.hovertext[0]
    assert list(law.error_x.array) == pytest.approx([0.1]) and none.marker.symbol == "circle-open"
    assert "2 of 3 pairs · 1 unknown" in figure.layout.xaxis.title.text
    assert list(figure.layout.yaxis.ticktext) == ["a", "&lt;c&gt;"]
    assert "No pair" in notes(effects(pairs.head(0), []))


def test_pairs_beyond_the_most_that_are_drawn_are_counted(pairs):
    figure = effects(pd.concat([pairs] * 20, ignore_index=True), ["x"] * 60)
    assert "24 of 60 pairs · 16 more in the table · 20 unknown" in figure.layout.xaxis.title.text


# Metrics


def test_the_matrix_has_every_pair_once_and_says_n_and_interval_on_hover():
    rows = pd.DataFrame(
        [("a", "a", 1.0, 9), ("a", "b", -0.2, 8), ("b", "a", -0.2, 8), ("b", "b", 1.0, 8), ("c", "c", np.nan, 0)],
        columns=["a", "b", "spearman", "n"],
    ).assign(ci_low=-0.5, ci_high=0.1, n_problems=3)
    figure = agreement_matrix(rows, {"b": "metric b", "a": "metric a"})
    assert figure.data[0].z.tolist() == [[1.0, -0.2], [-0.2, 1.0]]
    assert list(figure.layout.yaxis.ticktext) == ["metric b  <b>1</b>", "metric a  <b>2</b>"]
    assert "ρ = −0.20, 95 % [−0.50, 0.10]<br>n = 8 chunks of 3 problems" in figure.data[0].hovertext[0][1]
    assert "Fewer than two" in notes(agreement_matrix(rows, {"a": "metric a"}))


def test_convergence_shows_value_band_and_half_width_and_unknown_leaves_gaps():
    rows = pd.DataFrame(
        {"n": [4, 8, 16], "value": [np.nan, 0.5, 0.4], "low": [np.nan, 0.1, 0.3], "high": [np.nan, 0.9, 0.5]}
    )
    rows["half_width"] = [np.nan, 0.4, 0.1]
    figure = convergence(rows, KL, band="95 % of orders", target=0.1)
    band, value, half = figure.data
    assert list(band.x) == [8, 16, 16, 8] and list(band.y) == [0.9, 0.5, 0.3, 0.1] and band.name == "95 % of orders"
    assert np.isnan(value.y[0]) and list(half.y)[1:] == [0.4, 0.1]
    assert figure.layout.shapes[0].y0 == 0.1
    assert "unknown at every number" in notes(convergence(rows.head(1), KL, band=""))


# Untrusted text


def test_what_a_model_wrote_means_itself_in_hovers(cloud):
    hovers = " ".join(hover for trace in scatter(cloud).data for hover in trace.hovertext)
    assert "&lt;b&gt;bold&lt;/b&gt; &#36;x&#36;" in hovers and "<b>bold" not in hovers
    assert sorted(traced_ids(scatter(cloud))) == sorted(known(cloud)["chunk_id"])
