"""What a stage's `estimate` is given, and the line of the plan that it gives back.

Minutes are floating-point operations divided by the machine's matrix-multiply rate, times the share of that rate which
each kind of work reached in the quick study (EFFICIENCY), plus the time that workers take to start. Gigabytes count
scratch too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from backend.geometry.direction_kinds import DIRECTION_KINDS
from precompute.study import Study

EFFICIENCY = {
    "sampling": 0.38,
    "forward": 0.75,
    "sweep": 1.4,  # above 1: half of the layers, by faster kernels
    "dictionary": 0.5,
    "small dictionary": 0.28,  # of 2,048 features and width 576, batch 2,048: a third of a step is its dense product
    "reverse": 0.55,  # passes back through all layers; of `benchmarks/lenses.py`
    "lens": 0.85,  # descents of a tuned lens
    "divergence": 0.45,  # logits of an unembedding, and their KL to others
}
PROMPT_TOKENS = 310  # two worked examples and a short question
TEXT = 1e-9 * 6  # gigabytes a token as text and id
_START_SECONDS = 6.0  # of a stage's workers: imports and the model


@dataclass(frozen=True)
class Estimate:
    """One line of the plan. Unknown is None."""

    stage: str
    units: int
    done: int
    tokens: int
    minutes: float | None
    gigabytes: float


@dataclass(frozen=True)
class Lengths:
    """What the estimates rest on, per CoT and per chunk, in tokens."""

    cot: float
    chunk: float
    measured: bool


@dataclass(frozen=True)
class Quantities:
    """What the whole study comes to. `machine` is the operations a second of all workers; unknown is None."""

    study: Study
    lengths: Lengths
    n_problems: int
    parameters: int | None
    d_model: int | None
    n_layers: int
    machine: float | None
    done: Mapping[str, int]  # finished units of each stage
    vocab_size: int | None = None

    @property
    def unembedding(self) -> int:
        """Its weights; 0 where they are unknown."""
        return (self.vocab_size or 0) * (self.d_model or 0)

    @property
    def n_cots(self) -> int:
        return self.n_problems * self.study.sampling.samples * self.study.n_asked

    @property
    def n_chunks(self) -> int:
        return round(self.n_cots * self._chunks_a_cot)

    @property
    def read(self) -> int:
        """Tokens of all CoTs with their prompts."""
        return round(self.n_cots * (self.lengths.cot + PROMPT_TOKENS))

    @property
    def layers(self) -> int:
        """At which activations are recorded."""
        wanted = self.study.activations.layers
        return self.n_layers if wanted == "all" else len(wanted)

    @property
    def rolled_cots(self) -> int:
        wanted, models = self.study.rollouts.cots, self.study.models
        own = self.n_cots / max(len(models), 1)
        return round(min(wanted, sum(min(own, model.rollout_cots or wanted) for model in models)))

    @property
    def rolled_chunks(self) -> int:
        return round(self.rolled_cots * min(self._chunks_a_cot, self.study.rollouts.max_chunks))

    @property
    def rollout_tokens(self) -> int:
        wanted = self.study.rollouts
        return round(self.rolled_chunks * (wanted.n * self.lengths.cot / 2 + wanted.forced * 8))

    @property
    def n_directions(self) -> int:
        """Along which each chunk is steered."""
        wanted = self.study.sweep
        return sum(wanted.random if DIRECTION_KINDS[kind].is_drawn else 1 for kind in wanted.kinds)

    def depth(self, layer: int) -> float:
        """The share of the blocks that is computed for a layer."""
        return (layer + 1) / self.n_layers

    @property
    def _chunks_a_cot(self) -> float:
        return max(self.lengths.cot / self.lengths.chunk, 1.0)

    def line(
        self,
        stage: str,
        units: int,
        *,
        gigabytes: float,
        tokens: int = 0,
        by: str | None = None,
        seconds: float = 0.0,
    ) -> Estimate:
        """`tokens` go through the model `by` one kind of EFFICIENCY; `seconds` are what is no model's work."""
        minutes: float | None = seconds / 60
        if by is not None:
            models = self.seconds(tokens, by)
            minutes = None if models is None else (models + _START_SECONDS + seconds) / 60
        return Estimate(stage, units, self.done.get(stage, 0), tokens, minutes, gigabytes)

    def seconds(self, tokens: float, by: str) -> float | None:
        """Of so many tokens through the model, by one kind of EFFICIENCY."""
        if self.machine is None or self.parameters is None:
            return None
        return tokens / (self.machine / (2 * self.parameters) * EFFICIENCY[by])
