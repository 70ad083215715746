"""What follows the blocks, without the division by the stream's size: a linear map, and its transpose.

A norm that is not divided multiplies by a gain, and may take the mean away first (LayerNorm). Norms differ in what they
hold (no weight, a weight less one, a bias), so the norm itself is asked. A projection after the norm is a product.
"""

from dataclasses import dataclass

import torch
from torch import nn

from backend.models.layers import Layers
from backend.models.linear import linear, weight_and_bias


@dataclass(frozen=True, eq=False)
class Undivided:
    """One part of what follows the blocks."""

    weight: torch.Tensor  # the gain (d,), or a projection (n_out, n_in)
    is_centred: bool  # the mean over the stream's values is taken away first

    def through(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` (n, d) as the part carries them on."""
        rows = _centred(rows) if self.is_centred else rows
        return rows * self.weight if self.weight.ndim == 1 else linear(rows, self.weight)

    def back(self, rows: torch.Tensor) -> torch.Tensor:
        """The transpose of `through`: cotangents of what comes out become cotangents of what went in."""
        rows = rows * self.weight if self.weight.ndim == 1 else rows @ self.weight
        return _centred(rows) if self.is_centred else rows


@torch.inference_mode()
def undivided(parts: Layers) -> list[Undivided]:
    """What follows the blocks, in order; empty where nothing does."""
    after, found, d = parts.final_norm, list[Undivided](), parts.d_model
    for part in after if isinstance(after, nn.Sequential) else [after]:
        found.append(_asked(part, torch.ones(d, device=parts.trunk.device)))
        d = len(found[-1].weight)
    return found


def _asked(part: nn.Module, ones: torch.Tensor) -> Undivided:
    if (product := weight_and_bias(part)) is not None:
        return Undivided(product[0].float(), False)
    if len(ones) < 2:
        return Undivided(ones, False)
    signs = ones.clone()
    signs[1::2] = -1
    return Undivided(_gain(part, signs), _is_centred(part, signs))


def _gain(norm: nn.Module, signs: torch.Tensor) -> torch.Tensor:
    """(d_model,): what the norm multiplies a normed stream with. Signs that alternate have mean 0 and mean square 1,
    which leaves the gain alone, and their difference leaves out a bias.
    """
    return (norm(signs[None]) - norm(-signs[None]))[0].float() / 2 * signs


def _is_centred(norm: nn.Module, signs: torch.Tensor) -> bool:
    """Whether a shift of all values does not show."""
    shifted = norm(signs[None] + 1e3)[0].float()
    return torch.allclose(shifted, norm(signs[None])[0].float(), rtol=1e-2, atol=1e-3)


def _centred(rows: torch.Tensor) -> torch.Tensor:
    return rows - rows.mean(-1, keepdim=True)
