"""The Jacobian lens: what a small move of the stream at a layer does to the last block's output, over a corpus.

1. J_ℓ = mean over prompts, and over source positions p of each, of Σ_{p′ ≥ p} ∂h_last,p′ / ∂h_ℓ,p (Gurnee et al. 2026).
   h_last is the last block's output, before the final norm. Of a prompt's first 128 tokens, positions 16 … T − 2 take
   part, as sources and as targets: the first ones are sinks of attention, the last has no next token. A prompt counts
   once, however long it is.
2. A named token's logit is uᵀ J_ℓ h up to the size of J_ℓ h, where u is its row of the unembedding times the final
   norm's gain. So uᵀ J_ℓ, one row a token, is all that its logit needs: a reverse pass with the cotangent u instead of
   one for each of the d_model values. Cost: 2 operations for each weight of the blocks, token and cotangent, for all
   layers together.
3. The size of J_ℓ h divides all logits of a position alike. So their sign and their order among named tokens are exact,
   and probabilities are not known. Where the logits have a part that is not divided (the bias of a LayerNorm or of the
   head), sign and order are exact only up to it: `Cotangents.constants` has it, and `words` say so.

The sum runs over later positions too: the lens shows what will be said, not only what is said next. J → I near the top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from backend.lens.kinds import LensError
from backend.lens.lens import Readout
from backend.models.final_norm import undivided
from backend.models.layers import layers_of
from backend.models.pullbacks import Pullbacks
from backend.store.store import Store

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

SKIPPED = 16  # positions at the beginning that take no part
MAX_TOKENS = 128  # of a prompt that are read
FEWEST_TOKENS = SKIPPED + 2  # of a prompt, so that one position takes part


def positions_of(n_tokens: int) -> range:
    """The positions of a prompt that take part. Raises LensError for one that is too short to have any."""
    if n_tokens < FEWEST_TOKENS:
        raise LensError(
            f"A text of {n_tokens} tokens is too short for the Jacobian lens: the first {SKIPPED} positions and the"
            f" last take no part, so that {FEWEST_TOKENS} tokens are the least."
        )
    return range(SKIPPED, min(n_tokens, MAX_TOKENS) - 1)


def prompt_rows(
    pullbacks: Pullbacks, token_ids: Sequence[int], cotangents: torch.Tensor, layers: Sequence[int]
) -> torch.Tensor:
    """uᵀ J of one prompt alone, for each of `layers` below the last and each cotangent u (n, d_model), as rows
    (n_layers, n, d_model). With the identity for cotangents they are the matrices J themselves.
    """
    positions = positions_of(len(token_ids))
    return pullbacks.summed(token_ids, cotangents, layers, positions) / len(positions)


class PromptMean:
    """The mean of what prompts gave, summed in float64 in the order they are added; every second one apart, so that two
    halves of the prompts can be compared.
    """

    def __init__(self, sums: torch.Tensor | None = None, n: int = 0) -> None:
        self.sums, self.n = sums, n  # (2, …): of prompts 0, 2, … and of 1, 3, …

    def add(self, found: torch.Tensor) -> float | None:
        """Takes one prompt's (n_layers, …) in. Returns ‖new mean − old mean‖ / ‖new mean‖, averaged over layers; None
        of the first prompt.
        """
        before = None if self.n == 0 else self._exact
        if self.sums is None:
            self.sums = torch.zeros((2, *found.shape), dtype=torch.float64)
        self.sums[self.n % 2] += found.double().cpu()
        self.n += 1
        if before is None:
            return None
        moved, now = (self._exact - before).flatten(1).norm(dim=1), self._exact.flatten(1).norm(dim=1)
        return float((moved / now).mean())

    @property
    def mean(self) -> torch.Tensor:
        return self._exact.float()

    @property
    def cosine_of_halves(self) -> torch.Tensor | None:
        """Cosine between the means of the two halves, over the last dimension; None of fewer than two prompts."""
        if self.n < 2 or self.sums is None:
            return None
        return torch.nn.functional.cosine_similarity(self.sums[0], self.sums[1], dim=-1)

    @property
    def _exact(self) -> torch.Tensor:
        if self.sums is None:
            raise LensError("There is no prompt yet whose Jacobians could be averaged.")
        return self.sums.sum(0) / self.n


@dataclass(frozen=True, eq=False)
class Cotangents:
    """Named tokens in the coordinates of the last block's output: the logit of token t of a carried stream c is
    `vectors[t] · c` / size of c + `constants[t]`.
    """

    token_ids: tuple[int, ...]
    vectors: torch.Tensor  # (n, d_model)
    constants: torch.Tensor  # (n,): what the model says of a stream of zeros

    @property
    def is_exact(self) -> bool:
        """Whether sign and order of named logits are those of the whole readout."""
        return not bool(self.constants.any())

    @property
    def words(self) -> str:
        if self.is_exact:
            return "Sign and order of these logits are exact; their size is known up to one factor a position."
        return (
            "This model adds a bias after the final norm's division, which these logits leave out: their sign and order"
            f" are exact only up to it (it lies between {float(self.constants.min()):.2f} and"
            f" {float(self.constants.max()):.2f} for these tokens)."
        )


@torch.inference_mode()
def cotangents_of(loaded: "LoadedModel", token_ids: Sequence[int]) -> Cotangents:
    """Rows of the unembedding, back through the final norm's gain (and its taking away of the mean, in a LayerNorm)."""
    parts = layers_of(loaded.model)
    weight = cast(torch.Tensor, parts.unembedding.weight)
    if wrong := [token for token in token_ids if not 0 <= token < len(weight)]:
        raise LensError(f"There is no token {wrong[0]}: {loaded.name} has tokens 0 to {len(weight) - 1}.")
    vectors = weight[list(token_ids)].float() * (parts.logit_scale or 1)
    for part in reversed(undivided(parts)):
        vectors = part.back(vectors)
    constants = Readout(loaded).logits(weight.new_zeros(parts.d_model))[..., list(token_ids)].float()
    return Cotangents(tuple(token_ids), vectors.clone(), constants.clone())


