"""Influence drawn: where a value lies on its scale, what of a map is blank, and what a click says."""

import math

import numpy as np
import pandas as pd
import pytest

from app.figures.influence import (
    Panel,
    Scale,
    agreement,
    by_distance,
    categories,
    head_map,
    influence_map,
    received_curve,
    top_heads,
    ways_beside,
)

LOG = Scale("log", 1e-4, 10.0, "nats")
SIGNED = Scale("signed log", 1e-2, 10.0, "nats")
LINEAR = Scale("linear", 0.0, 0.8, "share")


def pairs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source_index": [0, 0, 1, 0],
            "target_index": [1, 2, 2, 3],
            "value": [1.0, 1e-9, 0.01, math.nan],
            "is_found": [True, False, True, False],
            "told": ["1 on 2", "1 on 3", "2 on 3", ""],
        }
    )


def answers(values) -> pd.DataFrame:
    return pd.DataFrame({"chunk_index": range(4), "value": values, "is_found": True, "told": "on the answer"})


@pytest.mark.parametrize("scale", [LOG, SIGNED, LINEAR], ids=lambda scale: scale.kind)
def test_a_scale_keeps_the_order_of_values_and_its_ticks_lie_on_it(scale):
    values = np.geomspace(1e-3, 8.0, 9) if scale.kind != "linear" else np.linspace(-0.8, 0.8, 9)
    assert (np.diff(scale.place(values)) >= 0).all()
    low, high = scale.bounds
    assert all(low - 1e-9 <= place <= high + 1e-9 for place in scale.ticks)
    assert np.isnan(scale.place([math.nan])[0]) and np.isnan(scale.strength([math.nan], 0.0)[0])


def test_a_signed_scale_is_the_same_on_either_side_and_flat_around_0():
    assert SIGNED.place([-3.0])[0] == -SIGNED.place([3.0])[0] and SIGNED.bounds == (-3.0, 3.0)
    assert SIGNED.place([0.0, 0.009, -0.009]).tolist() == [0, 0, 0]
    assert SIGNED.ticks[0.0] == "0"


def test_strength_runs_from_the_threshold_to_the_end_of_the_scale():
    assert LOG.strength([0.01, 10.0, 100.0, 0.001], 0.01).tolist() == [0, 1, 1, 0]
    assert LOG.strength([math.sqrt(0.1)], 0.01)[0] == pytest.approx(0.5)
    assert LINEAR.strength([-0.8, 0.4, 0.0], 0.0).tolist() == [1, 0.5, 0]
    assert LOG.strength([10.0], 50.0).tolist() == [1.0]  # a threshold beyond the scale


def test_a_map_is_blank_where_nothing_is_known_and_has_a_dot_where_noise_gives_as_much():
    figure = influence_map(pairs(), answers([0.1, None, 0.2, 0.3]), n_chunks=4, scale=LOG, title="KL", selected=1)
    heat, answered, dots, cells, of_answers = figure.data
    z = np.asarray(heat.z, dtype=float)
    assert z[1, 0] == pytest.approx(0.0) and z[2, 1] == pytest.approx(-2.0) and np.isfinite(z).sum() == 2
    assert list(cells.customdata) == ["0.1", "1.2"] and cells.marker.symbol == "square"
    assert list(dots.customdata) == ["0.2"] and dots.marker.symbol == "circle"
    assert answered.z[0][1] is None and list(of_answers.customdata) == ["0.answer", "2.answer", "3.answer"]
    assert (heat.zmin, heat.zmax) == LOG.bounds == (answered.zmin, answered.zmax)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # reading order downwards


def test_a_difference_of_nothing_is_faint_and_no_words_of_its_scale_stand_on_one_another():
    scale = Scale("signed log", 0.00526, 5.26, "nats")
    figure = influence_map(pairs(), answers([None] * 4), n_chunks=4, scale=scale, title="KL", selected=None)
    assert figure.data[0].colorscale[1][1].endswith("0.2)")
    places = sorted(scale.ticks)
    assert min(np.diff(places)) >= 0.9 and {"0", "−0.1", "1"} <= set(scale.ticks.values())
    assert list(LINEAR.ticks.values())[2] == "0"


def test_without_an_answer_there_is_no_row_for_it_and_nothing_is_said_to_be_nothing():
    figure = influence_map(pairs(), answers([None] * 4), n_chunks=4, scale=LOG, title="KL", selected=None)
    assert len(figure.data) == 3 and "answer" not in figure.layout.yaxis.ticktext
    empty = influence_map(pairs().iloc[:0], answers([None] * 4), n_chunks=4, scale=LOG, title="KL", selected=None)
    assert "No pair" in empty.layout.annotations[0].text


