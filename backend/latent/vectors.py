"""Vectors of latents: each knows the space it was taken in, and is added in no other.

What stands before the projection is as wide as what stands after it, so that nothing but a name keeps a difference of
hidden states from being added to an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from backend.ids import seed_for
from backend.latent.kinds import SPACES, LatentError

Pair = tuple[int, int]  # of latents, A < B: the vector is mean[A] − mean[B]


@dataclass(frozen=True, eq=False)
class Vector:
    """Some vectors of one space, a row each. z and h have one part, (n, d_model); of keys and values each layer has its
    own, (n, n_heads, head_dim): all keys, then all values.
    """

    space: str
    parts: tuple[torch.Tensor, ...]

    def __post_init__(self) -> None:
        _ = SPACES[self.space]

    def __len__(self) -> int:
        return len(self.parts[0])

    def __add__(self, other: "Vector") -> "Vector":
        self.require(other.space)
        return replace(self, parts=tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: "Vector") -> "Vector":
        return self + other * -1.0

    def __mul__(self, factor: float) -> "Vector":
        return replace(self, parts=tuple(part * factor for part in self.parts))

    def __getitem__(self, rows: Sequence[int] | torch.Tensor) -> "Vector":
        return replace(self, parts=tuple(part[rows] for part in self.parts))

    def require(self, space: str) -> None:
        """Raises LatentError unless it is a vector of that space."""
        if space != self.space:
            raise LatentError(
                f"A vector of {SPACES[self.space].label} was to be added in {SPACES[space].label}: that is another"
                " space, also where both are as wide."
            )

    def taken_for(self, space: str) -> "Vector":
        """The same numbers, called vectors of another space: what a published study did. Raises LatentError where they
        do not have its shape.
        """
        if {self.space, space} != {"h", "z"}:
            raise LatentError(
                f"A vector of {SPACES[self.space].label} cannot be taken for one of {SPACES[space].label}."
            )
        return replace(self, space=space)

    @property
    def norms(self) -> torch.Tensor:
        """(n, n_parts) float64: the length of each part."""
        return torch.stack([part.double().flatten(1).norm(dim=1) for part in self.parts], 1)

    @property
    def length(self) -> torch.Tensor:
        """(n,) float64: of all parts together."""
        return self.norms.norm(dim=1)


def stacked(vectors: Sequence[Vector]) -> Vector:
    """One after the other. Raises LatentError where they are of several spaces."""
    first = vectors[0]
    for vector in vectors:
        vector.require(first.space)
    return replace(first, parts=tuple(torch.cat(parts) for parts in zip(*(v.parts for v in vectors), strict=True)))


def pairs_of(n_latents: int) -> tuple[Pair, ...]:
    """Unordered pairs of latents 1…n, A < B, in reading order."""
    return tuple(combinations(range(1, n_latents + 1), 2))


def differences(means: Mapping[int, Vector], pairs: Sequence[Pair]) -> Vector:
    """mean[A] − mean[B] of each pair, a row each. `means` has one row a latent."""
    return stacked([means[a] - means[b] for a, b in pairs])


def random_like(vectors: Vector, n: int, *, seed: int) -> Vector:
    """`n` vectors of uniformly random direction. Each part is as long as that part of `vectors` typically is: the root
    mean square of their lengths. So one set is shared by all of them.
    """
    typical = vectors.norms.pow(2).mean(0).sqrt()
    parts = []
    for number, (part, length) in enumerate(zip(vectors.parts, typical, strict=True)):
        generator = torch.Generator().manual_seed(seed_for("random latents", seed, number))
        drawn = torch.randn(n, *part.shape[1:], generator=generator, dtype=torch.float64)
        own = drawn / drawn.flatten(1).norm(dim=1).reshape(-1, *[1] * (drawn.ndim - 1)) * length.cpu()
        parts.append(own.to(part.dtype).to(part.device))
    return Vector(vectors.space, tuple(parts))
