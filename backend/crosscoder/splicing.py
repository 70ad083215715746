"""What a model loses when the residual stream is replaced by a dictionary's reconstruction of it,
and by nothing of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.models.edits import Edit, encode
from backend.models.layers import Layers

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_POSITIONS = 64  # unembedded at once


@dataclass(frozen=True)
class SplicedLosses:
    """Mean next-token losses over the judged tokens, nats a token."""

    n_tokens: int
    loss: float  # of the model as it is
    spliced: float
    zeroed: float
    averaged: float


@torch.inference_mode()
def spliced_losses(
    loaded: "LoadedModel",
    token_ids: Sequence[int],
    first: int,
    layer: int,
    reconstruction: torch.Tensor,
    mean: torch.Tensor,
) -> SplicedLosses:
    """Losses of tokens `first` … of a text, as `layer`'s output at all its tokens but the first one is replaced: by
    `reconstruction` (n_tokens − 1, d), by zero, or by `mean` (d,). One plain forward pass; the three others start at
    the layer. Sums are in float64.
    """
    encoded = encode(loaded, token_ids, layers=[layer])
    replaced = tuple(range(1, len(token_ids)))
    edits = [_replacement(layer, replaced, new) for new in (reconstruction, torch.zeros(()), mean)]
    targets = torch.tensor(token_ids[max(first, 1) :], device=encoded.normed.device)
    predicting = list(range(len(token_ids) - len(targets) - 1, len(token_ids) - 1))
    streams = [encoded.normed[predicting], *encoded.edited(edits, predicting).normed]
    losses = torch.stack([_loss(encoded.parts, stream, targets) for stream in streams])
    return SplicedLosses(len(targets), *losses.cpu().tolist())


def _replacement(layer: int, positions: tuple[int, ...], new: torch.Tensor) -> Edit:
    return Edit(layer, positions, lambda h: new.to(h).expand_as(h))


def _loss(parts: Layers, normed: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64, device=normed.device)
    for stream, wanted in zip(normed.split(_POSITIONS), targets.split(_POSITIONS), strict=True):
        total -= parts.unembed(stream).double().log_softmax(1).gather(1, wanted[:, None]).sum()
    return total / len(targets)
