"""Finite random steps: each direction is its own, and small ones cost ½·ε²·vᵀGv."""

import numpy as np
import pytest
import torch

from backend.geometry import directions as make
from backend.geometry.random_steps import (
    Place,
    Steps,
    directional_kl,
    finite_step_columns,
    random_steps_cot,
)
from backend.geometry.sweep import SweepError, sweep_cot
from backend.ids import seed_for
from backend.models.edits import encode
from backend.schema.tables import TABLES
from tests.explicit_metric import explicit_metric, in_float64

LAYER, SPAN, SEED = 1, (17, 20), 5
TOKENS = torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(0)).tolist()
WHERE = {"layers": [LAYER], "positions": ["anchor"], "seed": SEED}


def random_directions(model_id, n, position="anchor"):
    own = seed_for("random steps", SEED, "c", LAYER, position)
    return make.random(n, 64, model_id=model_id, layer=LAYER, seed=own).made


def test_a_row_is_what_a_plain_loop_over_directions_and_magnitudes_gives(tiny):
    loaded, steps = tiny("llama"), Steps("rms", 5, (0.5, 1.0, 4.0))
    (row,) = random_steps_cot(loaded, TOKENS, {"c": SPAN}, steps, **WHERE)
    plain = np.empty((5, 3))
    for k, direction in enumerate(random_directions(loaded.model_id, 5)):
        for j, epsilon in enumerate(steps.epsilons):
            alone = sweep_cot(
                loaded, TOKENS, {"c": SPAN}, [direction], layers=[LAYER], positions=["anchor"], betas=[epsilon]
            )
            plain[k, j] = alone.kl_curves[0]["kl"][0]
    assert row["kl_at_1"] == pytest.approx(plain[:, 1], rel=1e-4)
    assert row["random_kl"] == pytest.approx(plain.mean(0), rel=1e-4)
    assert row["random_cv"] == pytest.approx(plain.std(0, ddof=1) / plain.mean(0), rel=1e-3)
    assert row["anisotropy_ratio"] == pytest.approx(plain[:, 1].max() / plain[:, 1].min(), rel=1e-4)
    assert row.keys() == TABLES["random_steps"].columns.keys() and row["n_random"] == 5


def test_of_small_steps_each_costs_what_the_explicit_metric_says(tiny):
    double = in_float64(tiny("gpt2"))
    explicit, epsilon = explicit_metric(double.model, TOKENS, SPAN, LAYER), 1e-3
    for position, g in explicit.items():
        at = Place("c", SPAN, LAYER, position)
        found = directional_kl(double, encode(double, TOKENS, layers=[LAYER]), at, Steps("rms", 6, (epsilon,)), SEED)
        vectors = [one.vector.astype(float) for one in random_directions(double.model_id, 6, position)]
        expected = np.array([v @ g @ v for v in vectors]) * epsilon**2 / 2
        assert found.kl[:, 0] == pytest.approx(expected, rel=1e-2)


def test_neither_more_directions_nor_other_chunks_nor_more_magnitudes_change_a_direction(tiny):
    loaded = tiny("llama")
    (few,) = random_steps_cot(loaded, TOKENS, {"c": SPAN}, Steps("rms", 3, (1.0,)), **WHERE)
    more = random_steps_cot(loaded, TOKENS, {"b": (5, 9), "c": SPAN}, Steps("rms", 6, (0.1, 1.0)), **WHERE)
    assert [row["chunk_id"] for row in more] == ["b", "c"]
    assert more[1]["kl_at_1"][:3] == pytest.approx(few["kl_at_1"], rel=1e-4)
    assert more[0]["kl_at_1"][0] != pytest.approx(more[1]["kl_at_1"][0], rel=1e-2)


def test_a_chunk_without_tokens_is_unknown_and_what_is_below_the_floor_is_no_ratio(tiny):
    loaded = tiny("llama")
    empty, tiny_steps = random_steps_cot(
        loaded, TOKENS, {"empty": (9, 9), "c": SPAN}, Steps("absolute", 3, (1e-9,)), **WHERE
    )
    assert {empty[name] for name in ("random_kl", "kl_at_1", "n_random", "anisotropy_ratio")} == {None}
    assert (tiny_steps["random_cv"], len(tiny_steps["random_kl"])) == ([None], 1)


def test_ratios_below_the_noise_floor_are_unknown():
    kl = np.array([[1e-9, 1.0], [3e-9, 3.0]])
    columns = finite_step_columns(kl, kl[:, 1], 1e-8)
    assert columns["random_kl"] == [2e-9, 2.0] and columns["random_cv"] == [None, pytest.approx(np.sqrt(2) / 2)]
    assert (columns["anisotropy_ratio"], columns["n_below_floor"]) == (3.0, 0)
    below = finite_step_columns(kl, kl[:, 0], 1e-9)
    assert (below["anisotropy_ratio"], below["n_below_floor"]) == (None, 1)


def test_steps_need_a_direction_and_finite_magnitudes():
    for n, epsilons in ((0, (1.0,)), (2, (np.inf,))):
        with pytest.raises(SweepError, match="finite"):
            Steps("rms", n, epsilons)
