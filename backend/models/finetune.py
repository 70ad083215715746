"""Low-rank adapters (LoRA) trained on a CPU: peft's layers, over frozen weights that go to oneDNN forwards and
backwards.

A frozen weight needs no gradient of its own: backwards it only carries the gradient on, one more product of the same
size. Both products are oneDNN's float32 ones, twice as fast on a CPU as torch's default. Layers below the lowest
adapted one keep nothing for the way back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.models.linear import linear
from backend.models.model_files import ADAPTER_WEIGHTS

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


class _Half(torch.autograd.Function):
    """x · Wᵀ + scale · (x · Aᵀ) · Bᵀ, products in bfloat16; the gradients of A and B are float32."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        half_down, half_up = down.bfloat16(), (scale * up).bfloat16()
        inner = rows @ half_down.t()
        ctx.save_for_backward(rows, inner, half_down, half_up)
        ctx.weight, ctx.scale, ctx.dtype, ctx.shape = weight, scale, x.dtype, x.shape
        return (rows @ weight.t()).addmm_(inner, half_up.t()).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor, torch.Tensor, None]:
        rows, inner, half_down, half_up = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1]).bfloat16()
        of_inner = gradient @ half_up
        of_x = (gradient @ ctx.weight).addmm_(of_inner, half_down).view(ctx.shape).to(ctx.dtype)
        return of_x, None, (of_inner.t() @ rows).float(), (gradient.t() @ inner).float() * ctx.scale, None


class HalfProducts:
    """The forward pass of one of peft's LoRA layers with its products in bfloat16; what learns stays float32.

    Processors with matrix units for bfloat16 do them several times as fast as float32.
    """

    def __init__(self, layer: Any) -> None:
        self._down, self._up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        self._weight, self._scale = layer.base_layer.weight.detach().bfloat16(), layer.scaling["default"]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _Half.apply(  # type: ignore[no-untyped-call]  # torch states no types for apply
            x, self._weight, self._down, self._up, self._scale
        )
        return made


class _Attention(torch.autograd.Function):
    """Causal attention of whole sequences, products in bfloat16: q (n_groups, n_heads a group * n_tokens, d), k and v
    (n_groups, n_tokens, d). Keeping the probabilities is faster here than torch's way back, which makes them again.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        n = k.shape[1]
        scores = torch.bmm(q, k.transpose(1, 2)).float().view(len(k), -1, n, n).mul_(scale)
        scores += torch.full((n, n), -torch.inf).triu_(1)
        seen = torch.softmax(scores, dim=-1).view(len(k), -1, n).bfloat16()
        ctx.save_for_backward(q, k, v, seen)
        ctx.scale = scale
        return torch.bmm(seen, v)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        q, k, v, seen = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_seen = torch.bmm(gradient, v.transpose(1, 2)).float()
        weighted = of_seen * seen
        of_scores = (weighted - weighted.sum(-1, keepdim=True) * seen).mul_(ctx.scale).bfloat16()
        of_q, of_k = torch.bmm(of_scores, k), torch.bmm(of_scores.transpose(1, 2), q)
        return of_q, of_k, torch.bmm(seen.transpose(1, 2), gradient), None


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """`_Attention` as transformers asks for it, for one sequence without padding; a mask is not looked at."""
    _, n_heads, n, d = query.shape
    groups = key.shape[1]
    q, k, v = (part.bfloat16().reshape(groups, -1, d) for part in (query, key, value))
    made: torch.Tensor = _Attention.apply(q, k, v, scaling or d**-0.5)  # type: ignore[no-untyped-call]
    return made.view(1, n_heads, n, d).transpose(1, 2).contiguous(), None


def with_half_products(wrapped: Any) -> Any:
    """A peft model (without dropout) of Llama's kind that computes its products in bfloat16, one sequence at a time;
    use it under torch.autocast. Raises FinetuneError where not every layer is adapted.
    """
    from transformers import AttentionInterface

    layers = wrapped.base_model.model.base_model.layers
    if any(not any("lora_A" in name for name, _ in layer.named_parameters()) for layer in layers):
        raise FinetuneError("Products in bfloat16 are for models of which every layer is adapted.")
    for module in wrapped.modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            module.forward = HalfProducts(module)
    inner = wrapped.base_model.model
    head = inner.get_output_embeddings()
    half = nn.Linear(head.in_features, head.out_features, bias=False)
    half.weight = nn.Parameter(head.weight.detach().bfloat16(), requires_grad=False)
    inner.set_output_embeddings(half)
    AttentionInterface.register("half", _attention)
    inner.config._attn_implementation = "half"
    return wrapped


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


def begin_from(wrapped: Any, adapter: Path) -> None:
    """Makes a fresh adapter compute what a shipped one of lower or equal rank and the same scale does: its rows come
    first, the columns of B behind them stay zero.

    Raises FinetuneError for one that has weights this one lacks.
    """
    from safetensors.torch import load_file

    learned = learned_state(wrapped)
    for name, weight in load_file(adapter / ADAPTER_WEIGHTS).items():
        key = name.replace(".weight", ".default.weight")
        if key not in learned or any(a > b for a, b in zip(weight.shape, learned[key].shape, strict=True)):
            raise FinetuneError(f"{adapter / ADAPTER_WEIGHTS}: {name} has no place in the adapter that is trained.")
        with torch.no_grad():
            learned[key][: weight.shape[0], : weight.shape[1]] = weight.to(learned[key].dtype)


def learned_state(wrapped: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by name."""
    return {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
