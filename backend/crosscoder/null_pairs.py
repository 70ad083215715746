"""Pairs of which it is known what there is to be found, made of recorded activations of a real one (`null_kinds`).

1. A recording of base and distilled model is opened as one of a twin: the base model's activations stay, and in the
   place of the distilled model's stand the base model's again, with what the twin adds.
2. **Noise** is L·z, where L·Lᵀ is the covariance of (distilled − base) over the learned tokens (eigenvectors in
   float64; what is negative by rounding is 0) and z standard normal, drawn by text and position: the same token has the
   same noise in any batch, after any stop, and in another recording of the text.
3. **Planted directions** are random unit vectors, each added at one of a hundred tokens, which text and position
   choose. Where they stood on a word, one feature of both models could tell the word and the direction together; here
   nothing of the base model says where they are. Their lengths are multiples of the mean norm of (distilled − base).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.crosscoder.null_kinds import A_STRENGTH, SHARE_PLANTED, STRENGTHS
from backend.crosscoder.shards import ShardError, Shards
from backend.ids import seed_for

_BLOCK = 65_536  # rows in memory at once


@dataclass(frozen=True, eq=False)
class Added:
    """What the second model of a twin has beyond the base model."""

    factor: np.ndarray | None = None  # (d, d): L
    seed: int = 0  # of the noise, and of where directions stand
    directions: np.ndarray | None = None  # (p, d), planted, of their length

    def __call__(self, base: np.ndarray, tokens: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """(n, d) of base activations (n, d) and `Shards.tokens` of their rows."""
        found = base
        if self.factor is not None:
            drawn = _drawn("noise", tokens, texts, self.seed, lambda rng: rng.standard_normal((base.shape[1],)))
            found = found + drawn @ self.factor.T
        if self.directions is not None:
            found = found + self.places(tokens, texts) @ self.directions
        return found.astype(np.float32)

    def places(self, tokens: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """(n, p) bool: where each planted direction stands."""
        n = 0 if self.directions is None else len(self.directions)
        return _drawn("planted", tokens, texts, self.seed, lambda rng: rng.random((n,))) < SHARE_PLANTED


class Twin(Shards):
    """A recording of a pair, read as one of the base model and a twin of it."""

    def __init__(self, folder: Path, added: Added) -> None:
        super().__init__(folder)
        if self.n_models != 2:
            raise ShardError(f"{folder} is of {self.n_models} models; a null pair is made of a recording of two.")
        if self.widths is not None:
            raise ShardError(
                f"The models of {folder} have different widths, {self.widths}: no difference, so no null pair."
            )
        self._added, self._names = added, self.texts()

    def activations(self, rows: np.ndarray) -> np.ndarray:
        found = super().activations(rows)
        found[:, 1] = self._added(found[:, 0], self.tokens(rows), self._names)
        return found

    def scale(self) -> np.ndarray:
        norms = np.zeros(2)
        for rows in blocks(np.arange(len(self))):
            norms += np.linalg.norm(self.activations(rows).astype(np.float64), axis=2).sum(0)
        return np.sqrt(self.width) * len(self) / norms


def same() -> Added:
    return Added()


def noise(shards: Shards, rows: np.ndarray, seed: int) -> Added:
    """Noise like the difference of the models on these rows."""
    values, vectors = np.linalg.eigh(difference_covariance(shards, rows))
    return Added(factor=vectors * np.sqrt(values.clip(min=0)), seed=seed)


def difference_covariance(shards: Shards, rows: np.ndarray) -> np.ndarray:
    """(d, d) float64, of distilled − base over the rows."""
    products, total = np.zeros((shards.width, shards.width)), np.zeros(shards.width)
    for some in blocks(rows):
        found = shards.activations(some).astype(np.float64)
        difference = found[:, 1] - found[:, 0]
        products += difference.T @ difference
        total += difference.sum(0)
    mean = total / len(rows)
    return products / len(rows) - np.outer(mean, mean)


@dataclass(frozen=True, eq=False)
class Planted:
    """Known directions: one entry each."""

    added: Added
    strength: np.ndarray  # (p,), in mean norms of (distilled − base)

    @property
    def directions(self) -> np.ndarray:
        """(p, d), of unit length."""
        assert self.added.directions is not None
        return self.added.directions / np.linalg.norm(self.added.directions, axis=1, keepdims=True)


def planted(shards: Shards, rows: np.ndarray, seed: int) -> Planted:
    """A_STRENGTH directions of every strength, in noise."""
    norm = 0.0
    for some in blocks(rows):
        found = shards.activations(some).astype(np.float64)
        norm += np.linalg.norm(found[:, 1] - found[:, 0], axis=1).sum()
    strength = np.repeat(STRENGTHS, A_STRENGTH)
    directions = np.random.default_rng(seed_for("directions", seed)).standard_normal((len(strength), shards.width))
    directions *= (strength * norm / len(rows) / np.linalg.norm(directions, axis=1))[:, None]
    return Planted(Added(noise(shards, rows, seed).factor, seed, directions), strength)


def blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]


def _drawn(
    what: str,
    tokens: np.ndarray,
    texts: Sequence[str],
    seed: int,
    draw: Callable[[np.random.Generator], np.ndarray],
) -> np.ndarray:
    """One row a token, drawn by its text and its position in it."""
    keys = {number: seed_for(what, seed, texts[number]) for number in np.unique(tokens[:, 0]).tolist()}
    return np.stack(
        [
            draw(np.random.Generator(np.random.Philox(key=[keys[number], position])))
            for number, position in tokens[:, :2].tolist()
        ]
    )
