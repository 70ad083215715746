"""What a lens says at many layers and places: of each the top token, entropy, KL to the model, and what it makes of
chosen tokens.

1. The model's own logits at the places are there once: they are the last row, and what every other is held against.
2. `cells` carries the streams of some layers, norms them, and takes the unembedding block by block of the vocabulary,
   each while it lies in the cache. Of a block are kept its largest logit, Σ e^(l − largest), and the same sum times
   (l − largest), which are joined at the end. The logits of a whole layer are never there.
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
from backend.lens.lens import SUMMED, Expected, Lens, Readout
from backend.models.kl import kl_reference

_HEAD_ROWS = 16  # places at a time that go through a family's own head
_OWN_ROWS = 8  # of the model's own logits at a time: they fit the cache
_CACHED = 1 << 17  # logits at a time that several passes go over: they fit the cache of a core
_FAINT = 1e-3  # nats; below it float32 logits have too few digits left


@dataclass(frozen=True)
class OwnPredictions:
    """What the model itself says at some places."""

    logits: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    probability: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    entropy: torch.Tensor  # (n_places,) float64, nats
    expected: Expected | None = field(repr=False)  # None where logits are no plain product

    @classmethod
    def of(cls, readout: Readout, logits: torch.Tensor) -> "OwnPredictions":
        probability, entropy = torch.empty_like(logits), []
        for some, weight in zip(logits.split(_OWN_ROWS), probability.split(_OWN_ROWS), strict=True):
            shifted = some - some.amax(-1, keepdim=True)
            z = _sum(torch.exp(shifted, out=weight))
            entropy.append(z.log() - _sum(shifted.mul_(weight)) / z)
            weight.div_(z.to(weight.dtype)[:, None])
        return cls(logits, probability, torch.cat(entropy), readout.expected(probability))


def _sum(terms: torch.Tensor) -> torch.Tensor:
    """Over the vocabulary, (n,) float64: torch's own float64 sum of float32 terms takes twenty times as long."""
    return torch.stack([part.sum(-1) for part in terms.split(SUMMED, -1)]).sum(0, dtype=torch.float64)


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
    rows = [_own_rows(logits, list(chosen)) for logits in own.logits.split(_OWN_ROWS)]
    token, top, rank, log_prob = (torch.cat(part) for part in zip(*rows, strict=True))
    entropy = own.entropy[None]
    return Cells(token[None], top[None].exp(), entropy, torch.zeros_like(entropy), rank.T[:, None], log_prob.T[:, None])


def _own_rows(logits: torch.Tensor, chosen: list[int]) -> tuple[torch.Tensor, ...]:
    log_p = logits.log_softmax(-1)
    top, token = log_p.max(-1)
    ranks = [1 + (logits > logits[:, one, None]).sum(-1) for one in chosen]
    rank = torch.stack(ranks, -1) if ranks else token.new_zeros(len(logits), 0)
    return token, top, rank, log_p[:, chosen]


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
    sums = _Sums(own, list(chosen), normed, readout.n_blocks if own.expected is not None else 1)
    if own.expected is not None:
        sums.expect(slice(None), own.expected.logit(normed))
        sums.choose(slice(None), readout.some_logits(normed, list(chosen)))
        for number, (start, block) in enumerate(readout.blocks(normed)):
            sums.add(slice(None), number, start, block)
    else:
        for first in range(0, len(normed), _HEAD_ROWS):
            rows = slice(first, first + _HEAD_ROWS)
            logits = readout.unembedded(normed[rows]).clone()
            sums.expect(rows, (own.probability[sums.place[rows]] * logits).sum(-1, dtype=torch.float64))
            sums.choose(rows, logits[:, list(chosen)])
            sums.add(rows, 0, 0, logits)
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

    def __init__(self, own: OwnPredictions, chosen: list[int], normed: torch.Tensor, n_blocks: int) -> None:
        n, device = len(normed), normed.device
        self._own, self._chosen, self._normed = own, chosen, normed
        self.place = torch.arange(n, device=device) % len(own.logits)
        self._token = torch.zeros(n, dtype=torch.long, device=device)
        self._top = torch.full((n,), -torch.inf, device=device)  # its logit
        self._largest = torch.zeros(n_blocks, n, device=device)  # logit of each block
        self._z = torch.zeros(n_blocks, n, device=device)  # Σ e^(l − largest) over it
        self._moment = torch.zeros(n_blocks, n, device=device)  # Σ e^(l − largest)·(l − largest)
        self._expected = torch.zeros(n, dtype=torch.float64, device=device)  # Σ p·l, p being the model's own
        self._room = torch.empty(0, device=device)
        self._at = torch.zeros(n, len(chosen), device=device)  # logits of the chosen tokens
        self._above = torch.zeros(n, len(chosen), dtype=torch.long, device=device)

    def expect(self, rows: slice, logit: torch.Tensor) -> None:
        """Mean logit (n_rows,) where the model's own prediction is drawn from."""
        self._expected[rows] = logit

    def choose(self, rows: slice, logits: torch.Tensor) -> None:
        """Logits (n_rows, n_chosen) that ranks are counted against."""
        self._at[rows] = logits

    def add(self, rows: slice, number: int, start: int, logits: torch.Tensor) -> None:
        """Block `number` (n_rows, n_tokens) of the vocabulary, from token `start` on, which is written over."""
        self._count_above(rows, start, logits)
        largest = torch.amax(logits, -1, out=self._largest[number, rows])
        self._take_top(rows, start, logits, largest)
        most = max(1, _CACHED // logits.shape[1])
        every = (logits, largest, self._z[number, rows], self._moment[number, rows])
        for shifted, highest, z, moment in zip(*(one.split(most) for one in every), strict=True):
            weight = torch.exp(shifted.sub_(highest[:, None]), out=self._space(shifted))
            torch.sum(weight, -1, out=z)
            torch.sum(shifted.mul_(weight), -1, out=moment)

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
        new = (largest > self._top[rows]).nonzero().flatten()
        self._top[rows][new] = largest[new]
        self._token[rows][new] = start + logits[new].max(-1).indices  # four times as fast as argmax

    def cells(self, readout: Readout, n_layers: int) -> Cells:
        top = self._top.double()
        below = self._largest.double() - top  # of each block's largest logit to the largest of all
        share = below.exp()
        z = (share * self._z).sum(0)
        moment = (share * (self._moment + below * self._z)).sum(0)
        log_z = top + z.log()
        kl = log_z - self._expected - self._own.entropy[self.place]
        faint = (kl < _FAINT).nonzero().flatten()
        for first in range(0, len(faint), _HEAD_ROWS):
            some = faint[first : first + _HEAD_ROWS]
            kl[some] = kl_reference(self._own.logits[self.place[some]], readout.unembedded(self._normed[some]))
        shape = (n_layers, len(self._own.logits))
        return Cells(
            self._token.view(shape),
            (1 / z).view(shape),
            (z.log() - moment / z).view(shape),
            kl.view(shape),
            (1 + self._above).T.reshape(-1, *shape),
            (self._at.double() - log_z[:, None]).T.reshape(-1, *shape),
        )
