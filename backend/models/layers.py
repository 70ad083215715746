"""Where the residual stream of any Hugging Face causal language model can be touched: one accessor for every architecture.

1. The blocks are the one ModuleList of length `config.get_text_config().num_hidden_layers`; layer ℓ is the output of block ℓ.
2. The final norm is the child that stands after the blocks and has one weight for each dimension of the residual stream.
3. The unembedding is the model's own output embedding, with the soft cap on logits where the configuration has one (Gemma 2: 30).
4. A block's output is a tensor in most architectures and a tuple in some; `residual_of` knows which it was given.

Nothing here ever changes the caller's model: hooks and replaced parts go on a `private_copy`, which shares its weights.
"""

import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from backend.errors import AnchorscopeError


class UnknownArchitecture(AnchorscopeError):
    """The model has no blocks, final norm or unembedding where every known architecture has them."""


@dataclass(frozen=True)
class Layers:
    """The parts of a causal language model between its embedding and its logits."""

    blocks: nn.ModuleList
    final_norm: nn.Module
    unembedding: nn.Module
    logit_cap: float | None  # logits are cap·tanh(logits / cap); None where they are not capped
    trunk: nn.Module  # the model without its unembedding; its last_hidden_state is already normed
    d_model: int

    def unembed(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits (…, vocab_size) of normed final residuals (…, d_model), as the model itself computes them."""
        logits = self.unembedding(normed)
        if self.logit_cap is not None:
            logits = torch.tanh(logits / self.logit_cap) * self.logit_cap
        return logits


def layers_of(model: nn.Module) -> Layers:
    """Finds the parts of `model`; raises UnknownArchitecture, naming what is missing, rather than guess."""
    config = model.config.get_text_config()
    n_layers, d_model, name = config.num_hidden_layers, config.hidden_size, type(model).__name__
    found = [
        (parent, child_name, child)
        for parent in model.modules()
        for child_name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == n_layers
    ]
    if not found:
        raise UnknownArchitecture(f"{name} has no ModuleList of {n_layers} blocks. Only decoder-only language models can be read.")
    parent, blocks_name, blocks = found[0]
    children = list(parent.named_children())
    after_blocks = children[[child_name for child_name, _ in children].index(blocks_name) + 1 :]
    norms = [child for _, child in after_blocks if tuple(getattr(child, "weight", torch.empty(0)).shape) == (d_model,)]
    if len(norms) != 1:
        raise UnknownArchitecture(f"{name} has {len(norms)} candidates for the final norm after its blocks; exactly one was expected.")
    unembedding = model.get_output_embeddings()
    if unembedding is None or model.base_model is model:
        raise UnknownArchitecture(f"{name} has no unembedding. Load it as a causal language model (AutoModelForCausalLM).")
    for key in ("logit_scale", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise UnknownArchitecture(f"{name} scales its logits ({key} = {getattr(config, key)}), which is not supported.")
    return Layers(blocks, norms[0], unembedding, getattr(config, "final_logit_softcapping", None), model.base_model, d_model)


def residual_of(output: Any) -> torch.Tensor:
    """The residual stream (batch, n_tokens, d_model) in a block's output, be it a tensor or a tuple that starts with it."""
    residual = output[0] if isinstance(output, tuple) else output
    if not isinstance(residual, torch.Tensor) or residual.ndim != 3:
        got = f"{type(output).__name__}" + (f" of shape {tuple(residual.shape)}" if isinstance(residual, torch.Tensor) else "")
        raise UnknownArchitecture(f"A block returned {got}; a tensor (batch, n_tokens, d_model), or a tuple of it, was expected.")
    return residual


def with_residual(output: Any, residual: torch.Tensor) -> Any:
    """`output` with its residual stream replaced, in the form it came in."""
    return (residual, *output[1:]) if isinstance(output, tuple) else residual


def private_copy(module: nn.Module, *, config: Any = None) -> nn.Module:
    """A copy of the module's structure that shares every weight and buffer with it; hooks on the copy do not touch the original.

    `config`, where given, takes the place of the module's configuration throughout the copy.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    if config is not None:
        shared.update({id(part.config): config for part in module.modules() if hasattr(part, "config")})
    return copy.deepcopy(module, shared)


def weight_and_bias(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """A linear layer's weight (n_out, n_in) and bias, cut off from training; None for any other module (an adapter's, a quantised one)."""
    from transformers.pytorch_utils import Conv1D

    if type(module) is nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach()
    if type(module) is Conv1D:
        return module.weight.detach().t(), module.bias.detach()
    return None


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (…, n_in) times weight (n_out, n_in) transposed, plus bias: float32 in, float32 out, like torch's own `linear`.

    On a CPU it asks oneDNN, whose float32 kernels measured 240 GFLOP/s on one Zen core where torch's default, MKL, gave 110.
    """
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return nn.functional.linear(x, weight, bias)


@functools.cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
