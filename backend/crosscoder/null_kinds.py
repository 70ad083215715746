"""What a crosscoder is held against: the same training on a pair of which it is known what there is to be found.
Importing this costs no torch.

- `same` base against base itself, and `noise` base against base + Gaussian noise with the covariance of
  (distilled − base): the **null pairs**. No direction is one model's own, so whatever NRN their features show is what
  training alone does.
- `frozen_encoder` and `frozen_decoder`: the pair itself, but half of the weights stay as they were drawn. Features of
  random directions have examples, tokens and labels too (Heap et al. 2025, arXiv:2501.17727, say so of autoencoders of
  random models); a frozen decoder has the same row in both models, and NRN 0.5 by construction.
- `planted`: `noise`, and known directions that are added to the second model on certain tokens: what would have been
  found.
"""

from dataclasses import dataclass
from typing import Literal

from backend.errors import AnchorscopeError
from backend.registry import Registry

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of planted directions, in mean norms of (distilled − base)
A_STRENGTH = 8  # planted directions of each
SHARE_PLANTED = 0.01  # of the tokens, on which each stands


@dataclass(frozen=True)
class NullKind:
    name: str
    label: str  # in a legend
    words: str
    is_pair: bool  # its NRN is what a pair without differences shows
    frozen: Literal["encoder", "decoder"] | None = None


NULL_KINDS: Registry[NullKind] = Registry(
    "null of crosscoders",
    NullKind("same", "base against itself", "the base model against itself", True),
    NullKind(
        "noise",
        "base against base + noise",
        "the base model against itself with Gaussian noise of the covariance of (distilled − base)",
        True,
    ),
    NullKind("frozen_encoder", "frozen encoder", "the pair, by an encoder that stays as drawn", False, "encoder"),
    NullKind(
        "frozen_decoder",
        "frozen decoder",
        "the pair, by decoder rows that stay as drawn, the same in both models",
        False,
        "decoder",
    ),
    NullKind(
        "planted",
        "planted directions",
        "noise, and known directions added to the second model on certain tokens",
        False,
    ),
    error=AnchorscopeError,
)
PAIRS = tuple(kind.name for kind in NULL_KINDS.values() if kind.is_pair)
TWIN = "frozen_decoder"  # whose features stand in for the dictionary's: labels, examples, interventions
