"""Median, quartiles and paired ratios of curves, against plain loops and planted truths."""

import numpy as np
import pandas as pd
import pytest

from backend.statistics.curves import (
    mean_curves,
    on_one_grid,
    paired_ratio,
    quartile_rows,
    quartiles,
    ratios_to,
    weighted_medians,
)

BETAS = np.linspace(-2, 2, 5)


def parabolas(steepness, kind="per_chunk", position="anchor", directions=1, floor=1e-9) -> pd.DataFrame:
    """A row a chunk and direction: KL = a·β², the k-th direction's a (1 + k/10) times the chunk's."""
    return pd.DataFrame(
        [
            {
                "chunk_id": f"c{number}",
                "problem_id": f"p{number // 4}",
                "kind": kind,
                "position": position,
                "betas": BETAS,
                "kl": a * (1 + k / 10) * BETAS**2,
                "noise_floor": floor,
                "r2": 1.0,
            }
            for number, a in enumerate(steepness)
            for k in range(directions)
        ]
    )


def test_a_chunks_curve_is_the_mean_over_its_directions():
    found = mean_curves(parabolas([1.0, 2.0], kind="random", directions=3))
    assert found["chunk_id"].tolist() == ["c0", "c1"] and set(found["n_directions"]) == {3}
    np.testing.assert_allclose(found["kl"][1], 2.0 * 1.1 * BETAS**2)
    backwards = parabolas([1.0]).assign(betas=[BETAS[::-1]], kl=[np.arange(5.0)])
    assert mean_curves(backwards)["kl"][0].tolist() == [4, 3, 2, 1, 0]  # by rising beta
    other = pd.concat([parabolas([1.0]), parabolas([9.0]).assign(betas=[BETAS * 2])])
    assert mean_curves(other)["n_directions"].tolist() == [1]  # along other betas there is no mean
    unknown = parabolas([1.0]).assign(kl=[np.array([1, np.nan, 0, 1, 2.0])])
    assert np.isnan(mean_curves(unknown)["kl"][0][1])


def test_planted_parabolas_have_the_quartiles_of_their_steepness():
    steepness = np.random.default_rng(0).gamma(2, 1, 41)
    found = quartiles(mean_curves(parabolas(steepness))).set_index("beta")
    for name, share in (("low", 0.25), ("median", 0.5), ("high", 0.75)):
        np.testing.assert_allclose(found[name], np.quantile(steepness, share) * BETAS**2)
    assert set(found["n"]) == {41}


def test_unknown_values_are_left_out_of_the_quartiles_and_counted():
    rows = quartile_rows(
        [BETAS, BETAS[:2], BETAS], [np.ones(5), np.full(2, 3.0), np.array([5, np.nan, np.nan, 5, 5.0])]
    )
    assert [(row["beta"], row["n"]) for row in rows] == [(-2, 3), (-1, 2), (0, 1), (1, 2), (2, 2)]
    assert rows[0]["median"] == 3 and quartile_rows([], []) == []
    grid, values = on_one_grid([[0, 1], [1, 2]], [[5.0, 6.0], [7.0, 8.0]])
    assert grid.tolist() == [0, 1, 2] and np.array_equal(values, [[5, 6, np.nan], [np.nan, 7, 8]], equal_nan=True)


def test_weighted_medians_are_those_of_copies():
    rng = np.random.default_rng(1)
    values, weights = rng.standard_normal(30), rng.integers(0, 3, (50, 30))
    expected = [np.median(np.repeat(values, own)) for own in weights]
    np.testing.assert_allclose(weighted_medians(values, weights), expected)


def test_a_planted_ratio_is_found_with_an_interval_that_holds_it():
    rng = np.random.default_rng(2)
    other = rng.gamma(2, 1, 400)
    one = 3 * other * np.exp(0.3 * rng.standard_normal(400))
    problems = [f"p{k // 10}" for k in range(400)]
    found = paired_ratio(one, other, np.full(400, 1e-9), problems, seed=0)
    assert found.low < 3 < found.high and found.ratio == pytest.approx(np.median(one / other))
    assert (found.n, found.n_problems, found.n_left_out) == (400, 40, 0)
    assert paired_ratio(one, one, np.full(400, np.nan), problems, seed=0).low == 1


def test_what_is_at_the_floor_or_unknown_has_no_ratio_and_is_counted():
    found = paired_ratio(np.array([1, 2, np.nan]), np.array([1e-3, 1e-12, 1]), np.full(3, 1e-9), list("abc"), seed=0)
    assert (found.n, found.n_left_out, found.ratio) == (1, 2, 1000)
    assert np.isnan(found.low)  # of one problem
    assert np.isnan(paired_ratio(np.zeros(2), np.ones(2), np.zeros(2), list("ab"), seed=0).ratio)


def test_kinds_are_compared_at_the_same_chunk_and_beta_with_the_reference():
    steepness = np.random.default_rng(3).gamma(2, 1, 40)
    curves = mean_curves(
        pd.concat(
            [parabolas(steepness * 2), parabolas(steepness, kind="random"), parabolas(steepness[:8], "on_manifold")]
        )
    )
    found = ratios_to(curves, "random", seed=0)
    assert set(found["beta"]) == {-2, -1, 1, 2} and set(found["kind"]) == {"per_chunk", "on_manifold"}
    by_kind = found.groupby("kind")["ratio"].median()
    assert by_kind["per_chunk"] == pytest.approx(2) and by_kind["on_manifold"] == pytest.approx(1)
    assert set(found.loc[found["kind"] == "on_manifold", "n"]) == {8}
    assert ratios_to(curves[curves["kind"] == "random"], "random", seed=0).empty
