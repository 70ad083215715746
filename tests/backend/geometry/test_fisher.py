"""Fisher steepness equals an explicit Jacobian's, and the limit of KL(β)/β² as β → 0; it obeys the laws of a quadratic
form.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backend.geometry import directions as make
from backend.geometry.fisher import LocalMetric, fisher_cot
from backend.geometry.sweep import SweepError, sweep_cot
from backend.models.edits import encode
from backend.schema.tables import TABLES
from tests.explicit_metric import explicit_metric, in_float64
from tests.hooks import hooks_on

LAYER, SPAN = 1, (17, 19)
TOKENS = torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(0)).tolist()
VECTORS = np.random.default_rng(0).standard_normal((3, 64))
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def random_directions(loaded, n=2, layer=LAYER):
    return make.random(n, 64, model_id=loaded.model_id, layer=layer, seed=0).made


@pytest.mark.parametrize(("family", "unit"), [("llama", "rms"), ("gpt2", "norm"), ("gemma2", "absolute")])
def test_steepness_and_products_are_those_of_the_explicit_jacobian(tiny, family, unit):
    double = in_float64(tiny(family))
    explicit = explicit_metric(double.model, TOKENS, SPAN, LAYER, unit)
    encoded = encode(double, TOKENS, layers=[LAYER])
    assert encoded.is_shared_prefix == (family != "gemma2")  # gemma2 takes the plain way, and caps its logits
    metric = LocalMetric(encoded, SPAN, LAYER, unit=unit)
    for position, g in explicit.items():
        assert metric.steepness(VECTORS, [position] * 3) == pytest.approx(
            np.einsum("na,ab,nb->n", VECTORS, g, VECTORS) / 2, rel=1e-6
        )
        products = VECTORS @ g
        assert np.linalg.norm(metric.products(VECTORS, position) - products) < 1e-6 * np.linalg.norm(products)
        assert np.linalg.norm(metric.matrix(position) - g) < 1e-6 * np.linalg.norm(g)


@pytest.mark.parametrize(
    ("family", "beta", "within"), [("gpt2", 1e-3, 1e-4), ("llama", 0.02, 0.01), ("gemma3", 0.02, 0.01)]
)
def test_it_is_the_limit_of_kl_over_beta_squared(tiny, family, beta, within):
    double = in_float64(tiny(family))
    asked = {
        "chunk_spans": {"a": (10, 17), "b": (17, 24)},
        "directions": random_directions(double, 1),
        "layers": [LAYER],
    }
    asked |= {"positions": ["anchor", "chunk"]}
    curves = {row["curve_id"]: row["kl"] for row in sweep_cot(double, TOKENS, **asked, betas=[-beta, beta]).kl_curves}
    rows = fisher_cot(double, TOKENS, **asked)
    assert len(rows) == len(curves) == 4
    for row in rows:  # the mean of both sides: what is odd in β cancels
        assert row["fisher_steepness"] == pytest.approx(np.mean(curves[row["curve_id"]]) / beta**2, rel=within)


def test_it_is_a_quadratic_form(tiny):
    encoded = encode(tiny("qwen2"), TOKENS, layers=[LAYER])
    metric = LocalMetric(encoded, (17, 24), LAYER)
    v, w = VECTORS[:2]
    for position in ("anchor", "chunk"):
        plain, flipped, tripled, added, taken, other = metric.steepness([v, -v, 3 * v, v + w, v - w, w], [position] * 6)
        assert flipped == pytest.approx(plain, rel=1e-6) and tripled == pytest.approx(9 * plain, rel=1e-5)
        assert added + taken == pytest.approx(2 * (plain + other), rel=1e-5)  # the parallelogram law


def test_one_token_has_the_same_steepness_at_both_positions_and_longer_chunks_do_not(tiny):
    loaded = tiny("llama")
    rows = fisher_cot(
        loaded,
        TOKENS,
        {"one": (17, 18), "long": (17, 24)},
        random_directions(loaded, 1),
        layers=[LAYER],
        positions=["anchor", "chunk"],
    )
    one, one_chunk, long, long_chunk = (row["fisher_steepness"] for row in rows)
    assert one == pytest.approx(one_chunk, rel=1e-6) and long != pytest.approx(long_chunk, rel=1e-2)


def test_rows_are_the_tables_columns_of_the_curves_a_sweep_would_make(tiny):
    loaded = tiny("llama")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    hooks = hooks_on(loaded.model)
    own = make.per_chunk({"a": VECTORS[0]}, model_id=loaded.model_id, layer=LAYER).made
    asked = {"chunk_spans": {"a": (10, 17), "empty": (17, 17)}, "layers": [LAYER, 2], "positions": ["anchor", "chunk"]}
    asked["directions"] = [*own, *random_directions(loaded), *random_directions(loaded, 1, layer=2)]
    rows, curves = fisher_cot(loaded, TOKENS, **asked), sweep_cot(loaded, TOKENS, **asked, betas=[1.0]).kl_curves
    assert {row["curve_id"] for row in rows} == {row["curve_id"] for row in curves} and len(rows) == (4 + 3) * 2
    for row in rows:
        assert row.keys() == TABLES["fisher"].columns.keys()
        assert (row["fisher_steepness"] is None) == (row["chunk_id"] == "empty") == (row["n_tokens"] == 0)
    assert hooks_on(loaded.model) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


def test_what_cannot_be_steered_is_refused(tiny):
    loaded = tiny("llama")
    narrow = make.random(1, 32, model_id=loaded.model_id, layer=LAYER, seed=0).made
    elsewhere = make.random(1, 64, model_id="m_other", layer=LAYER, seed=0).made
    for directions, options, said in [
        (random_directions(loaded), {"layers": [LAYER, 2]}, "layer 2"),
        (random_directions(loaded), {"positions": ["middle"]}, "middle"),
        (random_directions(loaded), {"unit": "sigma"}, "sigma"),
        (narrow, {}, "64 values"),
        (elsewhere, {}, "of model m_other"),
    ]:
        with pytest.raises(SweepError, match=said):
            fisher_cot(loaded, TOKENS, {"c": (17, 24)}, directions, **({"layers": [LAYER]} | options))
    half = SimpleNamespace(model=torch.nn.Linear(2, 2).to(torch.bfloat16))
    with pytest.raises(SweepError, match="float32"):
        fisher_cot(half, TOKENS, {"c": (17, 24)}, [], layers=[])
