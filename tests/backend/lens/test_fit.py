"""The fit of a tuned lens, against laws and plain references."""

import numpy as np
import pytest
import torch

from backend.lens.fit import (
    IDENTITY,
    RIDGE,
    TUNED,
    AnyTarget,
    Candidates,
    Head,
    PlainTarget,
    Settings,
    Streams,
    batches,
    carried,
    descent,
    fit_layer,
    judged,
    ridge_of,
)
from backend.models.kl import kl_reference
from backend.models.layers import layers_of

D = 64
NO_STEP = Settings(tokens=0, batch=64, learning_rate=1e-3, seed=0)


def drawn(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def planted(n: int, seed: int) -> Streams:
    """Streams that a layer writes in rotated coordinates, moved: last = R (layer − 1)."""
    rotation = torch.linalg.qr(drawn(D, 99))[0]
    last = drawn(n, seed)
    return Streams(last @ rotation + 1, last)


def fitted(loaded, train: Streams, validation: Streams, settings: Settings = NO_STEP, problems=None):
    head = Head(loaded)
    problems = problems or [f"p{row % 10}" for row in range(len(validation.layer))]
    return head, fit_layer(head, train, head.target(train.last), validation, problems, settings)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_an_affine_map_that_was_planted_is_found(tiny, family):
    head, found = fitted(tiny(family), planted(400, 1), planted(60, 2))
    held_out = planted(60, 3)
    plain, tuned = head.kl(held_out, None, found.map)
    assert found.kept == RIDGE and found.gain.low > 0.5
    assert plain.mean() > 0.5 and tuned.mean() < 1e-4


@pytest.mark.parametrize("strength", [1e-6, 1e-2, 1.0])
def test_the_ridge_fit_is_the_least_squares_of_rows_with_the_penalty_below_them(strength):
    streams = Streams(drawn(200, 4) * torch.linspace(0.1, 9, D) + 3, drawn(200, 5))
    x, z = streams.layer.double().numpy(), (streams.last - streams.layer).double().numpy()
    centred = x - x.mean(0)
    penalty = np.sqrt(200 * strength * centred.var(0).mean()) * np.eye(D)
    rows = np.concatenate([centred, penalty]), np.concatenate([z - z.mean(0), np.zeros((D, D))])
    weight = np.linalg.lstsq(*rows, rcond=None)[0].T
    found, bias = ridge_of(streams).map(strength)
    assert np.allclose(found, weight, atol=1e-5)
    assert np.allclose(bias, z.mean(0) - weight @ x.mean(0), atol=1e-4)


def test_sums_in_parts_are_the_sums(tiny):
    whole = planted(600, 1)
    in_one = ridge_of(Streams(whole.layer, whole.last)).map(1e-3)
    assert torch.allclose(in_one[0], ridge_of(whole.first(600)).map(1e-3)[0])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_slope_is_the_gradient_of_kl(tiny, family):
    """The reference is the KL in float64, by autograd through the model's norm and head."""
    loaded, last, stream = tiny(family), drawn(5, 6), drawn(5, 7)
    head, parts = Head(loaded), layers_of(loaded.model)
    leaf = stream.clone().requires_grad_()
    logits = [parts.unembed(parts.final_norm(one)) for one in (last, leaf)]
    kl_reference(logits[0].detach(), logits[1]).sum().backward()
    found = head.slope(stream, head.target(last), torch.arange(5))
    assert torch.allclose(found, leaf.grad, atol=1e-5 * float(leaf.grad.abs().max()))


def test_the_quick_gradient_is_the_plain_one(tiny):
    parts, last, normed = layers_of(tiny("llama").model), drawn(5, 6), drawn(3, 7)
    rows = torch.tensor([4, 0, 2])
    with torch.no_grad():
        quick, plain = (made(parts, last).pull(normed, rows) for made in (PlainTarget, AnyTarget))
    assert torch.allclose(quick, plain, atol=1e-5 * float(plain.abs().max()))


def test_without_a_step_the_descent_is_where_the_ridge_fit_is(tiny):
    """A step of next to nothing stays there too: the white coordinates are those of the same map."""
    train, head = planted(200, 1), Head(tiny("llama"))
    solved, tiny_step = ridge_of(train), Settings(tokens=64, batch=64, learning_rate=1e-9, seed=0)
    ((steps, map_),) = descent(head, train, head.target(train.last), solved, 1e-2, tiny_step)
    assert steps == 1
    for found, start in zip(map_, solved.map(1e-2), strict=True):
        assert torch.allclose(found, start, atol=1e-5)
    _, fit = fitted(tiny("llama"), train, planted(60, 2))
    assert set(fit.kl) == {IDENTITY, RIDGE} and fit.steps == 0


def test_the_descent_comes_nearer_than_a_ridge_fit_that_is_held_back(tiny):
    train, held_out, head = planted(256, 1), planted(60, 3), Head(tiny("llama"))
    solved, settings = ridge_of(train), Settings(tokens=64 * 60, batch=64, learning_rate=3e-3, seed=0)
    looks = dict(descent(head, train, head.target(train.last), solved, 1.0, settings))
    assert list(looks) == [15, 30, 45, 60]
    start, *between, end = head.kl(held_out, solved.map(1.0), *looks.values()).mean(1)
    assert end < 0.5 * start and all(end < one < start for one in between)


def test_of_the_looks_on_the_way_the_one_with_the_least_validation_kl_is_kept(tiny):
    validation, head = planted(60, 2), Head(tiny("llama"))
    exact, far = ridge_of(planted(400, 1)).map(1e-6), (drawn(D, 5), drawn(1, 6)[0])
    looks = {10: far, 20: exact, 30: far}
    found = judged(head, validation, [f"p{row % 9}" for row in range(60)], Candidates(1.0, far, looks))
    assert (found.kept, found.steps) == (TUNED, 20) and found.map is exact
    assert found.kl[TUNED] < 1e-4 < found.kl[RIDGE]


def test_a_layer_that_the_fit_does_not_help_keeps_the_identity(tiny):
    """Its stream is the last one, so that the logit lens is exact there."""
    last = drawn(300, 8)
    _, found = fitted(tiny("llama"), Streams(last[:200], last[:200]), Streams(last[200:], last[200:]))
    assert (found.kept, found.map, found.kl[IDENTITY]) == (IDENTITY, None, 0)


def test_with_one_problem_to_judge_by_the_identity_is_kept(tiny):
    validation = planted(60, 2)
    _, found = fitted(tiny("llama"), planted(400, 1), validation, problems=["p"] * 60)
    assert found.kept == IDENTITY and found.gain.mean > 0.5 and np.isnan(found.gain.low)
    none = Streams(validation.layer[:0], validation.last[:0])
    _, found = fitted(tiny("llama"), planted(400, 1), none, problems=[])
    assert found.kept == IDENTITY and found.kl == {} and found.gain.n == 0


def test_the_same_seed_gives_the_same_map_and_another_gives_another(tiny):
    one, same, other = (
        fitted(tiny("llama"), planted(200, 1), planted(40, 2), Settings(2048, 64, 1e-3, seed))[1] for seed in (0, 0, 1)
    )
    assert one.kl == same.kl and one.kl[TUNED] != other.kl[TUNED] and one.kl[RIDGE] == other.kl[RIDGE]


def test_every_position_is_read_before_any_is_read_again():
    rows = torch.cat([*batches(10, Settings(tokens=20, batch=4, learning_rate=1, seed=0))])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))


def test_a_map_is_carried_as_its_formula_says():
    stream = drawn(3, 1)
    assert torch.allclose(carried(stream, (torch.eye(D), torch.ones(D))), 2 * stream + 1)
    assert carried(stream, None) is stream
