"""What a lens says at many layers and places: of each the top token, entropy, KL to the model, and what it makes of
chosen tokens.

1. The model's own logits at the places are there once: they are the last row, and what every other is held against.
2. `cells` carries the streams of some layers, norms them, and takes the unembedding block by block of the vocabulary,
   each while it lies in the cache. Of a block are kept its largest logit, Σ e^(l − largest), the same sum times
   (l − largest), and Σ p·(l_model − l). The logits of a whole layer are never there.
3. Sums are float64. KL is KL(model ‖ lens) = Σ p·(log p − log q), nats, which tuned lenses are fitted by (Belrose et
   al. 2023); where it is faint it is done again wholly in float64.

A family whose logits are no plain product (a soft cap) has them from its own head, some places at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from backend.lens.jacobian import NamedRows
from backend.lens.lens import Lens, Readout
from backend.models.kl import kl_reference

_BLOCK_VALUES = 400 * 2048  # of one block of logits: with its scratch it fits the cache of a small machine
_HEAD_ROWS = 16  # places at a time that go through a family's own head
_FAINT = 1e-4  # nats; below it float32 terms have too few digits left
_LOWEST = -1e30  # a logit before any was seen: finite, so that nothing times it is nothing


@dataclass(frozen=True)
class OwnPredictions:
    """What the model itself says at some places."""

    logits: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    probability: torch.Tensor = field(repr=False)  # (n_places, vocab_size)
    log_z: torch.Tensor  # (n_places,) float64: log Σ e^logit

    @classmethod
    def of(cls, logits: torch.Tensor) -> "OwnPredictions":
        log_z = torch.stack([row.double().logsumexp(-1) for row in logits])
        return cls(logits, torch.exp(logits - log_z[:, None].to(logits.dtype)), log_z)

    def at(self, places: Sequence[int]) -> "OwnPredictions":
        """Of some of the places."""
        which = list(places)
        return OwnPredictions(self.logits[which], self.probability[which], self.log_z[which])


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
    token, top, entropy, log_prob, rank = (torch.stack(part)[None] for part in zip(*rows, strict=True))
    chosen_first = (2, 0, 1)
    return Cells(
        token, top.exp(), entropy, torch.zeros_like(entropy), rank.permute(chosen_first), log_prob.permute(chosen_first)
    )


def _own_row(logits: torch.Tensor, chosen: list[int]) -> tuple[torch.Tensor, ...]:
    log_p, exact = logits.log_softmax(-1), logits.double().log_softmax(-1)
    top = log_p.argmax()
    rank = 1 + (logits > logits[chosen, None]).sum(-1)
    return top, log_p[top], -(exact.exp() * exact).sum(), log_p[chosen], rank


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
    if readout.is_plain:
        sums.choose(slice(None), readout.some_logits(normed, list(chosen)))
        for start, block in _blocks(readout, normed, own.logits.shape[1]):
            sums.add(slice(None), start, block)
    else:
        for first in range(0, len(normed), _HEAD_ROWS):
            rows = slice(first, first + _HEAD_ROWS)
            logits = readout.unembedded(normed[rows]).clone()
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


def _blocks(readout: Readout, normed: torch.Tensor, n_tokens: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits of all rows, block by block of the vocabulary, each with its first token."""
    width = min(n_tokens, max(64, _BLOCK_VALUES // len(normed)))
    for start in range(0, n_tokens, width):
        yield start, readout.some_logits(normed, slice(start, min(start + width, n_tokens)))


class _Sums:
    """What is kept of the blocks, a row a stream: layer by layer, and in each place by place."""

    def __init__(self, own: OwnPredictions, chosen: list[int], normed: torch.Tensor) -> None:
        n, device = len(normed), normed.device
        self._own, self._chosen, self._normed = own, chosen, normed
        self._place = torch.arange(n, device=device) % len(own.logits)
        self._token = torch.zeros(n, dtype=torch.long, device=device)
        self._largest = torch.full((n,), _LOWEST, dtype=torch.float64, device=device)
        self._z = torch.zeros(n, dtype=torch.float64, device=device)  # Σ e^(l − largest)
        self._moment = torch.zeros_like(self._z)  # Σ e^(l − largest)·(l − largest)
        self._apart = torch.zeros_like(self._z)  # Σ p·(l_model − l)
        self._room = torch.empty(0, device=device)
        self._at = torch.zeros(n, len(chosen), device=device)  # logits of the chosen tokens
        self._above = torch.zeros(n, len(chosen), dtype=torch.long, device=device)

    def choose(self, rows: slice, logits: torch.Tensor) -> None:
        """Logits (n_rows, n_chosen) that ranks are counted against."""
        self._at[rows] = logits

    def add(self, rows: slice, start: int, logits: torch.Tensor) -> None:
        """A block (n_rows, n_tokens) of the vocabulary from token `start` on, which is written over."""
        self._add_apart(rows, start, logits)
        self._count_above(rows, start, logits)
        largest = logits.amax(-1)
        self._take_top(rows, start, logits, largest)
        shifted = logits.sub_(largest[:, None])
        weight = torch.exp(shifted, out=self._space(shifted))
        z, moment = weight.sum(-1, dtype=torch.float64), weight.mul_(shifted).sum(-1, dtype=torch.float64)
        before, now = self._largest[rows], largest.double()
        both = torch.maximum(before, now)
        old, new = (before - both).exp(), (now - both).exp()
        self._moment[rows] = old * (self._moment[rows] + (before - both) * self._z[rows]) + new * (
            moment + (now - both) * z
        )
        self._z[rows] = old * self._z[rows] + new * z
        self._largest[rows] = both

    def _add_apart(self, rows: slice, start: int, logits: torch.Tensor) -> None:
        tokens, n_places = slice(start, start + logits.shape[1]), len(self._own.logits)
        model, p = self._own.logits[:, tokens], self._own.probability[:, tokens]
        terms = self._space(logits)
        if len(logits) == len(self._place):  # all rows: every layer has the same places
            by_layer = (-1, n_places, logits.shape[1])
            torch.sub(model, logits.view(by_layer), out=terms.view(by_layer)).mul_(p)
        else:
            torch.sub(model[self._place[rows]], logits, out=terms).mul_(p[self._place[rows]])
        self._apart[rows] += terms.sum(-1, dtype=torch.float64)

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
        kl = self._apart - self._own.log_z[self._place] + log_z
        for row in (kl < _FAINT).nonzero().flatten().tolist():
            kl[row] = kl_reference(self._own.logits[row % len(self._own.logits)], readout.unembedded(self._normed[row]))
        shape = (n_layers, len(self._own.logits))
        return Cells(
            self._token.view(shape),
            (-self._z.log()).exp().view(shape),
            (self._z.log() - self._moment / self._z).view(shape),
            kl.view(shape),
            (1 + self._above).T.reshape(-1, *shape),
            (self._at.double() - log_z[:, None]).T.reshape(-1, *shape),
        )
