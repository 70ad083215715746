"""The Jacobian lens of one text at one place: J_x h itself, where the averaged lens has the mean of J over other texts.

1. The streams h_p of the chosen source positions at a layer, a token or a chunk, are pushed through the upper layers
   exactly (forward mode): Σ_p Σ_{p′ ≥ p} ∂h_last,p′ / ∂h_ℓ,p · h_p, over the later positions p′ that are summed,
   divided by the number of sources. So it is what the averaged lens would be if it had seen this place alone.
2. The whole vector is had, so that the model's own norm and head give probabilities.
3. Its cosine to what the averaged lens carries says how far the average holds here. Of named tokens alone the logits
   are compared.

One pass a place: for what somebody has chosen, not for a map.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.lens.jacobian import MAX_TOKENS, SKIPPED, NamedRows
from backend.lens.kinds import LensError
from backend.lens.lens import Lens, Readout
from backend.models.edits import Encoded
from backend.models.tangents import UpperLayers

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

MOST_LATER = MAX_TOKENS - 1 - SKIPPED  # positions from a source on that the average ever summed
LOW = 0.5  # a cosine below which the average says little of this place
_FEWEST_NAMED = 3  # tokens whose logits can be compared


@dataclass(frozen=True, eq=False)
class LocalReading:
    """What the stream at one place does to this text's last streams."""

    layer: int
    sources: range  # positions whose streams are carried
    summed: range  # positions over which what they do is summed; those before a source count nothing for it
    stream: torch.Tensor  # (d_model,): mean of the sources' streams
    carried: torch.Tensor  # (d_model,): in the coordinates of the last block's output
    log_probs: torch.Tensor  # (vocab_size,), nats

    @property
    def words(self) -> str:
        early = " The averages leave the first positions of a text out." if self.sources.start < SKIPPED else ""
        return (
            f"Streams of {_named(self.sources)} at layer {self.layer}; their effects on {_named(self.summed)} are"
            f" summed, each source's from itself on.{early}"
        )


@dataclass(frozen=True)
class Agreement:
    """How far the averaged lens agrees with this place."""

    cosine: float | None  # None where too few tokens are named, or a side is zero
    of: str  # what is compared

    @property
    def words(self) -> str:
        if self.cosine is None:
            return f"It is not known how far the averaged lens holds here: there is no cosine of {self.of}."
        said = f"The cosine of {self.of}, here and on average, is {self.cosine:.2f}"
        return f"{said}: the averaged lens misleads here." if self.cosine < LOW else f"{said}."


def local_reading(
    loaded: "LoadedModel", encoded: Encoded, layer: int, sources: range, *, later: int = MOST_LATER
) -> LocalReading:
    """Of the tokens `sources` of an encoded text at `layer`, over the text's positions from the first source on, at
    most `later` of them, and the sources themselves in any case. Raises LensError for places that do not exist.
    """
    readout, n_tokens = Readout(loaded), len(encoded.token_ids)
    if not 0 <= layer < readout.n_layers:
        raise LensError(f"There is no layer {layer}: {loaded.name} has layers 0 to {readout.n_layers - 1}.")
    if not 0 <= sources.start < sources.stop <= n_tokens or sources.step != 1:
        raise LensError(f"Positions {_named(sources)} were asked for, but the text has {n_tokens} tokens.")
    if later < 1:
        raise LensError(f"At least one position must be summed, found {later}.")
    summed = range(sources.start, max(sources.stop, min(n_tokens, sources.start + later)))
    upper = UpperLayers(encoded, layer, first=summed.start, end=summed.stop, before_norm=True)
    streams = encoded.residual(layer)[summed.start : summed.stop].clone()
    streams[len(sources) :] = 0  # what comes after the sources moves by them alone
    carried = upper.push(streams[None])[0].sum(0) / len(sources)
    log_probs = readout.logits(carried).float().log_softmax(-1)
    return LocalReading(layer, sources, summed, streams.sum(0) / len(sources), carried, log_probs)


def agreement(reading: LocalReading, average: Lens | NamedRows) -> Agreement:
    """With the average's J h of the same streams; where only rows of named tokens are averaged, with their logits."""
    if isinstance(average, NamedRows):
        vectors, of = average.cotangents.vectors, f"the logits of {len(average.cotangents.token_ids)} named tokens"
        if len(vectors) < _FEWEST_NAMED:
            return Agreement(None, of)
        return Agreement(_cosine(vectors @ reading.carried, average.scores(reading.stream, reading.layer)), of)
    return Agreement(_cosine(reading.carried, average.carried(reading.stream, reading.layer)), "J h")


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float | None:
    one, other = one.double(), other.double()
    size = one.norm() * other.norm()
    return float(one @ other / size) if size > 0 else None


def _named(positions: range) -> str:
    if len(positions) == 1:
        return f"position {positions.start}"
    return f"positions {positions.start} to {positions.stop - 1}"
