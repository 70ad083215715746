"""What two models' streams differ by is what was planted, and nothing is found of a model against itself."""

import numpy as np
import pytest
import torch

from backend.feature_geometry.divergence import Compared, Positions, divergence
from backend.feature_geometry.lens_divergence import lens_divergence
from backend.lens.lens import Readout
from backend.models.kl import kl_reference
from tests.conftest import tuned

N, D, K = 240, 12, 3


@pytest.fixture
def at() -> Positions:
    rng = np.random.default_rng(0)
    problems = np.repeat(np.arange(24), 10)
    return Positions(problems, rng.integers(0, 8, N), np.tile(np.arange(10) < 4, 24), seed=0)


@pytest.fixture
def base() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, D)) * np.linspace(3, 0.3, D) + 1


def rows(a, b, at, lenses=None):
    found = divergence(a, b, at, k=K, lenses=lenses or {})
    return {(one["measure"], one["positions"]): one for one in found}


def test_a_model_against_itself_is_0_exactly_with_its_interval(at, base):
    found = rows(base, base.copy(), at)
    assert {kind for _, kind in found} == {"all", "prompt", "cot"}
    for (measure, _), row in found.items():
        wanted = 1 if measure == "cka" else 0
        assert (row["value"], row["low"], row["high"]) == (wanted,) * 3


def test_a_planted_difference_has_its_relative_norm_and_a_rotation_leaves_cka_at_1(at, base):
    scaled = rows(base, 1.25 * base, at)
    assert scaled["relative_norm", "all"]["value"] == pytest.approx(0.25)
    assert scaled["principal_angle", "all"]["value"] < 1e-4
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(D, D)))[0]
    turned = rows(base, base @ turn, at)
    assert turned["cka", "all"]["value"] == pytest.approx(1, abs=1e-9)
    assert turned["relative_norm", "all"]["value"] > 0.5 and turned["principal_angle", "all"]["value"] > 20


def test_independent_streams_have_no_cka_beyond_what_pairings_at_random_give(at, base):
    row = rows(base, np.random.default_rng(3).normal(size=(N, D)), at)["cka", "all"]
    assert abs(row["value"]) < 4 * row["null_sd"] and row["null"] == 0
    assert row["low"] < 0 < row["high"]


def test_what_is_in_the_prompt_alone_is_found_there_alone(at, base):
    other = np.where(at.is_prompt[:, None], 1.5 * base, base)
    found = rows(base, other, at)
    assert found["relative_norm", "prompt"]["value"] == pytest.approx(0.5)
    assert found["relative_norm", "cot"]["value"] == found["principal_angle", "cot"]["value"] == 0
    assert found["relative_norm", "all"]["value"] == pytest.approx(0.5 * 0.4)
    n = {kind: found["cka", kind]["n_tokens"] for kind in ("all", "prompt", "cot")}
    assert n == {"all": 240, "prompt": 96, "cot": 144} and found["cka", "all"]["n_problems"] == 24


def test_intervals_are_over_problems(at, base):
    """Every position of a problem differs alike, so that positions say no more than problems."""
    size = np.random.default_rng(4).uniform(0.1, 0.5, 24)[at.problems]
    row = rows(base, base * (1 + size[:, None]), at)["relative_norm", "all"]
    mean, error = size.mean(), size.reshape(24, 10)[:, 0].std(ddof=1) / np.sqrt(24)
    assert row["value"] == pytest.approx(mean)
    assert 1 < (row["high"] - row["low"]) / (2 * error) < 3.5, "about two standard errors of a mean of 24 either way"


def test_the_control_is_the_base_at_the_same_token_elsewhere(at):
    by_token = np.random.default_rng(5).normal(size=(8, D))
    base = by_token[at.tokens]
    found = rows(base, 2 * base, at)
    assert found["relative_norm", "all"]["control"] == 0, "a stream of the token alone is the same elsewhere"
    assert found["cka", "all"]["control"] == pytest.approx(1)
    assert found["relative_norm", "all"]["n_control"] > 200 and found["relative_norm", "all"]["null"] > 0.5


def test_halves_of_one_cloud_are_nearer_than_random_subspaces(at, base):
    row = rows(base, base, at)["principal_angle", "all"]
    assert 0 < row["control"] < row["null"] and len(row["angles"]) == K


def test_a_single_problem_has_no_interval_and_no_partner(base):
    alone = Positions(np.zeros(20, int), np.arange(20) % 4, np.zeros(20, bool), seed=0)
    found = rows(base[:20], 1.1 * base[:20], alone)
    assert {kind for _, kind in found} == {"all", "cot"}
    for row in found.values():
        assert row["value"] is not None and row["low"] is row["high"] is None
    assert found["relative_norm", "all"]["control"] is found["relative_norm", "all"]["null"] is None


def test_as_many_components_as_points_are_not_found(base):
    few = Positions(np.arange(3), np.zeros(3, int), np.zeros(3, bool), seed=0)
    row = rows(base[:3], 1.1 * base[:3], few)["principal_angle", "all"]
    assert row["value"] is row["low"] is row["angles"] is None


def test_an_even_share_of_each_problem_is_drawn(at):
    chosen = at.some(48)
    assert np.bincount(at.problems[chosen]).tolist() == [2] * 24
    assert len(at.some(10_000)) == N and at.only(chosen).n == 48


def test_the_lenses_kl_is_that_of_a_direct_computation_and_0_of_the_same_model(tiny, at):
    one = tiny("llama")
    other = tuned(one)
    some = at.only(at.some(30))
    a, b = torch.randn(2, 30, one.d_model, generator=torch.Generator().manual_seed(0))
    found = lens_divergence(Readout(one), Readout(other), a, b, some)
    p, q = Readout(one).logits(a), Readout(other).logits(b)
    assert found["kl"].values == pytest.approx(kl_reference(p, q).numpy(), rel=1e-9)
    assert found["kl_reverse"].values == pytest.approx(kl_reference(q, p).numpy(), rel=1e-9)
    same = lens_divergence(Readout(one), Readout(one), a, a.clone(), some)
    assert (same["kl"].values == 0).all() and (same["kl_reverse"].values == 0).all()
    assert np.nanmin(found["kl"].control) > 0 and np.nanmin(found["kl"].null) > 0


def test_a_lens_is_read_at_its_own_positions(at, base):
    some = at.only(at.some(48))
    values = np.where(some.is_prompt, 1.0, 2.0)
    read = Compared(some, values, np.full(48, np.nan), np.full(48, 3.0))
    found = rows(base, base, at, {"kl": read, "kl_reverse": read})
    assert (found["kl", "prompt"]["value"], found["kl", "cot"]["value"]) == (1, 2)
    assert found["kl", "all"]["n_tokens"] == 48 and found["kl", "all"]["null"] == 3
    assert found["kl", "all"]["control"] is None and found["kl", "all"]["n_control"] == 0
