"""Where the residual stream of any Hugging Face causal language model can be touched: one accessor for every
architecture.

1. The blocks are the one ModuleList of length `config.get_text_config().num_hidden_layers` that a text passes through
   in order; layer ℓ is the output of block ℓ.
2. What follows the blocks is found by watching a pass of a few tokens: the modules beside the blocks through which the
   last block's output becomes the trunk's answer, one after the other. In most architectures that is one norm; it may
   be none (a norm at the end of each block), a norm without weight, or a norm and a projection (OPT-350m).
3. Logits are the model's own: its head is run as it stands over a given stream, so that scales (Granite, Cohere), soft
   caps (Gemma 2) and biases are in them. Where they turn out to be the unembedding times a number, that number is known
   and the quick sums can be used.
4. A block's output is a tensor in most architectures and a tuple in some; `residual_of` knows which it was given.

Nothing here ever changes the caller's model: hooks and replaced parts go on a `private_copy`, which shares its weights.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from backend.errors import AnchorscopeError
from backend.models.linear import weight_and_bias
from backend.models.private import with_part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_PROBE = 5  # tokens of the pass that is watched
_LINEAR = 1e-5  # share of the largest logit by which logits may differ from the unembedding times a number, by rounding
_LARGE = 100.0  # times the stream: a soft cap bends logits as large as that


class UnknownArchitecture(AnchorscopeError):
    """The model has no blocks, final norm or unembedding where every known architecture has them."""


@dataclass(frozen=True)
class Layers:
    """The parts of a causal language model between its embedding and its logits."""

    blocks: nn.ModuleList
    final_norm: nn.Module  # all that follows the blocks in the trunk: a norm in most families
    unembedding: nn.Module
    logit_scale: float | None  # logits are this times the unembedding; None where they are more than that (a soft cap)
    trunk: "PreTrainedModel"  # the model without its unembedding; its last_hidden_state is already normed
    d_model: int
    _head: "PreTrainedModel"  # the model with its trunk replaced by the stream it is given

    def unembed(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits (…, vocab_size) of normed final residuals (…, d_normed), as the model itself computes them."""
        if self.logit_scale == 1:
            return self.unembedding(normed)
        batch = normed if normed.ndim == 3 else normed.reshape(1, -1, normed.shape[-1])
        return self._head(input_ids=batch, use_cache=False).logits.view(*normed.shape[:-1], -1)

    @property
    def plain_unembedding(self) -> tuple[float, torch.Tensor, torch.Tensor | None] | None:
        """(scale, weight, bias) of logits that are scale·(weight·normed + bias); None of others, and where the weight
        is no plain one.
        """
        if self.logit_scale is None or (found := weight_and_bias(self.unembedding)) is None:
            return None
        return self.logit_scale, *found


@dataclass(frozen=True)
class _Found:
    """Where the parts stand, by name, so that every copy of the model has them."""

    blocks: str
    after: tuple[str, ...]
    logit_scale: float | None


def layers_of(model: "PreTrainedModel") -> Layers:
    """Finds the parts of `model`; raises UnknownArchitecture, naming what is missing, rather than guess."""
    config, name = model.config.get_text_config(), type(model).__name__
    if not any(isinstance(part, nn.ModuleList) and len(part) == config.num_hidden_layers for part in model.modules()):
        raise UnknownArchitecture(
            f"{name} has no ModuleList of {config.num_hidden_layers} blocks. Only decoder-only language models can be"
            " read."
        )
    unembedding = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    trunk_name = _trunk_name(model)
    if unembedding is None or trunk_name is None:
        raise UnknownArchitecture(
            f"{name} has no unembedding. Load it as a causal language model (AutoModelForCausalLM)."
        )
    key = model.get_input_embeddings().weight  # what all private copies of a model share
    if key not in _FOUND:
        _FOUND[key] = _watched(private_copy(model), trunk_name)
    found = _FOUND[key]
    after = [model.get_submodule(one) for one in found.after]
    return Layers(
        blocks=model.get_submodule(found.blocks),
        final_norm=after[0] if len(after) == 1 else nn.Sequential(*after),
        unembedding=unembedding,
        logit_scale=found.logit_scale,
        trunk=getattr(model, trunk_name),
        d_model=config.hidden_size,
        _head=_head_of(model, trunk_name),
    )


