"""All KL curves in one figure, kinds at equal norm, and random directions: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest

from app.figures.kl_curves import (
    all_curves,
    anisotropy_against_size,
    anisotropy_histogram,
    kinds_at_equal_norm,
    random_curves,
)
from app.shell.theme import ACCENT
from backend.geometry.anisotropy import Ratio
from backend.statistics.curves import mean_curves, quartile_rows, quartiles, ratios_to
from tests.backend.statistics.test_curves import BETAS, parabolas

CHANCE = Ratio(6.0, 3.0, 12.0)


@pytest.fixture
def curves() -> pd.DataFrame:
    steepness = np.linspace(1, 2, 12)
    return mean_curves(
        pd.concat(
            [
                parabolas(steepness),
                parabolas(steepness / 2, kind="random", directions=2),
                parabolas(steepness * 3, position="chunk"),
            ]
        )
    )


def drawn(curves, **how):
    return all_curves(curves, quartiles(curves), unit="rms", **({"selected": "c3", "logarithmic": False} | how))


def bundles(figure):
    return [trace for trace in figure.data if trace.customdata is not None and str(trace.name).startswith("chunks")]


def test_every_curve_of_a_kind_and_position_is_in_one_webgl_trace_with_gaps(curves):
    figure = drawn(curves)
    panels = bundles(figure)
    assert [trace.type for trace in panels] == ["scattergl"] * 3  # the random ones were not steered at the chunk
    assert sorted(trace.name for trace in panels) == ["chunks (12)"] * 3
    own = panels[0]
    pieces = {name: [y for y, at in zip(own.y, own.customdata, strict=True) if at == name] for name in own.customdata}
    for row in curves[(curves["kind"] == "per_chunk") & (curves["position"] == "anchor")].itertuples():
        assert pieces[row.chunk_id] == [*row.kl.tolist(), None]
    assert own.marker.opacity == 0 and "markers" in own.mode  # what a click finds


def test_the_selected_curve_and_the_median_are_strong_and_axes_are_shared(curves):
    figure = drawn(curves)
    strong = [trace for trace in figure.data if trace.name == "selected chunk"]
    assert len(strong) == 3 and {trace.line.color for trace in strong} == {ACCENT}
    median = next(trace for trace in figure.data if trace.name == "median over chunks")
    np.testing.assert_allclose(median.y, 1.5 * BETAS**2)
    axes = [(axis.matches, axis.anchor.replace("x", "y")) for axis in figure.select_yaxes()]
    shared = {matches for matches, _ in axes} - {None}
    assert len(shared) == 1 and [own for matches, own in axes if matches is None] == [*shared]
    assert sum(bool(trace.showlegend) for trace in strong) == 1 and drawn(curves, selected=None).data


def test_on_a_logarithmic_axis_what_is_0_is_a_gap(curves):
    figure = drawn(curves, logarithmic=True)
    assert {trace.y[2] for trace in bundles(figure)} == {None}  # at β = 0
    median = next(trace for trace in figure.data if trace.name == "median over chunks")
    assert np.isnan(median.y[2]) and np.isfinite(np.delete(median.y, 2)).all()
    assert figure.layout.yaxis.type == "log" and "log scale" in figure.layout.yaxis.title.text


def test_kinds_are_drawn_with_their_ratio_and_the_line_of_no_difference(curves):
    own = curves[curves["position"] == "anchor"]
    ratios = ratios_to(own, "random", seed=0)
    figure = kinds_at_equal_norm(quartiles(own), ratios, unit="rms", reference="random")
    (points,) = [trace for trace in figure.data if trace.error_y.array is not None and len(trace.x)]
    assert list(points.x) == [-2, -1, 1, 2] and list(points.y) == pytest.approx([2 / 1.05] * 4)
    assert figure.layout.shapes[0].y0 == 1 and "95 % over problems" in figure.layout.yaxis2.title.text
    assert any("n = 12" in str(trace.name) for trace in figure.data)


def test_random_curves_have_the_limit_and_floor_of_the_selected_chunk():
    epsilons = [0.1, 1.0, 10.0]
    rows = pd.DataFrame(
        [
            {
                "chunk_id": f"c{k}",
                "epsilons": epsilons,
                "random_kl": [k * 1e-3 * e**2 for e in epsilons],
                "noise_floor": 1e-9,
                "isotropic_steepness": 2e-3,
            }
            for k in range(1, 5)
        ]
    )
    over = pd.DataFrame(quartile_rows(rows["epsilons"], rows["random_kl"]))
    figure = random_curves(rows, over, unit="rms", selected="c2", n_random="16")
    limit = next(trace for trace in figure.data if "limit" in str(trace.name))
    assert list(limit.y) == pytest.approx([2e-5, 2e-3, 0.2])
    floor = next(trace for trace in figure.data if "noise floor" in str(trace.name))
    assert list(floor.y) == [1e-9, 1e-9] and "16 random directions" in figure.layout.yaxis.title.text
    median = next(trace for trace in figure.data if trace.name == "median over chunks")
    assert list(median.y) == pytest.approx([2.5e-5, 2.5e-3, 0.25])
    assert not [
        trace
        for trace in random_curves(rows, over, unit="rms", selected=None, n_random="16").data
        if trace.name == "selected chunk"
    ]


def ratios_of_chunks() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "chunk_id": ["a", "b", "c", "d"],
            "number": [1, 2, 3, 4],
            "text": ["one", "<b>two</b>", "three", "four"],
            "ratio": [2.0, 2.1, 500.0, np.nan],
            "is_clipped": [False, False, True, True],
            "mean_kl": [1e-3, 2e-3, 1e-6, 1e-3],
            "cv": [0.3, 0.4, 1.2, 0.5],
        }
    )


def test_the_histogram_counts_every_ratio_once_and_what_is_clipped_apart():
    figure = anisotropy_histogram(ratios_of_chunks(), expected=CHANCE, n_random="16")
    above, clipped = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(above.y) == 2 and sum(clipped.y) == 1 and "(1)" in clipped.name and "(2)" in above.name
    edges = np.log10([above.x[0] - above.width[0] / 2, above.x[0] + above.width[0] / 2])
    assert edges[1] - edges[0] == pytest.approx(1 / 8, rel=0.05)
    assert figure.layout.xaxis.type == "log" and {shape.x0 for shape in figure.layout.shapes} >= {1.0, 6.0, 3.0}
    assert "n = 3" in figure.layout.yaxis.title.text


def test_the_ratio_stands_against_the_mean_kl_coloured_by_the_variation():
    figure = anisotropy_against_size(ratios_of_chunks(), expected=CHANCE, selected="b", n_random="16")
    points = figure.data[0]
    assert list(points.customdata) == ["a", "b", "c"] and list(points.marker.color) == [0.3, 0.4, 1.2]
    assert list(points.marker.symbol) == ["circle", "circle", "triangle-up"] and "<b>two" not in points.hovertext[1]
    assert [trace.name for trace in figure.data].count("selected chunk") == 1


def test_nothing_to_draw_is_said(curves):
    def said(figure) -> str:
        return figure.layout.annotations[0].text

    none = curves.iloc[:0]
    assert "No chunk has been steered" in said(drawn(none))
    assert "No chunk has been steered" in said(
        kinds_at_equal_norm(quartiles(none), ratios_to(none, "random", seed=0), unit="rms", reference="random")
    )
    empty = ratios_of_chunks().iloc[:0]
    assert "No chunk has" in said(anisotropy_histogram(empty, expected=CHANCE, n_random="16"))
    assert "No chunk has" in said(anisotropy_against_size(empty, expected=CHANCE, selected=None, n_random="16"))
    columns = ["chunk_id", "epsilons", "random_kl", "noise_floor", "isotropic_steepness"]
    over = pd.DataFrame(columns=["beta", "low", "median", "high", "n"])
    assert "No finite steps" in said(
        random_curves(pd.DataFrame(columns=columns), over, unit="rms", selected=None, n_random="")
    )
