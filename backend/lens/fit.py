"""The tuned lens of one layer: an affine map of its stream, fitted so that the model's own head reads it best.

1. Start: the ridge fit of the last block's output on the layer's, in closed form, from sums in float64. The penalty is
   on W of h + W h + b, so that an endless one leaves the logit lens with a bias. Its strength is the one of STRENGTHS
   with the least KL on validation problems.
2. Descent: Adam, with a rate that falls to 0 linearly, on KL(model ‖ lens) over batches of positions in an order drawn
   by the seed. It moves the map in coordinates in which the layer's stream is white and each coordinate of the last
   one has variance 1: a few coordinates carry most of a stream's variance, and plain descent would move those alone.
3. The map is looked at LOOKS times on the way. Of these and the start the one with the least validation KL is kept, so
   that few texts are not learned by heart; and none where it is not below the logit lens by more than the interval of
   the paired difference, over problems. What is said of a lens in the end rests on other problems still
   (`quality.py`).

The gradient needs no distribution of the model: that of KL by logits is q − p, and p comes in by its product with the
unembedding alone, one vector a position. Where logits are more than that product (a soft cap), p is computed each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from backend.ids import seed_for
from backend.models.kl import kl_between
from backend.models.layers import Layers, layers_of
from backend.models.linear import linear
from backend.statistics.clustered import ClusteredMean, clustered_mean

if TYPE_CHECKING:
    from backend.models.loaded import HasModel

Map = tuple[torch.Tensor, torch.Tensor]  # W (d_model, d_model) and b (d_model,), float32, of h + W h + b

STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the ridge, as shares of the stream's mean variance
LOOKS = 4
IDENTITY, RIDGE, TUNED = "identity", "ridge", "tuned"
_AT_ONCE = 256  # positions whose logits are held at once
_TINY = 1e-30  # a variance of nothing
_CHOOSING = 1024  # validation positions by which the ridge's strength is chosen


@dataclass(frozen=True)
class Settings:
    """Of the descent."""

    tokens: int  # that it reads, again and again where there are fewer; 0: the ridge start is all there is
    batch: int
    learning_rate: float
    seed: int

    @property
    def steps(self) -> int:
        return self.tokens // self.batch


@dataclass(frozen=True)
class Streams:
    """One layer's streams and the last block's outputs at the same positions, both (n, d_model)."""

    layer: torch.Tensor
    last: torch.Tensor

    def first(self, n: int) -> "Streams":
        return Streams(self.layer[:n], self.last[:n])


@dataclass(frozen=True)
class LayerFit:
    """What a layer came to. KLs are KL(model ‖ lens) in nats, means over the validation positions."""

    kept: str  # IDENTITY, RIDGE or TUNED
    map: Map | None  # None where the identity is kept
    ridge: float  # strength
    kl: dict[str, float]  # of IDENTITY and RIDGE; of TUNED, where it is least, if the descent makes a step
    steps: int  # of the descent, up to there
    gain: ClusteredMean  # nats by which the better fit lies below the identity


class Ridge:
    """Closed-form fits of y − x on x, from sums over pairs of streams in float64."""

    def __init__(self, d_model: int) -> None:
        self.n = 0
        self._x, self._y, self._yy = (torch.zeros(d_model, dtype=torch.float64) for _ in range(3))
        self._xx, self._zx = (torch.zeros(d_model, d_model, dtype=torch.float64) for _ in range(2))

    def add(self, layer: torch.Tensor, last: torch.Tensor) -> None:
        x, y = layer.cpu().double(), last.cpu().double()
        self.n += len(x)
        self._x += x.sum(0)
        self._y += y.sum(0)
        self._yy += y.square().sum(0)
        self._xx += x.T @ x
        self._zx += (y - x).T @ x

    def solved(self) -> "Solved":
        x, y = self._x / self.n, self._y / self.n
        values, vectors = torch.linalg.eigh(self._xx / self.n - torch.outer(x, x))
        covariance = self._zx / self.n - torch.outer(y - x, x)
        spread = (self._yy / self.n - y.square()).clamp(min=_TINY).sqrt()
        return Solved(x, y - x, values.clamp(min=0), vectors, covariance, spread)


@dataclass(frozen=True)
class Solved:
    """The ridge fits of one layer for every strength; all float64, on the CPU."""

    mean: torch.Tensor  # of the layer's stream
    moved: torch.Tensor  # mean of last − layer
    values: torch.Tensor  # eigenvalues of the layer's covariance
    vectors: torch.Tensor
    covariance: torch.Tensor  # of last − layer with the layer
    spread: torch.Tensor  # deviation of each coordinate of the last stream

    def white(self, strength: float) -> torch.Tensor:
        """T (d_model, d_model): (x − mean) T is white, but for the penalty."""
        penalised = self.values + strength * self.values.mean()
        return self.vectors * penalised.clamp(min=_TINY).rsqrt()

    def map(self, strength: float) -> Map:
        """The W and b that make Σ‖last − h − W h − b‖² + n · strength · (mean variance) · ‖W‖² least."""
        white = self.white(strength)
        return self.mapped((self.covariance @ white), self.moved, white)

    def mapped(self, slope: torch.Tensor, offset: torch.Tensor, white: torch.Tensor) -> Map:
        """W and b of h + slope · (h − mean) T + offset."""
        weight = slope @ white.T
        return weight.float(), (offset - weight @ self.mean).float()


class Target(Protocol):
    """What the model says at some positions."""

    def pull(self, normed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The gradient of KL(model ‖ lens) at positions `rows` by the normed streams (n, d_normed) that a lens has
        there, each by its own.
        """
        ...