@torch.no_grad()
def _watched(model: "PreTrainedModel", trunk_name: str) -> _Found:
    """Runs `model`, a private copy in eval mode, over a few tokens and sees where they pass."""
    name, trunk = type(model).__name__, getattr(model, trunk_name)
    tokens = torch.arange(1, _PROBE + 1, device=model.get_input_embeddings().weight.device)[None]
    calls: list[tuple[str, Any, Any]] = []
    handles = [
        module.register_forward_hook(lambda _module, inputs, output, path=path: calls.append((path, inputs, output)))
        for path, module in model.named_modules(remove_duplicate=False)
    ]
    try:
        answer = trunk(input_ids=tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    for path in _candidates(model):
        order = [called for called, _, _ in calls if called.rpartition(".")[0] == path]
        if order != [f"{path}.{number}" for number in range(len(model.get_submodule(path)))]:
            continue
        last = max(number for number, (called, _, _) in enumerate(calls) if called == order[-1])
        stream = residual_of(calls[last][2])
        after: list[str] = []
        beside = {
            f"{parent}.{child}".lstrip(".")
            for parent in _above(path)
            for child, _ in model.get_submodule(parent).named_children()
        }
        for called, inputs, output in calls[last + 1 :]:
            if called in beside and any(isinstance(one, torch.Tensor) and _same(one, stream) for one in inputs):
                stream, after = output, [*after, called]
        if not _same(stream, answer.last_hidden_state):
            raise UnknownArchitecture(
                f"{name} does more after its blocks than pass their output through modules"
                f" ({', '.join(after) or 'none'} seen), so streams that were edited cannot be carried on to its logits."
            )
        return _Found(path, tuple(after), _scale(model, trunk_name, answer.last_hidden_state))
    raise UnknownArchitecture(
        f"{name} has no ModuleList of {model.config.get_text_config().num_hidden_layers} blocks through which a text"
        " passes in order."
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one is other or (one.device.type != "meta" and torch.equal(one, other))


def _trunk_name(model: "PreTrainedModel") -> str | None:
    """Under which name the model holds all but its unembedding; None where it is a trunk itself."""
    if model.base_model_prefix in dict(model.named_children()):
        return model.base_model_prefix
    embedding = model.get_input_embeddings()
    holds = (
        name for name, child in model.named_children() if child is not embedding and embedding in list(child.modules())
    )
    return next(holds, None)


def _candidates(model: "PreTrainedModel") -> Iterator[str]:
    n_layers = model.config.get_text_config().num_hidden_layers
    return (path for path, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers)


def _above(path: str) -> list[str]:
    """Paths of the modules that hold `path`, the whole model left out."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _scale(model: "PreTrainedModel", trunk_name: str, normed: torch.Tensor) -> float | None:
    """The number that the model multiplies its unembedding with; None where its logits are not that."""
    if normed.device.type == "meta":
        return None
    head, unembedding = _head_of(model, trunk_name), model.get_output_embeddings()
    scale = None
    for size in (1.0, _LARGE):
        stream = normed * size
        logits, plain = head(input_ids=stream, use_cache=False).logits, unembedding(stream)
        if logits.shape != plain.shape:
            return None
        if torch.equal(logits, plain):
            scale = 1.0
            continue
        logits, plain = logits.double(), plain.double()
        if scale is None:
            scale = float((logits * plain).sum() / plain.square().sum())
        if not (logits - scale * plain).abs().max() <= _LINEAR * logits.abs().max():
            return None
    return scale


def _head_of(model: "PreTrainedModel", trunk_name: str) -> "PreTrainedModel":
    """The same model with, for its trunk, the stream it is given in place of token ids."""
    return with_part(model, trunk_name, _Given(getattr(model, trunk_name)))


class _Given(nn.Module):
    """In place of a trunk: its last hidden state is what it is called with.

    Heads that ask the trunk for a number get the trunk's own.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self._trunk = (trunk,)  # in a tuple: no part of this module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["_trunk"][0], name)
        return self if isinstance(found, nn.Module) else found  # OPT's head calls its trunk's decoder

    def forward(self, input_ids: torch.Tensor, **_unused: Any) -> "_Answer":
        return _Answer(input_ids)


class _Answer(tuple[torch.Tensor]):
    """What a trunk answers with: its last hidden state, and None for all that a head might pass on beside it."""

    def __new__(cls, stream: torch.Tensor) -> "_Answer":
        return super().__new__(cls, (stream,))

    @property
    def last_hidden_state(self) -> torch.Tensor:
        return self[0]

    def __getattr__(self, name: str) -> None:
        return None


_FOUND = WeakTensorKeyDictionary()  # input embedding -> _Found


def residual_of(output: Any) -> torch.Tensor:
    """The residual stream (batch, n_tokens, d_model) in a block's output, be it a tensor or a tuple that starts with
    it.
    """
    residual = output[0] if isinstance(output, tuple) else output
    if not isinstance(residual, torch.Tensor) or residual.ndim != 3:
        got = f"{type(output).__name__}" + (
            f" of shape {tuple(residual.shape)}" if isinstance(residual, torch.Tensor) else ""
        )
        raise UnknownArchitecture(
            f"A block returned {got}; a tensor (batch, n_tokens, d_model), or a tuple of it, was expected."
        )
    return residual


def with_residual(output: Any, residual: torch.Tensor) -> Any:
    """`output` with its residual stream replaced, in the form it came in."""
    return (residual, *output[1:]) if isinstance(output, tuple) else residual


def private_copy(module: AnyModule, *, config: Any = None) -> AnyModule:
    """A copy of the module's structure that shares every weight and buffer with it; hooks on the copy do not touch the
    original.

    `config`, where given, takes the place of the module's configuration throughout the copy.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    if config is not None:
        shared.update({id(part.config): config for part in module.modules() if hasattr(part, "config")})
    return copy.deepcopy(module, shared)
