"""A sweep's curves equal plain steered forward passes, chunk by chunk and vector by vector, and obey the laws of KL."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backend.geometry import directions as make
from backend.geometry.fits import quadratic_fit, square_fit
from backend.geometry.sweep import SweepError, noise_floor, predicting_positions, steering_edits, sweep_chunk, sweep_cot
from backend.ids import chunk_id, stable_id
from backend.models.edits import encode
from backend.models.kl import kl_reference
from backend.models.layers import layers_of, residual_of, with_residual
from backend.models.residuals import chunk_activations, record_residuals
from backend.schema.tables import TABLES
from tests.conftest import FAMILIES

LAYER = 1
BETAS = (-4.0, -1.0, 0.0, 0.5, 3.0)
N_TOKENS = 36
COTS = {
    name: torch.randint(3, 384, (N_TOKENS,), generator=torch.Generator().manual_seed(seed)).tolist()
    for seed, name in enumerate(("cot_a", "cot_b", "cot_c"))
}


def spans_of(cot: str) -> dict[str, tuple[int, int]]:
    return {chunk_id(cot, i): span for i, span in enumerate([(10, 17), (17, 25), (25, 36)])}


def activations_of(loaded, cot: str) -> dict[str, np.ndarray]:
    spans = spans_of(cot)
    means = chunk_activations(record_residuals(loaded, COTS[cot], [LAYER])[LAYER], list(spans.values())).mean
    return dict(zip(spans, means.numpy(), strict=True))


@torch.inference_mode()
def plain_curve(loaded, tokens, span, unit_vector, position, betas, unit="rms"):
    """The definition, spelled out: a hooked forward pass of the whole text for each beta, logits, KL in float64."""
    model, (start, end) = loaded.model, span
    steered = [start - 1] if position == "anchor" else list(range(start - 1, end - 1))

    def logits(beta):
        def steer(_block, _inputs, output):
            h = residual_of(output).clone()
            for t in steered:
                size = {"rms": h[0, t].square().mean().sqrt(), "norm": h[0, t].norm(), "absolute": 1.0}[unit]
                h[0, t] += beta * size * torch.from_numpy(unit_vector)
            return with_residual(output, h)

        handle = layers_of(model).blocks[LAYER].register_forward_hook(steer)
        try:
            return model(torch.tensor([tokens])).logits[0, start - 1 : end - 1]
        finally:
            handle.remove()

    base = model(torch.tensor([tokens])).logits[0, start - 1 : end - 1]
    return [kl_reference(logits(beta), base).mean().item() for beta in betas]


def test_every_chunk_of_every_cot_is_steered_with_its_own_vector(tiny):
    loaded = tiny("llama")
    activations = {chunk: vector for cot in COTS for chunk, vector in activations_of(loaded, cot).items()}
    directions = make.per_chunk(activations, model_id=loaded.model_id, layer=LAYER).made
    shuffled = [directions[i] for i in (4, 8, 0, 6, 2, 7, 1, 5, 3)]
    for cot, tokens in COTS.items():
        own = [direction for direction in shuffled if direction.chunk_id.startswith(cot)]
        rows = sweep_cot(
            loaded, tokens, spans_of(cot), own, layers=[LAYER], positions=["anchor"], betas=BETAS
        ).kl_curves
        assert [row["chunk_id"] for row in rows] == list(spans_of(cot))
        for row in rows:
            unit_vector = activations[row["chunk_id"]] / np.linalg.norm(activations[row["chunk_id"]])
            expected = plain_curve(loaded, tokens, spans_of(cot)[row["chunk_id"]], unit_vector, "anchor", BETAS)
            assert row["kl"] == pytest.approx(expected, abs=1e-5)
            assert max(row["kl"]) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("position", ["anchor", "chunk"])
def test_a_curve_equals_plain_steered_passes_in_every_family(tiny, family, position):
    loaded = tiny(family)
    spans = spans_of("cot_a")
    directions = make.random(2, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    rows = sweep_cot(loaded, COTS["cot_a"], spans, directions, layers=[LAYER], positions=[position], betas=BETAS)
    assert len(rows.kl_curves) == len(spans) * 2
    vectors = {direction.direction_id: direction.vector for direction in directions}
    for row in rows.kl_curves:
        expected = plain_curve(
            loaded, COTS["cot_a"], spans[row["chunk_id"]], vectors[row["direction_id"]], position, BETAS
        )
        assert row["kl"] == pytest.approx(expected, abs=1e-5)
        assert row["kl"][2] == 0.0  # beta 0, exactly
        assert row["n_tokens"] == spans[row["chunk_id"]][1] - spans[row["chunk_id"]][0]


@pytest.mark.parametrize("unit", ["rms", "norm", "absolute"])
def test_each_unit_is_the_size_it_names(tiny, unit):
    loaded, span = tiny("llama"), (17, 25)
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    betas = (-0.5, 0.25, 1.0)
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    for position in ("anchor", "chunk"):
        (row,) = sweep_chunk(
            loaded, encoded, "c", span, [direction], positions=[position], betas=betas, unit=unit
        ).kl_curves
        assert row["kl"] == pytest.approx(
            plain_curve(loaded, COTS["cot_a"], span, direction.vector, position, betas, unit), abs=1e-5
        )


def test_norm_units_are_rms_units_times_the_root_of_the_width(tiny):
    loaded, span = tiny("llama"), (17, 25)
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    (rms,) = sweep_chunk(
        loaded, encoded, "c", span, [direction], positions=["anchor"], betas=[8.0]
    ).kl_curves  # √64 = 8
    (norm,) = sweep_chunk(
        loaded, encoded, "c", span, [direction], positions=["anchor"], betas=[1.0], unit="norm"
    ).kl_curves
    assert rms["kl"] == pytest.approx(norm["kl"], rel=1e-5)
    assert rms["curve_id"] != norm["curve_id"]


def test_for_small_beta_kl_over_beta_squared_is_one_constant_on_both_sides(tiny):
    loaded = tiny("llama")
    double = SimpleNamespace(model=private_double(loaded.model), model_id=loaded.model_id)
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(double, COTS["cot_a"], layers=[LAYER])
    betas = [-1e-3, -5e-4, 5e-4, 1e-3]
    for row in sweep_chunk(double, encoded, "c", (17, 25), [direction], betas=betas).kl_curves:
        ratios = np.array(row["kl"]) / np.square(betas)
        assert ratios == pytest.approx(ratios.mean(), rel=2e-3) and ratios.mean() > 0
    flipped = make.Direction(**{**direction.row(), "vector": -direction.vector})
    (there,) = sweep_chunk(double, encoded, "c", (17, 25), [direction], positions=["anchor"], betas=[0.7, -2]).kl_curves
    (back,) = sweep_chunk(double, encoded, "c", (17, 25), [flipped], positions=["anchor"], betas=[-0.7, 2]).kl_curves
    assert there["kl"] == pytest.approx(back["kl"], rel=1e-9)


def private_double(model):
    import copy

    return copy.deepcopy(model).double()


def test_one_token_has_the_same_curve_at_both_positions_and_longer_chunks_do_not(tiny):
    loaded = tiny("llama")
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    anchor, chunk = sweep_chunk(loaded, encoded, "c", (17, 18), [direction], betas=BETAS).kl_curves
    assert anchor["kl"] == pytest.approx(chunk["kl"], rel=1e-6) and anchor["curve_id"] != chunk["curve_id"]
    anchor, chunk = sweep_chunk(loaded, encoded, "c", (17, 25), [direction], betas=BETAS).kl_curves
    assert anchor["kl"] != pytest.approx(chunk["kl"], rel=1e-2)
    assert predicting_positions((17, 25)) == [16, 17, 18, 19, 20, 21, 22, 23]


def test_a_curve_does_not_depend_on_what_shares_its_batch(tiny, monkeypatch):
    loaded = tiny("qwen2")
    directions = make.random(3, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    together = {
        row["curve_id"]: row["kl"]
        for row in sweep_chunk(loaded, encoded, "c", (17, 25), directions, betas=BETAS).kl_curves
    }
    monkeypatch.setattr("backend.geometry.sweep._ROWS", 1)  # one edit a pass
    for direction in directions:
        for row in sweep_chunk(loaded, encoded, "c", (17, 25), [direction], betas=BETAS).kl_curves:
            assert row["kl"] == pytest.approx(together[row["curve_id"]], abs=1e-6)


@pytest.mark.parametrize("unit", ["rms", "norm", "absolute"])
@pytest.mark.parametrize("position", ["anchor", "chunk"])
def test_a_step_is_beta_times_the_size_in_float64_times_the_unit_vector_bit_for_bit(tiny, unit, position):
    loaded, span = tiny("llama"), (17, 25)
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    steered = predicting_positions(span)[: 1 if position == "anchor" else None]
    h = encoded.residual(LAYER)[steered]
    exact = h.double()
    size = {
        "rms": exact.square().mean(-1).sqrt(),
        "norm": exact.norm(dim=-1),
        "absolute": torch.ones_like(exact[:, 0]),
    }[unit]
    step = size[:, None] * torch.from_numpy(direction.vector).double()
    for beta, edit in zip(BETAS, steering_edits(encoded, span, direction, position, BETAS, unit), strict=True):
        assert (edit.layer, list(edit.positions), edit.onward) == (LAYER, steered, False)
        assert torch.equal(edit.change(h), h + (beta * step).float())


@pytest.mark.parametrize("family", FAMILIES)
def test_other_layers_of_a_sweep_change_a_curve_by_rounding_alone(tiny, family):
    loaded, layers = tiny(family), (0, 1, 2)
    found = [make.random(2, 64, model_id=loaded.model_id, layer=layer, seed=0).made for layer in layers]
    every = [direction for of_layer in found for direction in of_layer]

    def curves(directions, layers):
        swept = sweep_cot(loaded, COTS["cot_a"], {"c": (17, 25)}, directions, layers=layers, betas=BETAS)
        return {row["curve_id"]: row["kl"] for row in swept.kl_curves}

    together = curves(every, layers)
    for layer, own in zip(layers, found, strict=True):
        for curve, kl in curves(own, [layer]).items():
            assert kl == pytest.approx(together[curve], rel=1e-4)


def test_rows_are_the_tables_columns_with_their_ids_and_fits(tiny):
    loaded = tiny("llama")
    activations = activations_of(loaded, "cot_a")
    directions = [
        *make.per_chunk(activations, model_id=loaded.model_id, layer=LAYER).made,
        *make.random(2, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made,
        *make.random(1, 64, model_id=loaded.model_id, layer=2, seed=0).made,
    ]
    rows = sweep_cot(loaded, COTS["cot_a"], spans_of("cot_a"), directions, layers=[LAYER, 2])
    assert (
        len(rows.kl_curves) == len(rows.steepness) == 3 * (1 + 2 + 1) * 2
    )  # chunks × (own + random + random at 2) × positions
    assert len({row["curve_id"] for row in rows.kl_curves}) == len(rows.kl_curves)
    for curve, fitted in zip(rows.kl_curves, rows.steepness, strict=True):
        assert (
            curve.keys() == TABLES["kl_curves"].columns.keys() and fitted.keys() == TABLES["steepness"].columns.keys()
        )
        assert (
            curve["curve_id"]
            == fitted["curve_id"]
            == stable_id(
                "k", curve["chunk_id"], curve["direction_id"], curve["layer"], curve["position"], curve["unit"]
            )
        )
        assert fitted["steepness"] == quadratic_fit(curve["betas"], curve["kl"]).steepness
        assert fitted["amplitude"] == square_fit(curve["betas"], curve["kl"]).amplitude
        assert (fitted["n_betas"], fitted["below_floor"]) == (21, False)
        assert 0 <= curve["noise_floor"] < 1e-9


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_noise_floor_is_small_but_real_and_steps_below_it_are_flagged(tiny, family):
    loaded, spans = tiny(family), spans_of("cot_a") | {"empty": (25, 25)}
    floors = noise_floor(loaded, COTS["cot_a"], spans)
    assert math.isnan(floors.pop("empty"))
    assert all(0 <= floor < 1e-9 for floor in floors.values())
    if (
        family == "llama"
    ):  # steered passes there use other kernels than the base; a tiny plain pass may repeat itself exactly
        assert all(floor > 0 for floor in floors.values())
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    for betas, below in (([-1e-3, 0, 1e-3, 2e-3], True), ([-1, 0, 1, 2], False)):
        rows = sweep_chunk(loaded, encoded, "c", (17, 25), [direction], betas=betas, noise_floor=1e-4)
        assert [row["below_floor"] for row in rows.steepness] == [below, below]


def test_a_chunk_without_tokens_has_an_unknown_curve(tiny):
    loaded = tiny("llama")
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    rows = sweep_cot(loaded, COTS["cot_a"], {"empty": (12, 12)}, [direction], layers=[LAYER], betas=BETAS)
    assert rows.kl_curves[0]["kl"] == [None] * len(BETAS) and rows.kl_curves[0]["n_tokens"] == 0
    fitted = rows.steepness[0]
    assert (fitted["steepness"], fitted["amplitude"], fitted["n_betas"], fitted["below_floor"]) == (None, None, 0, None)


def test_what_cannot_be_swept_is_refused(tiny):
    loaded = tiny("llama")
    (direction,) = make.random(1, 64, model_id=loaded.model_id, layer=LAYER, seed=0).made
    encoded = encode(loaded, COTS["cot_a"], layers=[LAYER])
    own = make.per_chunk({"other": np.ones(64)}, model_id=loaded.model_id, layer=LAYER).made
    elsewhere = make.random(1, 64, model_id="m_other", layer=LAYER, seed=0).made
    narrow = make.random(1, 32, model_id=loaded.model_id, layer=LAYER, seed=0).made
    for span, directions, options, said in [
        ((0, 5), [direction], {}, "after the first"),  # there is no token before the first
        ((17, 37), [direction], {}, "36 tokens"),
        ((17, 25), own, {}, "made from chunk other"),
        ((17, 25), elsewhere, {}, "of model m_other"),
        ((17, 25), narrow, {}, "32 values"),
        ((17, 25), [direction], {"unit": "sigma"}, "sigma"),
        ((17, 25), [direction], {"positions": ["middle"]}, "middle"),
        ((17, 25), [direction], {"betas": [1.0, math.nan]}, "Every beta"),
    ]:
        with pytest.raises(SweepError, match=said):
            sweep_chunk(loaded, encoded, "c", span, directions, **options)
    with pytest.raises(SweepError, match="layer 2"):
        sweep_cot(loaded, COTS["cot_a"], spans_of("cot_a"), [direction], layers=[LAYER, 2])
    half = SimpleNamespace(model=torch.nn.Linear(2, 2).to(torch.bfloat16))
    with pytest.raises(SweepError, match="float32"):
        noise_floor(half, COTS["cot_a"], {})
