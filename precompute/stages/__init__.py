"""The stages in the order in which they run: each sees the rows of those before it."""

from precompute.stages import activations, categories, chunks, cots, importance, maps, problems, rollouts, sweep, tokens, training
from precompute.units import Stage

STAGES: tuple[Stage, ...] = (problems, cots, tokens, training, chunks, categories, activations, rollouts, importance, maps, sweep)