@dataclass(frozen=True, eq=False)
class NamedRows:
    """The Jacobian lens of named tokens alone."""

    n_layers: int
    cotangents: Cotangents
    rows: Mapping[int, torch.Tensor]  # layer -> (n, d_model)

    def scores(self, residual: torch.Tensor, layer: int) -> torch.Tensor:
        """(…, n): logits of the named tokens for streams (…, d_model), up to one positive factor a position (and up to
        `cotangents.constants`). Raises LensError for a layer that was not averaged.
        """
        if layer == self.n_layers - 1:
            return residual @ self.cotangents.vectors.T
        if layer not in self.rows:
            known = ", ".join(map(str, sorted(self.rows)))
            raise LensError(f"The Jacobian lens has no rows for layer {layer}; it has {known} and the last one.")
        return residual @ self.rows[layer].T

    def reads(self, layer: int) -> bool:
        """Whether it has rows for streams of this layer."""
        return layer == self.n_layers - 1 or layer in self.rows


def stored_rows(store: Store, lens_id: str) -> NamedRows:
    """The rows of named tokens that a study has of one Jacobian lens. Raises LensError where it has none."""
    tokens, rows = store.jacobian_tokens(lens_id), store.jacobian_rows(lens_id)
    if rows.empty:
        raise LensError(f"{store.path} has no rows of named tokens of the lens {lens_id!r}.")
    by_layer = {
        int(layer): torch.from_numpy(np.stack([*of_layer["values"]]).astype(np.float32))
        for layer, of_layer in rows.groupby("layer")
    }
    last = max(by_layer)
    constants = torch.tensor(tokens["constant"].to_numpy(), dtype=torch.float32)
    named = Cotangents(tuple(map(int, tokens["token_id"])), by_layer.pop(last), constants)
    return NamedRows(last + 1, named, by_layer)
