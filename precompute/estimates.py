"""What a stage's `estimate` is given, and the line of the plan that it gives back.

Work is floating-point operations of a kind (EFFICIENCY), and processor seconds that are no model's. Here, operations
take processor seconds by the matrix-multiply rate of one thread, times the share of that rate which each kind reached
in two small studies; on an accelerator they take seconds by its published rates (`cards.py`). Gigabytes count scratch
too. What is unknown is NaN on its way here, and None in a line.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from backend.geometry.direction_kinds import DIRECTION_KINDS
from precompute.cards import CARDS, Card, Sampled, product_seconds, sampling_seconds
from precompute.model_shapes import Shape
from precompute.study import Study

EFFICIENCY = {
    "sampling": 0.45,
    "forward": 0.75,
    "sweep": 0.45,  # of all layers' operations; half are done, and logits and KLs take the rest
    "cosines": 0.6,  # of a Gram matrix and of its nulls
    "dictionary": 0.5,
    "small dictionary": 0.28,  # of 2,048 features and width 576, batch 2,048: a third of a step is its dense product
    "reverse": 0.55,  # passes back through all layers; of `benchmarks/lenses.py`
    "lens": 0.85,  # descents of a tuned lens
    "products": 0.75,  # of activations with each other
    "divergence": 0.45,  # logits of an unembedding, and their KL to others
}
STEP_TOKENS = 30  # that a step of sampling costs before its rows, since all weights are read for it
GOES_ON = 0.7  # of a CoT's length, that a rollout writes from a chunk in the mean of all chunks
FORCED = 10  # tokens of a forced answer
_END = 0.9  # of the cap, at which the last row of a batch ends
PROMPT_TOKENS = 150  # of a model that is not here, assumed: 80 of one that thinks, 310 with two worked examples
TEXT = 1e-9 * 6  # gigabytes a token as text and id
_START_SECONDS = 2.5  # of each of a stage's workers: the model is loaded
_LOGITS = 3  # copies of a batch's logits: themselves, their logarithms, and those that they are compared with
_BATCH_TOKENS = 1024  # that pass together, whose logits are held at a time


@dataclass(frozen=True)
class Estimate:
    """One line of the plan. Unknown is None."""

    stage: str
    units: int | None
    done: int
    tokens: int | None
    cpu_seconds: float | None  # here, of all processes together
    gigabytes: float | None  # on disk
    memory: float | None = 0.0  # gigabytes, of all workers together, at most
    scratch: float | None = 0.0  # of the gigabytes on disk, those that no store is built from
    on_cards: Mapping[str, float | None] = field(default_factory=dict)  # hours on each of CARDS

    @property
    def minutes(self) -> float | None:
        """Of one core here."""
        return None if self.cpu_seconds is None else self.cpu_seconds / 60


@dataclass(frozen=True)
class Lengths:
    """What the estimates rest on, per CoT and per chunk, in tokens."""

    cot: float
    chunk: float
    measured: bool
    prompt: float = PROMPT_TOKENS


@dataclass(frozen=True)
class Quantities:
    """What the whole study comes to. `machine` is the operations a second of one thread; unknown is None."""

    study: Study
    lengths: Lengths
    n_problems: int | None
    parameters: int | None
    d_model: int | None
    n_layers: int | None
    machine: float | None
    done: Mapping[str, int]  # finished units of each stage
    vocab_size: int | None = None
    shape: Shape | None = None  # of the largest model

    @property
    def width(self) -> float:
        """`d_model`; NaN where it is unknown."""
        return _or_nan(self.d_model)

    @property
    def all_layers(self) -> float:
        return _or_nan(self.n_layers)

    @property
    def unembedding(self) -> float:
        """Its weights."""
        return _or_nan(self.vocab_size) * self.width

    @property
    def n_cots(self) -> float:
        return _or_nan(self.n_problems) * self.study.sampling.samples * self.study.n_asked

    @property
    def n_chunks(self) -> float:
        return self.n_cots * self._chunks_a_cot

    @property
    def read(self) -> float:
        """Tokens of all CoTs with their prompts."""
        return self.n_cots * (self.lengths.cot + self.lengths.prompt)

    @property
    def layers(self) -> float:
        """At which activations are recorded."""
        wanted = self.study.activations.layers
        return self.all_layers if wanted == "all" else len(wanted)

    @property
    def rolled_cots(self) -> int:
        wanted, models = self.study.rollouts.cots, self.study.models
        own = self.n_cots / max(len(models), 1)
        return round(min(wanted, sum(min(own, model.rollout_cots or wanted) for model in models)))

    @property
    def rolled_chunks(self) -> float:
        return self.rolled_cots * min(self._chunks_a_cot, self.study.rollouts.max_chunks)

    @property
    def rollout_tokens(self) -> float:
        wanted = self.study.rollouts
        return self.rolled_chunks * (wanted.n * self.lengths.cot * GOES_ON + wanted.forced * FORCED)

    @property
    def rolled_read(self) -> float:
        """Tokens of the CoTs with rollouts, with their prompts."""
        return self.rolled_cots * (self.lengths.prompt + self.lengths.cot)

    @property
    def others_weights(self) -> float:
        """Gigabytes of a pair's second model, where both are held."""
        return 4e-9 * _or_nan(self.parameters) * (len(self.study.pair) - 1)

    @property
    def n_directions(self) -> int:
        """Along which each chunk is steered."""
        wanted = self.study.sweep
        return sum(wanted.random if DIRECTION_KINDS[kind].is_drawn else 1 for kind in wanted.kinds)

    def depth(self, layer: int) -> float:
        """The share of the blocks that is computed for a layer."""
        return (layer + 1) / self.all_layers

    @property
    def _chunks_a_cot(self) -> float:
        return max(self.lengths.cot / self.lengths.chunk, 1.0)

    def line(
        self,
        stage: str,
        units: float,
        *,
        gigabytes: float,
        tokens: float = 0,
        by: str | None = None,
        products: Mapping[str, float] | None = None,
        steps: float = 0.0,
        seconds: float = 0.0,
        held: float = 0.0,
        scratch: float = 0.0,
    ) -> Estimate:
        """`tokens` go through the model `by` one kind of EFFICIENCY, those of sampling in so many `steps` of a batch;
        `products` are operations beside, of a kind each; `seconds` are processor seconds of what is no model's work;
        `held` are gigabytes in memory beside the model, and `scratch` those on disk that no store is built from.
        """
        work = dict(products or {})
        if by is not None:
            work[by] = work.get(by, 0.0) + self.operations(tokens + steps * STEP_TOKENS)
        starts = 0.0 if by is None else _START_SECONDS * self.study.engine.workers
        here = sum(operations / (_or_nan(self.machine) * EFFICIENCY[kind]) for kind, operations in work.items())
        return Estimate(
            stage,
            _whole(units),
            self.done.get(stage, 0),
            _whole(tokens),
            _or_none(here + starts + seconds),
            _or_none(gigabytes + scratch),
            _or_none(max((self._memory(kind) for kind in ([by] if by else [])), default=0.0) + held),
            _or_none(scratch),
            {card.name: _or_none(self._on(card, work, steps, starts + seconds) / 3600) for card in CARDS},
        )

    def steps(self, tokens: float, batches: float) -> float:
        """In which so many tokens are sampled: full ones, and at each batch's end few rows that go on to the cap."""
        return tokens / self.study.engine.rows + batches * _END * self.study.sampling.max_new_tokens

    def operations(self, tokens: float) -> float:
        """Of so many tokens through the model."""
        return 2 * tokens * _or_nan(self.parameters)

    def _on(self, card: Card, work: Mapping[str, float], steps: float, seconds: float) -> float:
        """Seconds of the work on a card, and of what is no model's beside it."""
        passes = sum(operations for kind, operations in work.items() if kind != "sampling")
        seconds += product_seconds(card, passes)
        if not (operations := work.get("sampling", 0.0)):
            return seconds
        if not steps:  # of texts that are written beside something else
            steps = operations / self.operations(1.0) / self.study.engine.rows
        parameters, size = _or_nan(self.parameters), self._sampling_bytes
        operations -= self.operations(steps * STEP_TOKENS)
        kept = operations / self.operations(1.0) * (self.lengths.prompt + self.lengths.cot / 2) * self._kept_a_token
        return seconds + sampling_seconds(
            card, Sampled(steps, operations, (steps * parameters + kept) * size, self.all_layers, size == 2)
        )

    @property
    def _kept_a_token(self) -> float:
        return math.nan if self.shape is None else self.shape.kept_a_token

    @property
    def _sampling_bytes(self) -> int:
        """Of a number while sampling."""
        return {"bfloat16": 2, "float16": 2, "float64": 8}.get(str(self.study.sampling.dtype), 4)

    def _memory(self, kind: str) -> float:
        """Gigabytes of all workers: weights, keys and values, and what a pass holds between its blocks, at most."""
        if self.shape is None:
            return math.nan
        shape, one = self.shape, self.study.sampling
        text = self.lengths.prompt + one.max_new_tokens
        numbers: float
        if kind == "sampling":
            rows, size = self.study.engine.rows, self._sampling_bytes
            numbers = (shape.parameters + rows * text * shape.kept_a_token) * size
            numbers += rows * shape.vocab_size * 4 * _LOGITS
        else:
            between = 8 * shape.d_model + 3 * shape.d_mlp + 4 * shape.n_heads * shape.head_dim
            read = max(text, _BATCH_TOKENS)
            numbers = 4 * (shape.parameters + text * shape.kept_a_token + read * between)
            numbers += 4 * _LOGITS * _BATCH_TOKENS * shape.vocab_size
        return numbers * self.study.engine.workers * 1e-9


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else round(value)
