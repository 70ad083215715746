"""The shape of G: estimates agree with the explicit matrix, planted spectra are found, and rows are the table's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backend.geometry import directions as make
from backend.geometry.fisher import LocalMetric, fisher_cot
from backend.geometry.local_geometry import (
    isotropic,
    leading_spectrum,
    local_geometry_cot,
    participation_ratio,
    unit_probes,
)
from backend.geometry.sweep import SweepError
from backend.models.edits import encode
from backend.schema.tables import TABLES
from tests.explicit_metric import explicit_metric, in_float64

LAYER, SPAN = 1, (17, 19)
TOKENS = torch.randint(3, 384, (24,), generator=torch.Generator().manual_seed(0)).tolist()


def planted(eigenvalues, seed=0):
    """A symmetric matrix with these eigenvalues in random directions, and its products with rows."""
    turned, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    g = turned * np.asarray(eigenvalues) @ turned.T
    return g, lambda rows: rows @ g


def entropy_of(loaded, span):
    log_p = loaded.model(torch.tensor([TOKENS])).logits[0, span[0] - 1 : span[1] - 1].double().log_softmax(-1)
    return float(-(log_p.exp() * log_p).sum(-1).mean())


def test_isotropic_steepness_is_the_trace_over_twice_the_width():
    eigenvalues = 1 / np.arange(1, 201)
    _, product = planted(eigenvalues)
    exact, found = eigenvalues.sum() / 400, []
    for number in range(200):
        probes = unit_probes(8, 200, number)
        found.append(isotropic((probes * product(probes)).sum(1) / 2))
    values, errors = np.array([(one.value, one.error) for one in found]).T
    assert values.mean() == pytest.approx(exact, rel=3 * values.std() / np.sqrt(200) / exact)
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)  # the stated error is the scatter
    assert np.isnan(isotropic(np.array([1.0])).error)


def test_a_planted_spectrum_is_found():
    eigenvalues = np.concatenate([[9, 5, 4, 3.5], 1 / np.arange(1, 197) ** 2])
    g, product = planted(eigenvalues)
    spectrum = leading_spectrum(product, 200, n=6, seed=0)
    assert spectrum.eigenvalues == pytest.approx(np.linalg.eigvalsh(g)[::-1][:6], rel=1e-3)
    assert spectrum.residual <= 1e-3 and np.allclose(spectrum.vectors @ spectrum.vectors.T, np.eye(6), atol=1e-9)
    assert np.allclose(spectrum.basis @ g, spectrum.images)


@pytest.mark.parametrize("rank", [1, 5])
def test_of_equal_eigenvalues_the_participation_ratio_counts_how_many_there_are(rank):
    _, product = planted([2.0] * rank + [0.0] * (40 - rank))
    ratio = participation_ratio(product, leading_spectrum(product, 40, n=3, seed=0), unit_probes(6, 40, 0))
    assert ratio.value == pytest.approx(rank, rel=1e-6) and ratio.error < 1e-6


def test_the_participation_ratio_of_a_flat_spectrum_is_estimated_within_its_error():
    eigenvalues = np.linspace(0.5, 1.5, 400)  # the basis holds little of it: nearly all is left to the probes
    _, product = planted(eigenvalues)
    spectrum = leading_spectrum(product, 400, n=4, seed=0)
    found = [participation_ratio(product, spectrum, unit_probes(8, 400, number)) for number in range(100)]
    values, errors = np.array([(one.value, one.error) for one in found]).T
    exact = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 10)
    assert values.std() / 2 < errors.mean() < 2 * values.std()
    assert np.isnan(participation_ratio(product, spectrum, unit_probes(1, 400, 0)).value)


def test_of_a_model_everything_agrees_with_the_explicit_metric(tiny):
    double = in_float64(tiny("gpt2"))
    explicit = explicit_metric(double.model, TOKENS, SPAN, LAYER)
    eigen = {position: np.linalg.eigh(g) for position, g in explicit.items()}
    leading = eigen["anchor"][1][:, ::-1][:, :5].T
    found = local_geometry_cot(
        double,
        TOKENS,
        {"c": SPAN},
        layers=[LAYER],
        positions=["anchor", "chunk"],
        unit="rms",
        probes=32,
        seed=0,
        tangents={("c", LAYER): leading},
        spectrum_of={"c"},
        n_eigen=6,
        n_random=4,
        epsilons=[0.1, 1.0],
    )
    assert len(found.local_geometry) == 2 and len(found.directions) == 12
    for row in found.local_geometry:
        g, values = explicit[row["position"]], eigen[row["position"]][0][::-1]
        assert abs(row["isotropic_steepness"] - np.trace(g) / 128) < 4 * row["isotropic_se"]
        assert row["eigenvalues"] == pytest.approx(values[:6], rel=1e-3) and row["eigen_residual"] <= 1e-3
        exact = values.sum() ** 2 / np.square(values).sum()
        assert abs(row["participation_ratio"] - exact) < 5 * row["participation_se"] + 1e-6 * exact
        assert row["anisotropy_ratio"] >= 1 and (row["n_below_floor"], row["n_random"]) == (0, 4)
        assert np.all(np.diff(row["random_kl"]) > 0) and all(value > 0 for value in row["random_cv"])
        assert row["entropy"] == pytest.approx(entropy_of(double, SPAN), rel=1e-6)
        assert row.keys() == TABLES["local_geometry"].columns.keys()
    anchor = found.local_geometry[0]
    assert anchor["on_manifold_steepness"] == pytest.approx(eigen["anchor"][0][::-1][:5].mean() / 2, rel=1e-6)
    assert anchor["off_manifold_steepness"] < anchor["on_manifold_steepness"] and anchor["n_tangents"] == 5


def test_eigen_directions_join_the_library_and_cost_half_their_eigenvalue(tiny):
    loaded = tiny("llama")
    found = local_geometry_cot(
        loaded,
        TOKENS,
        {"c": SPAN},
        layers=[LAYER],
        positions=["anchor"],
        unit="rms",
        probes=2,
        seed=0,
        tangents={},
        spectrum_of={"c"},
        n_eigen=3,
        n_random=2,
    )
    made = [make.Direction(**row) for row in found.directions]
    assert [(one.kind, one.chunk_id, one.layer) for one in made] == [("eigen", "c", LAYER)] * 3
    assert len({one.direction_id for one in made}) == 3
    steepness = [row["fisher_steepness"] for row in fisher_cot(loaded, TOKENS, {"c": SPAN}, made, layers=[LAYER])]
    assert steepness == pytest.approx(np.array(found.local_geometry[0]["eigenvalues"]) / 2, rel=1e-3)
    (row,) = found.local_geometry
    assert (row["on_manifold_steepness"], row["off_manifold_steepness"], row["n_tangents"]) == (None, None, None)
    assert 1.0 in row["epsilons"] and (min(row["epsilons"]), max(row["epsilons"])) == (0.01, 10.0)


def test_what_was_not_asked_for_or_has_no_tokens_is_unknown_and_the_rest_does_not_depend_on_it(tiny):
    loaded, tangents = tiny("qwen2"), np.eye(64)[:2]
    spans = {"a": (10, 17), "b": SPAN, "empty": (19, 19)}
    asked = {
        "layers": [LAYER],
        "positions": ["chunk"],
        "unit": "rms",
        "probes": 4,
        "seed": 3,
        "tangents": {("b", LAYER): tangents},
    }
    a, b, empty = local_geometry_cot(loaded, TOKENS, spans, **asked, spectrum_of={"empty"}).local_geometry
    assert a.keys() == empty.keys() == TABLES["local_geometry"].columns.keys()
    assert all(
        b[column] is None for column in ("eigenvalues", "participation_ratio", "random_kl", "noise_floor", "n_random")
    )
    known = {name for name, value in empty.items() if value is not None}
    assert (
        known == {"chunk_id", "model_id", "layer", "position", "unit", "n_probes", "n_tokens", "seed"}
        and empty["n_tokens"] == 0
    )
    (alone,) = local_geometry_cot(loaded, TOKENS, {"b": SPAN}, **asked, spectrum_of=set()).local_geometry
    assert {name: alone[name] for name in ("isotropic_steepness", "off_manifold_steepness")} == pytest.approx(
        {name: b[name] for name in ("isotropic_steepness", "off_manifold_steepness")}, rel=1e-5
    )
    exact = LocalMetric(encode(loaded, TOKENS, layers=[LAYER]), SPAN, LAYER).steepness(tangents, ["chunk"] * 2).mean()
    assert b["on_manifold_steepness"] == pytest.approx(exact, rel=1e-5)


def test_what_cannot_be_asked_is_refused(tiny):
    loaded = tiny("llama")
    asked = {
        "layers": [LAYER],
        "positions": ["anchor"],
        "unit": "rms",
        "probes": 2,
        "seed": 0,
        "tangents": {},
        "spectrum_of": (),
    }
    for options, said in [
        ({"probes": 0}, "probe"),
        ({"positions": ["middle"]}, "middle"),
        ({"tangents": {("c", LAYER): np.ones((2, 64))}}, "orthonormal"),
        ({"tangents": {("c", LAYER): np.eye(32)}}, "orthonormal"),
        ({"epsilons": [np.nan]}, "finite"),
    ]:
        with pytest.raises(SweepError, match=said):
            local_geometry_cot(loaded, TOKENS, {"c": SPAN}, **(asked | options))
    half = SimpleNamespace(model=torch.nn.Linear(2, 2).to(torch.bfloat16))
    with pytest.raises(SweepError, match="float32"):
        local_geometry_cot(half, TOKENS, {"c": SPAN}, **asked)
