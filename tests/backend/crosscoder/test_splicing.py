"""Spliced losses are those of a plain forward pass whose layer's output is replaced by hand."""

import pytest
import torch
from torch import nn

from backend.crosscoder.splicing import spliced_losses
from backend.models.layers import layers_of, private_copy, residual_of, with_residual
from backend.models.residuals import record_residuals

LAYER, FIRST = 1, 6
TEXT = "Let me think step by step. Wait, the answer is 42, so 6 * 7 = 42."


def by_hand(loaded, ids: list[int], new: torch.Tensor | None) -> float:
    model = private_copy(loaded.model)

    def replace(_block, _inputs, output):
        h = residual_of(output).clone()
        h[:, 1:] = new
        return with_residual(output, h)

    if new is not None:
        layers_of(model).blocks[LAYER].register_forward_hook(replace)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    return nn.functional.cross_entropy(logits[FIRST - 1 : -1].double(), torch.tensor(ids[FIRST:])).item()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_each_loss_is_that_of_the_replaced_stream(tiny, family):
    loaded = tiny(family)
    ids = loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    stream = record_residuals(loaded, ids, [LAYER])[LAYER]
    noisy, mean = (
        stream[1:] + 0.3 * torch.randn(stream[1:].shape, generator=torch.Generator().manual_seed(0)),
        stream.mean(0),
    )
    found = spliced_losses(loaded, ids, FIRST, LAYER, noisy, mean)
    assert found.n_tokens == len(ids) - FIRST
    expected = [by_hand(loaded, ids, new) for new in (None, noisy, torch.zeros_like(noisy), mean.expand_as(noisy))]
    assert [found.loss, found.spliced, found.zeroed, found.averaged] == pytest.approx(expected, rel=1e-4)


def test_a_perfect_reconstruction_costs_nothing(tiny):
    loaded = tiny("llama")
    ids = loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    stream = record_residuals(loaded, ids, [LAYER])[LAYER]
    found = spliced_losses(loaded, ids, FIRST, LAYER, stream[1:], stream.mean(0))
    assert found.spliced == found.loss != found.zeroed


def test_a_text_without_a_prompt_is_judged_from_its_second_token(tiny):
    loaded = tiny("llama")
    ids = loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    stream = record_residuals(loaded, ids, [LAYER])[LAYER]
    assert spliced_losses(loaded, ids, 0, LAYER, stream[1:], stream.mean(0)).n_tokens == len(ids) - 1
