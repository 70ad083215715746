"""Keys without their position: the exact inverse of a model's own rotary embedding.

A stored key is R(p) k: what a layer made of the latent, turned by its position p. Averages and differences of stored
keys mix positions: between neighbouring positions a key changes by about a tenth of its length without meaning anything
else. So keys are turned back before they are averaged, and what is added at a position is turned for it.

cos and sin come from the model itself, with the scaling of its frequencies and the factor f by which some variants
lengthen keys: R(p) is f times a rotation, and its inverse the opposite turn over f². A model that learns its positions
as embeddings does not turn keys: nothing is done to them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from backend.latent.kinds import LatentError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = 1e-4  # of a key's length, in float32


class Rotation(Protocol):
    """What a position does to keys (…, n_heads, head_dim) that all stand there."""

    def turned(self, keys: torch.Tensor, position: int) -> torch.Tensor: ...

    def turned_back(self, keys: torch.Tensor, position: int) -> torch.Tensor: ...


class Unturned:
    """Keys as they are: of a model that does not turn them, and of averages that leave them turned."""

    def turned(self, keys: torch.Tensor, position: int) -> torch.Tensor:
        return keys

    def turned_back(self, keys: torch.Tensor, position: int) -> torch.Tensor:
        return keys


@dataclass(frozen=True, eq=False)
class Rotary:
    """`angles(x, position_ids)` gives cos and sin, `apply(q, k, cos, sin)` turns: both are the model's own."""

    angles: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    apply: Callable[..., tuple[torch.Tensor, torch.Tensor]]

    def turned(self, keys: torch.Tensor, position: int) -> torch.Tensor:
        cos, sin = self._angles(keys, position)
        return self._applied(keys, cos, sin)

    def turned_back(self, keys: torch.Tensor, position: int) -> torch.Tensor:
        cos, sin = self._angles(keys, position)
        length = cos**2 + sin**2  # f²
        return self._applied(keys, cos / length, -sin / length)

    def _angles(self, keys: torch.Tensor, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, 1, n_turned) each."""
        return self.angles(keys, torch.tensor([[position]], device=keys.device))

    def _applied(self, keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        n_turned = cos.shape[-1]
        head, rest = keys[..., :n_turned], keys[..., n_turned:]
        rows = head.reshape(1, -1, 1, n_turned)  # as (batch, heads, positions, dimensions)
        _, turned = self.apply(rows, rows, cos, sin)
        return torch.cat([turned.reshape(head.shape), rest], -1)


def rotation_of(model: "PreTrainedModel") -> Rotation:
    """The model's own. Raises LatentError where keys are turned in a way that is not undone here exactly."""
    base = model.base_model
    own = getattr(base, "rotary_emb", None)
    if own is None:
        if any("rotary" in name or "rope" in name for name, _ in base.named_modules()):
            raise LatentError(
                f"{_named(model).capitalize()} turns its keys in each layer by itself; they cannot be turned back here."
            )
        return Unturned()
    apply = getattr(sys.modules[type(base).__module__], "apply_rotary_pos_emb", None)
    if apply is None:
        raise LatentError(f"{_named(model)} does not say how it turns its keys; they cannot be turned back here.")
    found = Rotary(own, apply)
    require_exact(model, found)
    return found


@torch.no_grad()
def require_exact(model: "PreTrainedModel", rotation: Rotary) -> None:
    """Raises LatentError unless the keys of one token at three positions are one key, in the first layer, once they are
    turned back.
    """
    tokens = torch.zeros(1, 3, dtype=torch.long, device=model.device)
    cache: Any = model.base_model(input_ids=tokens, use_cache=True).past_key_values
    keys = cache.layers[0].keys[0].transpose(0, 1)  # (n_positions, n_heads, head_dim)
    first, *others = [rotation.turned_back(keys[position], position) for position in range(3)]
    if any((other - first).norm() > _TOLERANCE * first.norm() for other in others):
        raise LatentError(
            f"{_named(model)} turns its keys in a way that is not undone exactly: the keys of one token at three"
            " positions differ once they are turned back."
        )


def _named(model: "PreTrainedModel") -> str:
    return f"A {model.config.model_type} model"