def test_ways_stand_side_by_side_on_equal_axes_and_one_that_knows_nothing_says_so():
    figure = ways_beside(
        [Panel("A", pairs(), LOG, ""), Panel("B", pairs(), LINEAR, ""), Panel("C", pairs().iloc[:0], LOG, "no <pair>")],
        n_chunks=4,
        selected=2,
    )
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range == figure.layout.xaxis3.range
    said = [annotation.text for annotation in figure.layout.annotations]
    assert said[:3] == ["A", "B", "C"] and "no &lt;pair&gt;" in said


def test_a_category_has_its_interval_its_null_and_its_place():
    rows = pd.DataFrame(
        {
            "model": ["base", "distilled", "base"],
            "category": ["a", "a", "b"],
            "label": ["A", "A", "B"],
            "n": 3,
            "n_problems": 2,
            "mean": [1.0, 2.0, None],
            "low": [0.5, 1.0, None],
            "high": [1.5, 3.0, None],
            "at_place": 0.7,
            "null_low": [0.6, None, None],
            "null_high": [0.9, None, None],
            "p": 0.1,
        }
    )
    figure = categories(rows, axis="KL")
    null, place, base = figure.data[:3]
    assert list(null.x) == [0.6, 0.9, None] and list(place.x) == [0.7]
    assert list(base.x) == [1.0] and list(base.error_x.array) == [0.5] and figure.layout.yaxis.ticktext == ("A",)
    assert "No category" in categories(rows.iloc[2:], axis="KL").layout.annotations[0].text


def test_a_curve_by_distance_has_a_band_only_where_an_interval_is_known():
    rows = pd.DataFrame(
        {
            "model": "base",
            "span": [0, 1, 2],
            "label": ["1", "2", "3"],
            "mean": [1.0, 0.5, 0.2],
            "low": [0.8, 0.4, None],
            "high": [1.2, 0.6, None],
            "n_problems": 2,
            "n_pairs": 9,
        }
    )
    band, line = by_distance(rows, axis="KL", is_log=True).data
    assert len(band.x) == 4 and list(line.y) == [1.0, 0.5, 0.2]


def heads() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [0, 1],
            "head": [1, 0],
            "kurtosis": [9.0, 4.0],
            "low": [8.0, 3.0],
            "high": [10.0, 5.0],
            "shuffled_low": [1.0, None],
            "shuffled_high": [2.0, None],
            "placed": [1.5, None],
            "rank": [1, 2],
        }
    )


def test_heads_stand_by_rank_and_a_click_names_layer_and_head():
    figure = top_heads(heads(), selected=(1, 0))
    assert list(figure.data[2].customdata) == ["0.1", "1.0"] and list(figure.data[0].x) == [1.0, 2.0, None]
    assert figure.data[2].marker.size == (8, 12)
    cells = head_map(heads(), selected=(1, 0), kept=[(0, 1)])
    assert list(cells.data[1].customdata) == ["0.1", "1.0"] and cells.data[0].z[0][0] is None
    assert cells.data[1].marker.symbol == ("circle", "square")


def test_a_chunk_with_none_so_far_after_it_has_no_mark():
    rows = pd.DataFrame(
        {
            "chunk_id": ["a", "b"],
            "chunk_index": [0, 1],
            "text": "<i>",
            "received": [0.1, None],
            "category": [None, "self_checking"],
        }
    )
    figure = received_curve(rows, selected="a")
    assert list(figure.data[0].customdata) == ["a"] and "&lt;i&gt;" in figure.data[0].text[0]
    assert "No chunk" in received_curve(rows.iloc[1:], selected=None).layout.annotations[0].text


def test_agreement_has_what_distance_alone_gives_beside_it():
    rows = pd.DataFrame(
        {
            "pair": ["A – B", "A – C"],
            "model": "base",
            "spearman": [0.5, None],
            "low": [0.2, None],
            "high": [0.7, None],
            "at_distance": [0.3, None],
            "p": [0.01, None],
            "n_cots": 4,
            "n_problems": 3,
            "n_pairs": 40,
        }
    )
    alone, own = agreement(rows).data
    assert list(alone.x) == [0.3] and list(own.x) == [0.5] and "p = 0.01" in own.text[0]
