"""Products with somebody else's weights: fast ones, one that can be differentiated, and layers that do them."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn

from backend.models.private import has_onednn, linear_by_onednn, packed_for_onednn

_PACKED_FOR = 128  # rows of a product: a full batch of rollouts
_MANY = 1024  # the same of one that is large by itself


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (…, n_in) times weight (n_out, n_in) transposed, plus bias: float32 in, float32 out, like torch's own `linear`.

    On a CPU it asks oneDNN, which is about twice as fast there as what torch asks.
    """
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and has_onednn():
        return linear_by_onednn(x, weight, bias)
    return nn.functional.linear(x, weight, bias)


def packed(weight: torch.Tensor) -> torch.Tensor:
    """`weight` laid out once for `linear` with many rows, where `linear` asks oneDNN for it; else as it is."""
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn():
        return packed_for_onednn(weight.contiguous(), _MANY)
    return weight


def weight_and_bias(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """A linear layer's weight (n_out, n_in) and bias, cut off from training; None for any other module (an adapter's, a
    quantised one).
    """
    from transformers.pytorch_utils import Conv1D

    if type(module) is nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach()
    if type(module) is Conv1D:
        conv: Any = module  # GPT-2's: a linear layer whose weight lies the other way round
        return conv.weight.detach().t(), conv.bias.detach()
    return None


def replace_linears(module: nn.Module, made: Callable[[nn.Module], nn.Module | None]) -> None:
    """In `module`, a private copy, every child of which `made` makes another becomes that one."""
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if (other := made(child)) is not None:
                setattr(part, name, other)


class LeanLinear(nn.Module):
    """A linear layer over somebody else's weights, by `linear`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self._tensors = (weight, bias)  # in a tuple: they stay the model's parameters, not this module's

    @classmethod
    def over(cls, module: nn.Module) -> "LeanLinear | None":
        """For a linear layer; None for any other module."""
        found = weight_and_bias(module)
        return None if found is None else cls(*found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, *self._tensors)


class PackedLinear(nn.Module):
    """torch.nn.Linear by oneDNN, its weight laid out once for the processor."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.packed = packed_for_onednn(linear.weight.detach(), _PACKED_FOR)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.dtype == torch.float32 or inputs[..., 0].numel() <= _PACKED_FOR:
            return linear_by_onednn(inputs, self.packed, self.bias)
        # Of more rows, oneDNN takes sums of 16-bit numbers in another order: what a row gives would depend on how many.
        blocks = inputs.flatten(0, -2).split(_PACKED_FOR)
        answers = torch.cat([linear_by_onednn(block, self.packed, self.bias) for block in blocks])
        return answers.view(*inputs.shape[:-1], -1)


class Product(torch.autograd.Function):
    """a (n_groups, n_rows, n_in) times constant weights (n_groups, n_out, n_in) transposed, group by group."""

    @staticmethod
    def forward(a: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        products = [linear(rows, own) for rows, own in zip(a, weight, strict=True)]
        return products[0][None] if len(products) == 1 else torch.stack(products)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        ctx.weight = inputs[
            1
        ]  # not saved for backward: weights of an encoded text are tensors of inference mode, and constants

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _constant: None) -> torch.Tensor:
        return product(tangent, ctx.weight)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None]:
        return product(cotangent, ctx.weight.transpose(-1, -2)), None

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int, None], a: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, int]:
        a = a.movedim(in_dims[0], 1)
        return product(a.flatten(1, 2), weight).unflatten(1, a.shape[1:3]), 1


def product(a: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What `Product` computes, with derivatives."""
    return Product.apply(a, weight)  # type: ignore[no-untyped-call]  # torch states no types for apply


class ProductLinear(nn.Module):
    """A linear layer over somebody else's weights that can be differentiated by its input: a `Product`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self._tensors = (weight[None], bias)  # in a tuple: they stay the model's parameters, not this module's

    @classmethod
    def over(cls, module: nn.Module) -> Self | None:
        """For a linear layer; None for any other module."""
        found = weight_and_bias(module)
        return None if found is None else cls(*found)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors
        y = product(x.reshape(1, -1, x.shape[-1]), weight).reshape(*x.shape[:-1], weight.shape[1])
        return y if bias is None else y + bias