class PlainTarget:
    """Of a model whose logits are scale · (weight · normed + bias): the mean row of the unembedding under its p."""

    def __init__(self, parts: Layers, last: torch.Tensor) -> None:
        assert parts.plain_unembedding is not None
        self._scale, self._weight, self._bias = parts.plain_unembedding
        self._pulled = torch.cat([self._rows(parts.final_norm(some)) for some in last.split(_AT_ONCE)])

    def _rows(self, normed: torch.Tensor) -> torch.Tensor:
        logits = linear(normed, self._weight, self._bias)
        return self._scale * linear((self._scale * logits).softmax(-1), self._weight.t())

    def pull(self, normed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self._rows(normed) - self._pulled[rows]


class AnyTarget:
    """Of a model whose logits are whatever its head makes of the normed stream."""

    def __init__(self, parts: Layers, last: torch.Tensor) -> None:
        self._parts, self._last = parts, last

    def pull(self, normed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        log_p = self._parts.unembed(self._parts.final_norm(self._last[rows])).log_softmax(-1)
        with torch.enable_grad():
            leaf = normed.detach().requires_grad_()
            log_q = self._parts.unembed(leaf).log_softmax(-1)
            kl = -(log_p.exp() * log_q).sum()
            return torch.autograd.grad(kl, leaf)[0]


class Head:
    """The model's way from a last stream to its logits, and what a lens is to come near to."""

    def __init__(self, loaded: "HasModel") -> None:
        self._parts = layers_of(loaded.model)

    @torch.no_grad()
    def target(self, last: torch.Tensor) -> Target:
        """Of last streams (n, d_model)."""
        made = PlainTarget if self._parts.plain_unembedding is not None else AnyTarget
        return made(self._parts, last)

    @torch.no_grad()
    def slope(self, carried: torch.Tensor, target: Target, rows: torch.Tensor) -> torch.Tensor:
        """The gradient of KL(model ‖ lens), each position's by its carried stream (n, d_model)."""
        with torch.enable_grad():
            leaf = carried.detach().requires_grad_()
            normed = self._parts.final_norm(leaf)
        return torch.autograd.grad(normed, leaf, target.pull(normed.detach(), rows))[0]

    @torch.no_grad()
    def kl(self, streams: Streams, *maps: Map | None) -> torch.Tensor:
        """KL(model ‖ lens) at each position, (n_maps, n) float64; None is the identity."""
        found = []
        for layer, last in zip(streams.layer.split(_AT_ONCE), streams.last.split(_AT_ONCE), strict=True):
            log_p = self._log_probs(last)
            p = log_p.exp()
            found.append(torch.stack([kl_between(log_p, p, self._log_probs(carried(layer, one))) for one in maps]))
        return torch.cat(found, dim=1).cpu()

    def _log_probs(self, last: torch.Tensor) -> torch.Tensor:
        return self._parts.unembed(self._parts.final_norm(last)).log_softmax(-1)


def carried(layer: torch.Tensor, affine: Map | None) -> torch.Tensor:
    """h + W h + b; h where there is no map."""
    if affine is None:
        return layer
    weight, bias = (part.to(layer) for part in affine)
    return layer + layer @ weight.T + bias


def fit_layer(
    head: Head, train: Streams, target: Target, validation: Streams, problems: Sequence[str], settings: Settings
) -> LayerFit:
    """`target` is of `train`'s positions, `problems` are those of the validation positions, in their order."""
    solved = ridge_of(train)
    strength = chosen_strength(head, solved, validation)
    looks = dict(descent(head, train, target, solved, strength, settings))
    return judged(head, validation, problems, Candidates(strength, solved.map(strength), looks))


def ridge_of(train: Streams) -> Solved:
    sums = Ridge(train.layer.shape[1])
    for layer, last in zip(train.layer.split(_AT_ONCE), train.last.split(_AT_ONCE), strict=True):
        sums.add(layer, last)
    return sums.solved()


def chosen_strength(head: Head, solved: Solved, validation: Streams) -> float:
    """The one of STRENGTHS with the least KL; the largest where there is nothing to choose by."""
    if not len(validation.layer):
        return STRENGTHS[-1]
    spaced = (
        torch.linspace(0, len(validation.layer) - 1, min(_CHOOSING, len(validation.layer)))
        .long()
        .to(validation.layer.device)
    )
    some = Streams(validation.layer[spaced], validation.last[spaced])
    means = head.kl(some, *map(solved.map, STRENGTHS)).mean(1)
    return STRENGTHS[int(means.argmin())]


@dataclass(frozen=True)
class Candidates:
    """What validation chooses from, besides the identity."""

    strength: float
    ridge: Map
    looks: dict[int, Map]  # by the steps that were made


def judged(head: Head, validation: Streams, problems: Sequence[str], candidates: Candidates) -> LayerFit:
    """What validation keeps of the maps: the identity unless the best lies below it beyond the interval."""
    looks, strength = candidates.looks, candidates.strength
    if not len(validation.layer):
        return LayerFit(IDENTITY, None, strength, {}, 0, clustered_mean([], []))
    plain, ridge, *tuned = head.kl(validation, None, candidates.ridge, *looks.values())
    found = {IDENTITY: plain, RIDGE: ridge}
    maps: dict[str, Map | None] = {IDENTITY: None, RIDGE: candidates.ridge}
    steps = 0
    if looks:
        steps, found[TUNED] = min(zip(looks, tuned, strict=True), key=lambda one: float(one[1].mean()))
        maps[TUNED] = looks[steps]
    means = {name: float(kl.mean()) for name, kl in found.items()}
    best = min((name for name in maps if name != IDENTITY), key=means.__getitem__)
    gain = clustered_mean((plain - found[best]).tolist(), problems)
    kept = best if gain.low > 0 else IDENTITY
    return LayerFit(kept, maps[kept], strength, means, steps, gain)


@torch.no_grad()
def descent(
    head: Head, train: Streams, target: Target, solved: Solved, strength: float, settings: Settings
) -> Iterator[tuple[int, Map]]:
    """The map after so many steps from the ridge fit of `strength`, at LOOKS even distances, the last at the end."""
    white = solved.white(strength)
    mean, whitened, spread = (part.to(train.layer) for part in (solved.mean, white, solved.spread))
    slope = ((solved.covariance @ white) / solved.spread[:, None]).to(train.layer)
    offset = (solved.moved / solved.spread).to(train.layer)
    optimizer = torch.optim.Adam([slope, offset])
    looks = {round(settings.steps * look / LOOKS) for look in range(1, LOOKS + 1)}
    for step, drawn in enumerate(batches(len(train.layer), settings), start=1):
        rows = drawn.to(train.layer.device)
        layer = train.layer[rows]
        inputs = (layer - mean) @ whitened
        moved = layer + (inputs @ slope.T + offset) * spread
        by_output = head.slope(moved, target, rows) * spread / len(rows)
        slope.grad, offset.grad = by_output.T @ inputs, by_output.sum(0)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - (step - 1) / settings.steps)
        optimizer.step()
        if step in looks:
            exact = slope.cpu().double() * solved.spread[:, None]
            yield step, solved.mapped(exact, offset.cpu().double() * solved.spread, white)


def batches(n: int, settings: Settings) -> Iterator[torch.Tensor]:
    """Rows of each step: all of them in an order that is drawn anew each time they have been read."""
    draw = torch.Generator().manual_seed(seed_for("order of a lens", settings.seed))
    order = torch.empty(0, dtype=torch.long)
    for _ in range(settings.steps):
        while len(order) < settings.batch:
            order = torch.cat([order, torch.randperm(n, generator=draw)])
        yield order[: settings.batch]
        order = order[settings.batch :]
