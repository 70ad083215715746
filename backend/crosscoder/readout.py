"""What decoder rows say by themselves: the tokens they promote when they write straight to the logits, and the rows
near them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from backend.models.final_norm import undivided
from backend.models.layers import layers_of
from backend.models.linear import linear

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_BLOCK = 512  # rows in one product


@dataclass(frozen=True, eq=False)
class Promoted:
    """Tokens of the vocabulary by effect, strongest first on either side."""

    top: np.ndarray  # (D, n) token ids, most promoted first
    top_effects: np.ndarray  # (D, n)
    bottom: np.ndarray  # (D, n) token ids, most suppressed first
    bottom_effects: np.ndarray  # (D, n)


@torch.inference_mode()
def promoted(rows: torch.Tensor, loaded: "LoadedModel", n: int = 10) -> Promoted:
    """Effects of `rows` (D, d), in units of the residual stream: each times the final norm's weight, times the
    unembedding.

    The norm's division by the stream's size is left out, so effects compare within a row. Where the norm takes the mean
    away (LayerNorm), it is taken from the rows. A projection after the norm and a factor of the logits are part of the
    way. Ids beyond the tokenizer's are padding of the vocabulary and never chosen.
    """
    found: list[list[torch.Tensor]] = [[], [], [], []]
    for block in rows.split(_BLOCK):
        effects = logit_effects(block, loaded)
        top, bottom = effects.topk(n, dim=1), effects.topk(n, dim=1, largest=False)
        for kept, extreme in zip(found, (top.indices, top.values, bottom.indices, bottom.values), strict=True):
            kept.append(extreme.cpu())
    return Promoted(*(torch.cat(parts).numpy() for parts in found))


@torch.inference_mode()
def logit_effects(rows: torch.Tensor, loaded: "LoadedModel") -> torch.Tensor:
    """(D, n_tokens): what each row (D, d) adds to the logit of each token, as `promoted` says."""
    parts = layers_of(loaded.model)
    weight = cast(torch.Tensor, parts.unembedding.weight)[: len(loaded.tokenizer)].float()
    gained = rows.to(weight.device)
    for part in undivided(parts):
        gained = part.through(gained)
    return linear((gained * (parts.logit_scale or 1)).contiguous(), weight)


@torch.inference_mode()
def nearest(rows: torch.Tensor, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(D, n) indices of the rows with the largest cosines, a row itself left out, and those cosines; NaN where a row is
    zero or there are no more others.
    """
    normed = nn.functional.normalize(rows.float(), dim=1)
    is_zero = rows.norm(dim=1) == 0
    n_others = min(n, len(rows) - 1)
    indices, cosines = np.zeros((len(rows), n), np.int64), np.full((len(rows), n), np.nan)
    for first in range(0, len(rows), _BLOCK):
        block = slice(first, first + _BLOCK)
        found = linear(normed[block], normed)
        found[:, is_zero] = -torch.inf
        found[is_zero[block]] = -torch.inf
        found[torch.arange(len(found)), first + torch.arange(len(found))] = -torch.inf
        best = found.topk(n_others, dim=1)
        indices[block, :n_others] = best.indices.numpy()
        cosines[block, :n_others] = best.values.masked_fill(torch.isinf(best.values), torch.nan).numpy()
    return indices, cosines
