"""KL between what two models' logit lenses say of the same positions, both ways, in float64."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.feature_geometry.divergence import Compared, Positions
from backend.feature_geometry.partners import NONE

if TYPE_CHECKING:
    from backend.lens.lens import Readout

_AT_ONCE = 32  # positions whose distributions are held in float64
_MEASURES = ("kl", "kl_reverse")


def lens_divergence(
    base: "Readout", distilled: "Readout", a: torch.Tensor, b: torch.Tensor, at: Positions
) -> dict[str, Compared]:
    """By measure, of streams a and b (n, d_model) of a layer, each through its own model's final norm and head.

    Of the last layer these are the models' own next-token distributions. The same bits give 0 exactly.
    """
    said, other = base.logits(a), distilled.logits(b)
    values = _both_ways(said, other, np.arange(at.n))
    control, null = _both_ways(said, said, at.same_token), _both_ways(said, other, at.any_token)
    return {name: Compared(at, values[way], control[way], null[way]) for way, name in enumerate(_MEASURES)}


@torch.inference_mode()
def _both_ways(said: torch.Tensor, other: torch.Tensor, partners: np.ndarray) -> np.ndarray:
    """(2, n): KL(p ‖ q) and KL(q ‖ p), nats, of logits (n, vocab_size) each with the other's at its partner."""
    found = np.full((2, len(partners)), np.nan)
    there = np.flatnonzero(partners != NONE)
    for first in range(0, len(there), _AT_ONCE):
        rows = there[first : first + _AT_ONCE]
        log_p, log_q = said[rows].double().log_softmax(-1), other[partners[rows]].double().log_softmax(-1)
        apart = log_p - log_q
        sums = torch.stack([(log_p.exp() * apart).sum(-1), -(log_q.exp() * apart).sum(-1)])
        found[:, rows] = sums.clamp_min(0).cpu().numpy()  # a sum of rounded terms may be −1e-17
    return found
