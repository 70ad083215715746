"""Which kinds of chunk act furthest: means, what places give and nulls, each against a plain reference or a law."""

import math

import numpy as np
import pandas as pd
import pytest

from backend.influence.over_study import (
    by_category,
    by_distance,
    chunk_means,
    chunk_values,
    differences,
    disagreements,
    shared_heads,
)


def sources(n_cots: int = 12, n_chunks: int = 6, seed: int = 0) -> pd.DataFrame:
    """Rows of `influence_by_source`: every chunk but the last, each distance a span of its own."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {
                "model_id": "m",
                "chunk_id": f"c{cot}_{i}",
                "cot_id": f"c{cot}",
                "problem_id": f"p{cot // 2}",
                "place": i * 5 // n_chunks,
                "span": d,
                "total": float(rng.exponential(1.0 / (d + 1))),
                "n": 1,
            }
            for cot in range(n_cots)
            for i in range(n_chunks - 1)
            for d in range(n_chunks - 1 - i)
        ]
    )


def tagged(chunks: pd.DataFrame) -> pd.DataFrame:
    return chunks.assign(category=["even" if int(name[-1]) % 2 == 0 else "odd" for name in chunks["chunk_id"]])


def test_a_chunks_mean_is_over_its_pairs_and_its_place_is_that_of_other_chains():
    rows = sources()
    found = chunk_means(rows).set_index("chunk_id")
    own = rows[rows["chunk_id"] == "c3_1"]
    assert found.loc["c3_1", "value"] == pytest.approx(own["total"].mean())
    usual = [
        rows[(rows["cot_id"] != "c3") & (rows["place"] == row.place) & (rows["span"] == row.span)]["total"].mean()
        for row in own.itertuples()
    ]
    assert found.loc["c3_1", "expected"] == pytest.approx(np.mean(usual))


def test_a_place_that_no_other_chain_has_is_unknown():
    rows = sources()
    alone = pd.concat([rows, rows[rows["chunk_id"] == "c0_0"].head(1).assign(span=9)])
    found = chunk_means(alone).set_index("chunk_id")["expected"]
    assert np.isnan(found["c0_0"]) and found.drop("c0_0").notna().all()


def test_a_chunks_own_quantity_is_held_against_other_chains_at_its_place():
    rows = pd.DataFrame(
        {
            "model_id": "m",
            "chunk_id": ["a_0", "b_0", "c_0", "c_1"],
            "cot_id": ["a", "b", "c", "c"],
            "problem_id": ["p", "q", "r", "r"],
            "place": [0, 0, 0, 4],
            "span": 1,
            "last_reader": [3, 5, None, 2],
        }
    )
    found = chunk_values(rows, "last_reader").set_index("chunk_id")
    assert list(found.index) == ["a_0", "b_0", "c_1"] and found.loc["a_0", "expected"] == 5
    assert np.isnan(found.loc["c_1", "expected"])


def test_a_category_has_its_plain_mean_and_counts_and_the_null_keeps_its_thirds():
    chunks = tagged(chunk_means(sources()))
    found = by_category(chunks, seed=0).set_index("category")
    even = chunks[chunks["category"] == "even"]
    assert found.loc["even", "mean"] == pytest.approx(even["value"].mean())
    assert (found.loc["even", "n"], found.loc["even", "n_cots"], found.loc["even", "n_problems"]) == (len(even), 12, 6)
    assert found.loc["even", "low"] < found.loc["even", "mean"] < found.loc["even", "high"]
    third = chunks.groupby("cot_id").cumcount() * 3 // chunks.groupby("cot_id")["chunk_id"].transform("size")
    by_third = chunks.groupby([chunks["cot_id"], third])["value"].transform("mean")
    assert found.loc["even", "null_mean"] == pytest.approx(by_third[chunks["category"] == "even"].mean())
    assert found["p_holm"].ge(found["p"]).all()


def test_an_effect_that_was_planted_is_found_and_one_of_place_alone_is_not():
    chunks = tagged(chunk_means(sources()))
    planted = chunks.assign(value=chunks["value"] + 5.0 * (chunks["category"] == "even"))
    assert by_category(planted, seed=0).set_index("category").loc["even", "p"] < 0.01
    third = chunks.groupby("cot_id").cumcount() * 3 // chunks.groupby("cot_id")["chunk_id"].transform("size")
    placed = chunks.assign(value=chunks["value"] + 5.0 * third)
    assert by_category(placed, seed=0)["p"].tolist() == pytest.approx(
        by_category(chunks, seed=0)["p"].tolist(), abs=0.05
    )


def test_values_that_are_alike_in_every_third_leave_no_null():
    chunks = tagged(chunk_means(sources())).assign(value=1.0)
    found = by_category(chunks, seed=0)
    assert found["p"].isna().all() and found["p_holm"].isna().all() and found["mean"].eq(1.0).all()


def test_one_problem_has_no_interval():
    chunks = tagged(chunk_means(sources(n_cots=2)))
    assert by_category(chunks, seed=0)[["low", "high"]].isna().all().all()


def test_two_models_that_read_alike_differ_by_nothing_and_a_shift_is_the_difference():
    chunks = tagged(chunk_means(sources()))
    both = pd.concat([chunks, chunks.assign(model_id="d", value=chunks["value"] + 0.25)])
    found = differences(both, "m", "d", seed=0)
    assert found["difference"].tolist() == pytest.approx([0.25, 0.25]) and found["p"].lt(0.05).all()
    same = differences(pd.concat([chunks, chunks.assign(model_id="d")]), "m", "d", seed=0)
    assert same["difference"].abs().max() == 0 and same["p"].eq(1).all()


def test_the_curve_by_distance_is_a_mean_over_problems():
    rows = sources()
    found = by_distance(rows, seed=0).set_index("span")
    at = rows[rows["span"] == 2]
    assert found.loc[2, "mean"] == pytest.approx(at.groupby("problem_id")["total"].mean().mean())
    assert (found.loc[2, "n_pairs"], found.loc[2, "n_problems"]) == (len(at), 6)
    assert found.loc[0, "mean"] > found.loc[4, "mean"]


def test_the_pairs_that_stand_highest_by_one_way_and_lowest_by_the_other_come_first():
    both = pd.DataFrame(
        {
            "cot_id": ["a"] * 6 + ["b"] * 5,
            "source_index": range(11),
            "first_value": [1, 2, 3, 4, 5, 9, 0, 0, 0, 0, 9.0],
            "second_value": [9, 2, 3, 4, 5, 1, 9, 0, 0, 0, 0.0],
        }
    )
    found = disagreements(both, 3)
    assert set(found["cot_id"]) == {"a"}  # b has too few pairs
    assert sorted(found["source_index"].tolist()[:2]) == [0, 5] and found["apart"].iloc[0] == pytest.approx(5 / 6)


def heads(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Rows of `receiver_heads`: of each model, its kurtoses layer by layer."""
    return pd.DataFrame(
        [
            {"model_id": model, "layer": layer, "head": head, "kurtosis": value}
            for model, layers in values.items()
            for layer, own in enumerate(layers)
            for head, value in enumerate(own)
        ]
    )


def test_first_blocks_of_equal_values_are_one_measurement_and_take_no_part_in_what_models_share():
    a = [[9.0, 8.0], [7.0, 6.0], [1.0, 2.0], [3.0, 4.0]]
    b = [[9.0, 8.0], [7.0, 6.0 * (1 + 1e-12)], [1.0, 2.5], [4.0, 0.0]]
    found = shared_heads(heads({"a": a, "b": b}), "a", "b", top=2)
    assert (found.n_blocks, found.n_heads_before, found.n_equal, found.n_heads) == (2, 4, 5, 8)
    assert (found.top, found.shared, found.by_chance) == (2, 1, 1.0)


def test_models_that_differ_from_the_first_block_on_share_none():
    found = shared_heads(heads({"a": [[1.0], [2.0]], "b": [[1.5], [2.0]]}), "a", "b", top=5)
    assert (found.n_blocks, found.n_equal, found.top, found.shared) == (0, 1, 2, 2)
    unknown = shared_heads(heads({"a": [[math.nan]], "b": [[math.nan]]}), "a", "b", top=5)
    assert (unknown.n_blocks, unknown.n_heads, unknown.top) == (0, 0, 0)
