"""KL divergences over a whole vocabulary agree with float64 where naive float32 fails, and are never negative."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.models.kl import KLError, base_distribution, kl_between, kl_divergence, kl_reference

VOCABULARY = 150_000
# Nats that the definition itself loses in float64: two log-sum-exps near 10, whose last digit is 1.8e-15, each rounded
# once or twice, and terms of both signs, rounded alike. Which way depends on the CPU.
ROUNDING = 1e-14


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_float32(steered: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    log_p, log_q = steered.log_softmax(-1), base.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def in_decimals(steered: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """The definition, Σ p·(log p − log q), of logits (n_rows, vocab_size) in decimal numbers of 40 digits: alike on
    every machine.
    """
    rows = []
    with localcontext(prec=40):
        for s, b in zip(steered.tolist(), base.tolist(), strict=True):
            s, b = [Decimal(logit) for logit in s], [Decimal(logit) for logit in b]
            p = [logit.exp() for logit in s]
            total, base_total = sum(p), sum(logit.exp() for logit in b)
            change = sum(weight * (one - other) for weight, one, other in zip(p, s, b, strict=True)) / total
            rows.append(float(change - (total / base_total).ln()))
    return torch.tensor(rows, dtype=torch.float64)


def exact_from_change(steered: torch.Tensor, base: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return kl_reference(
        steered.double() @ weight.double().T, (base.double() @ weight.double().T).expand(len(steered), -1, -1)
    )


def test_reference_is_the_definition():
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    assert kl_reference(p.log(), q.log()).item() == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5))
    assert in_decimals(p.log()[None], q.log()[None]).item() == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5))


def test_naive_float32_goes_negative_at_a_small_perturbation_and_ours_does_not():
    base = 3 * normal(32, VOCABULARY)
    steered = base + 1e-4 * normal(32, VOCABULARY, seed=1)
    exact = kl_reference(steered, base)
    assert (exact > 0).all() and exact.mean() < 1e-8
    assert (naive_float32(steered, base) < 0).sum() > 5
    ours = kl_divergence(steered, base)
    assert (ours >= 0).all()
    assert (ours / exact - 1).abs().max() < 1e-2


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e-2, 1.0, 10.0, 100.0])
def test_kl_of_logits_is_exact_to_four_digits_at_every_scale(scale):
    base = 3 * normal(3, 2000)
    steered = base + scale * normal(3, 2000, seed=1)
    ours, truth = kl_divergence(steered, base), in_decimals(steered, base)
    assert torch.allclose(ours, truth, rtol=1e-4, atol=0)
    assert torch.allclose(kl_reference(steered, base), truth, rtol=1e-12, atol=ROUNDING)
    if scale < 1e-2:
        assert not torch.allclose(naive_float32(steered, base).double(), truth, rtol=1e-2, atol=0)


def test_equal_logits_are_exactly_zero_apart_and_a_common_shift_changes_nothing():
    logits = 3 * normal(4, 1000)
    assert (kl_divergence(logits, logits) == 0).all()
    other = normal(4, 1000, seed=1)
    assert torch.allclose(kl_divergence(logits + 7, other - 3), kl_divergence(logits, other), rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-7, 30), st.integers(2, 400))
def test_kl_is_never_negative_and_no_larger_than_the_largest_log_ratio(seed, scale, vocabulary):
    base = 2 * normal(3, vocabulary, seed=seed)
    steered = base + scale * normal(3, vocabulary, seed=seed + 1)
    kl = kl_divergence(steered, base)
    bound = (steered.log_softmax(-1) - base.log_softmax(-1)).max(-1).values
    assert (kl >= 0).all() and (kl <= bound + 1e-5).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e-2, 0.3, 3.0, 30.0])
def test_kl_from_the_change_of_the_residual_agrees_with_float64(scale):
    weight, base = 0.3 * normal(VOCABULARY // 10, 64, seed=1), normal(5, 64, seed=2)
    steered = base + scale * normal(7, 5, 64, seed=3)
    ours = base_distribution(base, weight).kl(steered)
    exact = exact_from_change(steered, base, weight)
    assert ours.dtype == torch.float64 and (ours >= 0).all()
    assert torch.allclose(ours, exact, rtol=1e-3, atol=ROUNDING)


def test_over_the_largest_vocabularies_small_changes_keep_their_digits():
    weight, base = normal(VOCABULARY, 32, seed=1) / 32**0.5, normal(4, 32, seed=2)
    for scale, tolerance in ((3e-2, 1e-3), (3e-3, 1e-5), (1e-4, 1e-5)):  # by expm1, and twice by the series
        steered = base + scale * normal(3, 4, 32, seed=3)
        exact = exact_from_change(steered, base, weight)
        assert torch.allclose(base_distribution(base, weight).kl(steered), exact, rtol=tolerance, atol=0)


def test_faint_rows_among_strong_ones_keep_their_digits_too():
    weight, base = normal(VOCABULARY, 32, seed=1) / 32**0.5, normal(4, 32, seed=2)
    steered = base + torch.tensor([1e-6, 1e-4, 1.0])[:, None, None] * normal(3, 4, 32, seed=3)
    kl, exact = base_distribution(base, weight).kl(steered), exact_from_change(steered, base, weight)
    assert exact[1].max() < 1e-8 < 1e-2 < exact[2].min()
    assert torch.allclose(kl, exact, rtol=1e-4, atol=ROUNDING)


def test_blocks_of_the_vocabulary_add_up_to_the_whole(monkeypatch):
    weight, base = normal(1000, 16, seed=1), normal(5, 16, seed=2)
    steered = base + 0.1 * normal(7, 5, 16, seed=3)
    whole = base_distribution(base, weight).kl(steered)
    monkeypatch.setattr("backend.models.kl._BLOCK_VALUES", 1)
    assert torch.allclose(base_distribution(base, weight).kl(steered), whole, rtol=1e-5, atol=0)


def test_a_bias_of_the_unembedding_shapes_the_base_and_cancels_in_the_change():
    weight, bias, base = normal(1000, 16, seed=1), 3 * normal(1000, seed=4), normal(5, 16, seed=2)
    steered = base + 0.1 * normal(7, 5, 16, seed=3)
    exact = kl_reference(steered @ weight.T + bias, (base @ weight.T + bias).expand(7, -1, -1))
    assert torch.allclose(base_distribution(base, weight, bias).kl(steered), exact, rtol=1e-3)


def test_an_unmoved_row_is_exactly_zero_among_moved_ones():
    weight, base = normal(1000, 16, seed=1), normal(5, 16, seed=2)
    steered = base.expand(3, -1, -1).clone()
    steered[1, 2] += 1
    kl = base_distribution(base, weight).kl(steered)
    assert kl[1, 2] > 0 and torch.count_nonzero(kl) == 1


def test_a_token_the_base_all_but_excludes_costs_its_whole_log_ratio():
    weight = torch.eye(3)
    base, steered = (
        torch.tensor([[0.0, 0.0, -300.0]]),
        torch.tensor([[[0.0, 0.0, 300.0]], [[0.0, 0.0, -300.5]], [[-300.0, 0.0, -900.0]]]),
    )
    exact = kl_reference(steered, base.expand(3, -1, -1))
    assert torch.allclose(base_distribution(base, weight).kl(steered), exact)
    assert torch.allclose(kl_divergence(steered, base.expand(3, -1, -1)), exact)
    assert exact[0, 0].item() == pytest.approx(300 + math.log(2))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(KLError, match="shapes"):
        kl_divergence(torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(KLError, match="steered"):
        kl_divergence(torch.tensor([math.nan, 0]), torch.zeros(2))
    base = base_distribution(torch.zeros(2, 4), torch.ones(9, 4))
    with pytest.raises(KLError, match="match"):
        base.kl(torch.zeros(3, 1, 4))
    with pytest.raises(KLError, match="NaN"):
        base.kl(torch.full((3, 2, 4), math.nan))


def test_the_quick_kl_is_the_reference_to_a_millionth_and_0_between_equals():
    draw = torch.Generator().manual_seed(3)
    logits = [3 * torch.randn(5, 2000, generator=draw) for _ in range(2)]
    log_p, log_q = (one.log_softmax(-1) for one in logits)
    assert torch.allclose(kl_between(log_p, log_p.exp(), log_q.clone()), kl_reference(*logits), atol=1e-5, rtol=1e-6)
    assert not kl_between(log_p, log_p.exp(), log_p.clone()).any()
