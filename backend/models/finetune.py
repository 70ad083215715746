"""Low-rank adapters (LoRA) trained on a CPU: peft's layers, over frozen weights that go to oneDNN forwards and
backwards.

A frozen weight needs no gradient of its own: backwards it only carries the gradient on, one more product of the same
size. Both products are oneDNN's float32 ones, twice as fast on a CPU as torch's default. Layers below the lowest
adapted one keep nothing for the way back.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.models.linear import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class FinetuneError(AnchorscopeError):
    """A model that cannot be adapted, or text that cannot be learned from."""


class _Frozen(torch.autograd.Function):
    """x · Wᵀ whose backward pass is dy · W, both by `linear`; `transposed` is Wᵀ laid out for the second."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
        ctx.transposed = transposed
        return linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return linear(gradients[0].contiguous(), ctx.transposed), None, None


def _frozen(x: torch.Tensor, weight: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
    return _Frozen.apply(x, weight, transposed)  # type: ignore[no-untyped-call]  # torch states no types for apply


class FrozenLinear(nn.Module):
    """A linear layer whose weight does not learn."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.weight = layer.weight
        self._transposed = [layer.weight.detach().t().contiguous()]  # in a list: it is no parameter of the module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _frozen(x, self.weight, self._transposed[0]) if x.requires_grad else linear(x, self.weight)
        return y if self.bias is None else y + self.bias


def adapted(
    model: "PreTrainedModel", *, rank: int, alpha: int, layers: Sequence[int], dropout: float = 0.0, seed: int = 0
) -> Any:
    """The model as a peft model with LoRA on every projection of the blocks in `layers`; only those learn.

    Raises FinetuneError for a family without the projections of Llama's blocks.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in PROJECTIONS if name not in names]:
        raise FinetuneError(
            f"{type(model).__name__} has no {', '.join(missing)}; adapters are trained for Llama-like models only."
        )
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(PROJECTIONS),
        layers_to_transform=list(layers),
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    for module in list(wrapped.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(module, name, FrozenLinear(child))
    return wrapped


def completion_loss(
    wrapped: Any, token_ids: torch.Tensor, n_prompt: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy (nats) of the completions' tokens, and how many there are.

    `token_ids` (n_rows, n_tokens) is padded on the right with anything; row i has `lengths[i]` tokens, of which the
    first `n_prompt[i]` are the prompt. Causal attention never looks at the padding, so it needs no mask. Logits exist
    for the completions' tokens alone.
    """
    inner = wrapped.base_model.model
    hidden = inner.base_model(input_ids=token_ids[:, :-1], use_cache=False).last_hidden_state
    predicted = torch.arange(1, token_ids.shape[1], device=token_ids.device)
    learned = (predicted >= n_prompt[:, None]) & (predicted < lengths[:, None])
    logits = inner.get_output_embeddings()(hidden[learned])
    return nn.functional.cross_entropy(logits, token_ids[:, 1:][learned], reduction="sum"), int(learned.sum())


def learned_state(wrapped: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by name."""
    return {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
