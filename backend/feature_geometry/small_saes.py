"""Small TopK autoencoders of one layer's streams, and the Gaussian cloud that stands in for the streams.

1. Streams are multiplied by the factor that makes their mean norm √d.
2. At the beginning the decoder's bias is the mean of the scaled streams, and the encoder reads what differs from it:
   a mean that had to be learned would be learned by features, and rows along it would count as a cluster.
3. Batches pass through the rows in an order of the seed's, again in another one where more tokens are asked for.
4. The cloud has as many rows, with the same mean and covariance, in the same type; all that follows is the same.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.shards import batches
from backend.crosscoder.train import Settings, Trainer
from backend.ids import seed_for

_BLOCK = 4096  # rows that are looked at at a time


@dataclass(frozen=True, eq=False)
class Moments:
    mean: np.ndarray  # (width,) float64
    mean_norm: float

    @property
    def scale(self) -> float:
        """By which rows are multiplied so that their mean norm is √width."""
        return math.sqrt(len(self.mean)) / self.mean_norm


@dataclass(frozen=True, eq=False)
class Measured:
    """On rows that the dictionary did not learn from."""

    variance_explained: float
    l0: float
    frequency: np.ndarray  # (n_features,) share of the rows on which each fires
    n: int

    @property
    def dead(self) -> float:
        """Share of the features that fire on none of them."""
        return float((self.frequency == 0).mean())


def moments(rows: np.ndarray) -> Moments:
    """Of rows (n, width), summed in float64."""
    total, norms = np.zeros(rows.shape[1]), 0.0
    for block in _blocks(rows):
        total += block.sum(0, dtype=np.float64)
        norms += float(np.linalg.norm(block, axis=1).sum(dtype=np.float64))
    return Moments(total / len(rows), norms / len(rows))


def covariance(rows: np.ndarray, mean: np.ndarray) -> torch.Tensor:
    """(width, width) float64 of rows (n, width), about their mean."""
    centre = torch.from_numpy(mean)
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in _blocks(rows):
        apart = torch.from_numpy(block).double() - centre
        products.addmm_(apart.T, apart)
    return products / len(rows)


def draw_gaussian(into: np.ndarray, mean: np.ndarray, covariance: torch.Tensor, seed: int) -> None:
    """Fill `into` (n, width) with draws of N(mean, covariance); each block has a seed of its own."""
    values, vectors = torch.linalg.eigh(covariance)
    root = ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()
    centre = torch.from_numpy(mean).float()
    for first in range(0, len(into), _BLOCK):
        part = into[first : first + _BLOCK]
        rng = np.random.default_rng(seed_for("gaussian streams", seed, first))
        drawn = torch.from_numpy(rng.standard_normal(part.shape, dtype=np.float32))
        part[:] = torch.addmm(centre, drawn, root).numpy().astype(into.dtype)


def train(rows: np.ndarray, of: Moments, settings: Settings, *, facts: Mapping[str, Any], device: str) -> Dictionary:
    """A dictionary of `rows` (n, width), as it is kept: encoder and decoder in float16."""
    trainer = Trainer(settings, device=device)
    _centre(trainer, of)
    order = batches(len(rows), settings.batch, settings.seed)
    for _ in range(settings.steps):
        scaled = np.asarray(rows[next(order)], np.float32) * np.float32(of.scale)
        trainer.step(torch.from_numpy(scaled)[:, None].to(device))
    return trainer.dictionary(torch.tensor([of.scale]), facts).in_float16()


def _centre(trainer: Trainer, of: Moments) -> None:
    with torch.no_grad():
        mean = torch.tensor(of.mean * of.scale, dtype=torch.float32, device=trainer.decoder_bias.device)
        trainer.decoder_bias.copy_(mean)
        trainer.encoder_bias.copy_(-(trainer.encoder @ mean))


@torch.inference_mode()
def measure(dictionary: Dictionary, rows: np.ndarray) -> Measured:
    """On `rows` (n, width), sums in float64."""
    left = spread = 0.0
    mean = torch.from_numpy(moments(rows).mean)
    fired = torch.zeros(dictionary.n_features, dtype=torch.int64)
    for block in _blocks(rows):
        raw = torch.from_numpy(block)
        codes = dictionary.encode(raw[:, None])
        left += float((dictionary.decode(codes)[:, 0] - raw).double().square().sum())
        spread += float((raw - mean).square().sum())
        fired += (codes > 0).sum(0)
    frequency = fired.numpy() / len(rows)
    return Measured(1 - left / spread, float(frequency.sum()), frequency, len(rows))


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """float32."""
    for first in range(0, len(rows), _BLOCK):
        yield np.asarray(rows[first : first + _BLOCK], np.float32)
