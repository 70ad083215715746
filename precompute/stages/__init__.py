"""The stages in the order in which they run: each sees the rows of those before it."""

from precompute.stages import (
    ablations,
    activations,
    categories,
    chunks,
    codes,
    cots,
    crosscoder,
    features,
    importance,
    maps,
    problems,
    resilience,
    rollouts,
    splices,
    sweep,
    tokens,
    training,
)
from precompute.units import Stage

STAGES: tuple[Stage, ...] = (
    problems, cots, tokens, training, chunks, categories, activations, rollouts, importance, resilience, maps, sweep,
    crosscoder, codes, features, splices, ablations,
)  # fmt: skip
