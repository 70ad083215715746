"""All that is asked of torch and transformers by names which they keep for themselves, each with its reason.

Such a name may change with any version: these were read in the versions that `READ_IN` says. Whoever raises a pin in
requirements.txt reads them again and raises READ_IN with it (a test holds the two together), and no other module
touches such a name (a test holds that too).
"""

import copy
import functools
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

READ_IN = {"torch": "2.13.0", "transformers": "5.23.0"}


@functools.cache
def has_onednn() -> bool:
    """torch: whether `linear_by_onednn` and `packed_for_onednn` can be asked."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_computes_in(dtype: torch.dtype) -> bool:
    """torch: whether it also multiplies numbers of this type by the processor's own instructions."""
    if dtype == torch.float32:
        return has_onednn()
    return dtype == torch.bfloat16 and has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def linear_by_onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """torch: x (…, n_in) times weight (n_out, n_in) transposed, plus bias, in float32 on a CPU.

    torch's own `linear` asks MKL for float32, whatever the processor; oneDNN measured 240 GFLOP/s on one Zen core where
    MKL gave 110, and no public call leads there. `weight` may be one that `packed_for_onednn` gave.
    """
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def packed_for_onednn(weight: torch.Tensor, n_rows: int) -> torch.Tensor:
    """torch: the weight laid out once for the processor and for products of about `n_rows` rows. What `torch.compile`
    does when it freezes a model; a model that is not compiled has no other way to it.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)


def n_changes(model: nn.Module) -> int:
    """torch: a number that rises whenever a parameter is written to in place, so that what was made of the weights can
    be made anew. Comparing the weights themselves would read them all.
    """
    return sum(parameter._version for parameter in model.parameters())


def with_part(model: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """torch: the same model, without hooks, with `part` for its child `name`; all other children are shared.

    A module copies only deeply, or shares with its shallow copy the very dict that its children stand in.
    """
    other = copy.copy(model)
    other._modules = dict(model._modules)
    other._forward_hooks, other._forward_pre_hooks = OrderedDict(), OrderedDict()
    other._modules[name] = part
    return other


def without_subclasses() -> AbstractContextManager[None]:
    """torch: while open, operations on a tensor of a subclass are those of a plain one, not the subclass's. torch's own
    guide to subclasses takes it from there: it has no public name.
    """
    return torch._C.DisableTorchFunctionSubclass()


def softmax_backward(of_weights: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """torch: the gradient of scores whose softmax along the last dimension is `weights`, given that of the weights; all
    of one shape. What autograd calls itself in one pass; by products and sums it would be four passes over the scores.
    """
    return torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)


def use_attention(config: Any, name: str) -> None:
    """transformers: blocks with this configuration call the attention function registered under `name`.

    `set_attn_implementation` is for whole models, and refuses a block.
    """
    config._attn_implementation = name


def experts_one_by_one(model: nn.Module) -> None:
    """transformers: a mixture computes its experts one after the other, the only way that has a forward mode in torch.
    `set_experts_implementation` refuses families without experts; here these are left as they are.
    """
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", None):
            config._experts_implementation = "eager"
