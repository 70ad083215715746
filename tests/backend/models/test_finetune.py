"""Training an adapter: gradients are those of plain autograd, the frozen stays frozen,
and a planted habit is learned."""

import copy

import pytest
import torch
from torch import nn

from backend.models.finetune import (
    FinetuneError,
    FrozenLinear,
    HalfModel,
    adapted,
    begin_from,
    completion_loss,
    learned_state,
)
from backend.models.loading import load_model

TOKENS = torch.randint(3, 384, (3, 20), generator=torch.Generator().manual_seed(1))
N_PROMPT, LENGTHS = torch.tensor([5, 7, 4]), torch.tensor([20, 15, 18])


@pytest.fixture
def model(tiny_folder):
    return load_model(str(tiny_folder("llama"))).model


def test_a_frozen_layer_carries_the_gradient_of_a_plain_one():
    plain = nn.Linear(8, 5)
    plain.weight.requires_grad_(False)
    frozen = FrozenLinear(plain)
    x, y = torch.randn(2, 3, 8, requires_grad=True), None
    for layer in (plain, frozen):
        x.grad = None
        layer(x).square().sum().backward()
        y, last = x.grad.clone(), y
    assert torch.allclose(y, last, atol=1e-5)


def test_the_loss_and_its_gradients_are_those_of_the_model_itself(model):
    wrapped = adapted(copy.deepcopy(model), rank=4, alpha=8, layers=[1, 2, 3])
    for name, parameter in learned_state(wrapped).items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    loss, n = completion_loss(wrapped, TOKENS, N_PROMPT, LENGTHS)
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in learned_state(wrapped).items()}
    wrapped.zero_grad()
    labels = TOKENS.clone()
    for row in range(3):
        labels[row, : N_PROMPT[row]] = -100
        labels[row, LENGTHS[row] :] = -100
    logits = wrapped(input_ids=TOKENS).logits[:, :-1]
    plain = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )
    plain.backward()
    assert n == int((labels[:, 1:] != -100).sum()) and loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for name, parameter in learned_state(wrapped).items():
        assert torch.allclose(ours[name], parameter.grad, atol=1e-3, rtol=1e-3), name


def test_padding_changes_nothing(model):
    wrapped = adapted(model, rank=4, alpha=8, layers=[2])
    other = TOKENS.clone()
    other[1, 15:], other[2, 18:] = 7, 9
    first, second = (completion_loss(wrapped, tokens, N_PROMPT, LENGTHS)[0].item() for tokens in (TOKENS, other))
    assert first == second


def test_only_the_adapter_of_the_chosen_layers_learns(model):
    wrapped = adapted(model, rank=4, alpha=8, layers=[2, 3])
    names = list(learned_state(wrapped))
    assert len(names) == 2 * 7 * 2 and all("lora_" in name and (".2." in name or ".3." in name) for name in names)


def test_a_habit_is_learned(model):
    wrapped = adapted(model, rank=8, alpha=16, layers=[1, 2, 3])
    optimizer = torch.optim.AdamW(learned_state(wrapped).values(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss, n = completion_loss(wrapped, TOKENS, N_PROMPT, LENGTHS)
        (loss / n).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item() / n)
    assert losses[-1] < 0.5 * losses[0]


def test_a_family_without_the_projections_is_refused(tiny_folder):
    with pytest.raises(FinetuneError, match="Llama-like"):
        adapted(load_model(str(tiny_folder("gpt2"))).model, rank=4, alpha=8, layers=[1])


def test_half_products_give_the_loss_and_gradients_of_whole_ones(model):
    def of(half):
        wrapped = adapted(copy.deepcopy(model), rank=4, alpha=8, layers=range(len(model.model.layers)), seed=1)
        learned = learned_state(wrapped)
        for name, parameter in learned.items():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
        if half:
            rows = [row[:length].tolist() for row, length in zip(TOKENS, LENGTHS, strict=True)]
            loss, n = HalfModel(wrapped).completion_loss(rows, N_PROMPT.tolist())
        else:
            loss, n = completion_loss(wrapped, TOKENS, N_PROMPT, LENGTHS)
        gradients = torch.autograd.grad(loss, list(learned.values()))
        return loss.item() / n, torch.cat([gradient.flatten() for gradient in gradients])

    (whole, of_whole), (half, of_half) = of(False), of(True)
    assert half == pytest.approx(whole, rel=0.01)
    assert torch.cosine_similarity(of_whole, of_half, dim=0) > 0.99
    assert of_half.norm().item() == pytest.approx(of_whole.norm().item(), rel=0.05)


def test_a_larger_adapter_begins_as_a_smaller_one(model, tmp_path):
    from backend.models import adapters
    from backend.models.loading import load_tokenizer

    def loss(wrapped):
        return completion_loss(wrapped, TOKENS, N_PROMPT, LENGTHS)[0].item()

    small = adapted(copy.deepcopy(model), rank=2, alpha=4, layers=[1, 2], seed=3)
    for name, parameter in learned_state(small).items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=1.0)
    adapters.save(small, load_tokenizer(model.config.name_or_path), "base", tmp_path)
    large = adapted(copy.deepcopy(model), rank=4, alpha=8, layers=[0, 1, 2], seed=4)
    plain = loss(large)
    begin_from(large, tmp_path)
    assert loss(large) == pytest.approx(loss(small), rel=2e-4) and loss(large) != pytest.approx(plain, rel=1e-3)
    with pytest.raises(FinetuneError, match="has no place"):
        begin_from(adapted(copy.deepcopy(model), rank=1, alpha=2, layers=[1, 2]), tmp_path)


def test_half_products_need_every_layer_adapted(model):
    with pytest.raises(FinetuneError, match="every layer"):
        HalfModel(adapted(model, rank=2, alpha=4, layers=[1, 2]))
