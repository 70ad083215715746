"""What a lens says at many layers and places: of each the top token, entropy, KL to the model, and what it makes of
chosen tokens.

1. The model's own logits at the places are there once: they are the last row, and what every other is held against.
2. `cells` carries the streams of some layers, norms them, and takes the unembedding block by block of the vocabulary,
   each while it lies in the cache. Of a block are kept its largest logit, Σ e^(l − largest), and the same sum times
   (l − largest). The logits of a whole layer are never there.
3. KL is KL(model ‖ lens) = Σ p·(log p − log q), nats, which tuned lenses are fitted by (Belrose et al. 2023). It is
   log Σ e^l − Σ p·l less the model's entropy, and where logits are a plain product W h, Σ p·l = (Wᵀp)·h: one vector a
   place, for all layers. Sums over blocks are float64; within a block, float32, of terms that are no more exact than
   that. Where KL is faint it is done again wholly in float64.

A family whose logits are no plain product (a soft cap) has them from its own head, some places at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from backend.lens.jacobian import NamedRows
from backend.lens.lens import Expected, Lens, Readout
from backend.models.kl import kl_reference

_HEAD_ROWS = 16  # places at a time that go through a family's own head
_FAINT = 1e-3  # nats; below it float32 logits have too few digits left
_LOWEST = -1e30  # a logit before any was seen: finite, so that nothing times it is nothing


@dataclass(frozen=True)
class OwnPredictions:
    """What the model itself says at some places."""

    logits: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    probability: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    entropy: torch.Tensor  # (n_places,) float64, nats
    expected: Expected | None = field(repr=False)  # None where logits are no plain product

    @classmethod
    def of(cls, readout: Readout, logits: torch.Tensor) -> "OwnPredictions":
        probability, entropy = torch.empty_like(logits), torch.empty(len(logits), dtype=torch.float64)
        for place, row in enumerate(logits):  # one row fits the cache
            shifted = row - row.amax()
            weight = torch.exp(shifted, out=probability[place])
            z = weight.sum(dtype=torch.float64)
            entropy[place] = z.log() - (weight * shifted).sum(dtype=torch.float64) / z
            weight.div_(z)
        return cls(logits, probability, entropy.to(logits.device), readout.expected(probability))


@dataclass(frozen=True)
class Cells:
    """Of some layers and places: (n_layers, n_places), and of the chosen tokens (n_chosen, n_layers, n_places)."""

    token: torch.Tensor  # id of the likeliest token
    probability: torch.Tensor  # of that token
    entropy: torch.Tensor  # nats
    kl: torch.Tensor  # KL(model ‖ lens), nats
    rank: torch.Tensor  # of each chosen token: 1 + how many tokens have a larger logit
    log_prob: torch.Tensor  # of each chosen token, nats


@torch.inference_mode()
def own_cells(own: OwnPredictions, chosen: Sequence[int]) -> Cells:
    """The last row: the model itself, by its own log-softmax."""
    rows = [_own_row(logits, list(chosen)) for logits in own.logits]
    token, top, log_prob, rank = (torch.stack(part)[None] for part in zip(*rows, strict=True))
    entropy, chosen_first = own.entropy[None], (2, 0, 1)
    return Cells(
        token, top.exp(), entropy, torch.zeros_like(entropy), rank.permute(chosen_first), log_prob.permute(chosen_first)
    )


def _own_row(logits: torch.Tensor, chosen: list[int]) -> tuple[torch.Tensor, ...]:
    log_p = logits.log_softmax(-1)
    top = log_p.argmax()
    rank = 1 + (logits > logits[chosen, None]).sum(-1)
    return top, log_p[top], log_p[chosen], rank


@torch.inference_mode()
def cells(
    readout: Readout,
    lens: Lens,
    streams: Sequence[torch.Tensor],
    layers: Sequence[int],
    own: OwnPredictions,
    chosen: Sequence[int],
) -> Cells:
    """Of streams (n_places, d_model), one for each of `layers`, below the last, as `lens` reads them; `chosen` are
    token ids.
    """
    carried = [lens.carried(stream, layer) for stream, layer in zip(streams, layers, strict=True)]
    normed = readout.normed(torch.cat(carried))
    sums = _Sums(own, list(chosen), normed)
    if own.expected is not None:
        sums.expect(slice(None), own.expected.logit(normed))
        sums.choose(slice(None), readout.some_logits(normed, list(chosen)))
        for start, block in readout.blocks(normed):
            sums.add(slice(None), start, block)
    else:
        for first in range(0, len(normed), _HEAD_ROWS):
            rows = slice(first, first + _HEAD_ROWS)
            logits = readout.unembedded(normed[rows]).clone()
            sums.expect(rows, (own.probability[sums.place[rows]] * logits).sum(-1, dtype=torch.float64))
            sums.choose(rows, logits[:, list(chosen)])
            sums.add(rows, 0, logits)
    return sums.cells(readout, len(layers))


@torch.inference_mode()
def named_cells(
    named: NamedRows, streams: Sequence[torch.Tensor], layers: Sequence[int], chosen: Sequence[int]
) -> Cells:
    """Of a Jacobian lens that knows named tokens alone: the first of these, and the rank of a chosen one among them (0
    where it is not named). What needs the whole vocabulary is unknown, NaN.
    """
    scores = torch.stack([named.scores(stream.cpu(), layer) for stream, layer in zip(streams, layers, strict=True)])
    ids = torch.tensor(named.cotangents.token_ids)
    unknown = torch.full(scores.shape[:2], torch.nan)
    ranks = [torch.zeros(scores.shape[:2], dtype=torch.long) for _ in chosen]
    for number, token in enumerate(chosen):
        for at in (ids == token).nonzero().flatten().tolist():
            ranks[number] = 1 + (scores > scores[..., at, None]).sum(-1)
    rank = torch.stack(ranks) if ranks else torch.zeros(0, *scores.shape[:2], dtype=torch.long)
    return Cells(ids[scores.argmax(-1)], unknown, unknown, unknown, rank, torch.full(rank.shape, torch.nan))


class _Sums:
    """What is kept of the blocks, a row a stream: layer by layer, and in each place by place."""

    def __init__(self, own: OwnPredictions, chosen: list[int], normed: torch.Tensor) -> None:
        n, device = len(normed), normed.device
        self._own, self._chosen, self._normed = own, chosen, normed
        self.place = torch.arange(n, device=device) % len(own.logits)
        self._token = torch.zeros(n, dtype=torch.long, device=device)
        self._largest = torch.full((n,), _LOWEST, dtype=torch.float64, device=device)
        self._z = torch.zeros(n, dtype=torch.float64, device=device)  # Σ e^(l − largest)
        self._moment = torch.zeros_like(self._z)  # Σ e^(l − largest)·(l − largest)
        self._expected = torch.zeros_like(self._z)  # Σ p·l, p being the model's own
        self._room = torch.empty(0, device=device)
        self._at = torch.zeros(n, len(chosen), device=device)  # logits of the chosen tokens
        self._above = torch.zeros(n, len(chosen), dtype=torch.long, device=device)

    def expect(self, rows: slice, logit: torch.Tensor) -> None:
        """Mean logit (n_rows,) where the model's own prediction is drawn from."""
        self._expected[rows] = logit

    def choose(self, rows: slice, logits: torch.Tensor) -> None:
        """Logits (n_rows, n_chosen) that ranks are counted against."""
        self._at[rows] = logits

    def add(self, rows: slice, start: int, logits: torch.Tensor) -> None:
        """A block (n_rows, n_tokens) of the vocabulary from token `start` on, which is written over."""
        self._count_above(rows, start, logits)
        largest = logits.amax(-1)
        self._take_top(rows, start, logits, largest)
        shifted = logits.sub_(largest[:, None])
        weight = torch.exp(shifted, out=self._space(shifted))
        z, moment = weight.sum(-1).double(), torch.linalg.vecdot(weight, shifted).double()
        before, now = self._largest[rows], largest.double()
        both = torch.maximum(before, now)
        old, new = (before - both).exp(), (now - both).exp()
        self._moment[rows] = old * (self._moment[rows] + (before - both) * self._z[rows]) + new * (
            moment + (now - both) * z
        )
        self._z[rows] = old * self._z[rows] + new * z
        self._largest[rows] = both

    def _count_above(self, rows: slice, start: int, logits: torch.Tensor) -> None:
        is_above = self._space(logits)  # 0 or 1 in float32: their sum is exact, and three times as fast as of bools
        for number, token in enumerate(self._chosen):
            torch.gt(logits, self._at[rows, number, None], out=is_above)
            if start <= token < start + logits.shape[1]:
                is_above[:, token - start] = 0  # itself, by another product
            self._above[rows, number] += is_above.sum(-1).long()

    def _space(self, like: torch.Tensor) -> torch.Tensor:
        """Room for as many values, which is used again: fresh pages cost more than the sums."""
        if self._room.numel() < like.numel():
            self._room = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
        return self._room[: like.numel()].view_as(like)

    def _take_top(self, rows: slice, start: int, logits: torch.Tensor, largest: torch.Tensor) -> None:
        is_larger = largest > self._largest[rows]
        self._token[rows][is_larger] = start + logits[is_larger].argmax(-1)

    def cells(self, readout: Readout, n_layers: int) -> Cells:
        log_z = self._largest + self._z.log()
        kl = log_z - self._expected - self._own.entropy[self.place]
        faint = (kl < _FAINT).nonzero().flatten()
        for first in range(0, len(faint), _HEAD_ROWS):
            some = faint[first : first + _HEAD_ROWS]
            kl[some] = kl_reference(self._own.logits[self.place[some]], readout.unembedded(self._normed[some]))
        shape = (n_layers, len(self._own.logits))
        return Cells(
            self._token.view(shape),
            (-self._z.log()).exp().view(shape),
            (self._z.log() - self._moment / self._z).view(shape),
            kl.view(shape),
            (1 + self._above).T.reshape(-1, *shape),
            (self._at.double() - log_z[:, None]).T.reshape(-1, *shape),
        )
