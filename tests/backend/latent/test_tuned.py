"""Tuned lenses of latents in worlds where it is known what they can find."""

import pytest
import torch

from backend.latent.tuned import fit, quality
from tests.latent_models import tiny_latent

D, STEPS = 16, 3
FITTED, SCORED = [f"o{n}" for n in range(160)], 60


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def world(n, seed, *, turned):
    """(n, STEPS, 2 layers, D): the first layer writes the last one's streams in coordinates of its own; those of each
    position are others where `turned` has several.
    """
    last = drawn(n, STEPS, D, seed=seed)
    rotations = [torch.linalg.qr(drawn(D, D, seed=99 + turned[step]))[0] for step in range(STEPS)]
    layer = torch.stack([last[:, step] @ rotations[step] + 1 for step in range(STEPS)], 1)
    return torch.stack([layer, last], 2)


@pytest.fixture(scope="module")
def model():
    return tiny_latent()


def row(rows, variant, step):
    return next(one for one in rows if (one["variant"], one["step"]) == (variant, step))


def test_an_affine_map_that_was_planted_is_found_and_measured_on_other_problems(model):
    found = fit(model, world(160, 1, turned=(0, 0, 0)), FITTED, seed=0, tokens=0)
    rows = quality(model, found, world(SCORED, 2, turned=(0, 0, 0)), seed=0)
    for step in range(STEPS):
        own = row(rows, "all", step)
        assert own["kept"] != "identity" and own["gain_low"] > 0.5
        assert own["kl_logit"] > 0.5 and own["kl"] < 1e-3 and own["n_problems"] == SCORED


def test_where_the_layer_is_the_last_one_already_the_identity_is_kept(model):
    def same(n, seed):
        last = drawn(n, STEPS, D, seed=seed)
        return torch.stack([last, last], 2)

    found = fit(model, same(160, 1), FITTED, seed=0, tokens=0)
    rows = quality(model, found, same(SCORED, 2), seed=0)
    assert {one["kept"] for one in rows} == {"identity"} and max(abs(one["kl"]) for one in rows) < 1e-12
    streams = drawn(2, STEPS, D, seed=3)
    assert torch.equal(found.carry(streams, 0), streams) and torch.equal(found.carry_alone(streams, 0), streams)


def test_a_lens_of_one_latent_alone_knows_that_latent_where_each_has_coordinates_of_its_own(model):
    turned = (0, 1, 2)
    found = fit(model, world(160, 1, turned=turned), FITTED, seed=0, tokens=0)
    rows = quality(model, found, world(SCORED, 2, turned=turned), seed=0)
    assert row(rows, "1", 1)["kl"] < 1e-3 < 0.5 < row(rows, "1", 2)["kl"]
    assert row(rows, "all", 1)["kl"] > 0.5
    streams = world(4, 5, turned=turned)
    torch.testing.assert_close(found.carry_alone(streams[:, :, 0], 0), streams[:, :, 1], rtol=0.01, atol=0.01)


def test_streams_of_problems_that_say_nothing_of_the_last_keep_the_identity_or_do_no_worse(model):
    """A layer of noise: the best map is the mean, and it must not be called better on held-out problems than it is."""
    noise = torch.stack([drawn(160, STEPS, D, seed=1), drawn(160, STEPS, D, seed=2)], 2)
    other = torch.stack([drawn(SCORED, STEPS, D, seed=3), drawn(SCORED, STEPS, D, seed=4)], 2)
    rows = quality(model, fit(model, noise, FITTED, seed=0, tokens=0), other, seed=0)
    assert all(one["gain_high"] > -0.3 for one in rows)
