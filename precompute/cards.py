"""Accelerators, by their published peak rates, and what a study's work takes on one: an assumption, not a measurement.

Passes that are compared are float32, at USED of the peak of plain float32. Sampling is a step a token for a batch of
rows: the steps read the weights, and the keys and values of the rows, at USED of the published bandwidth, or compute,
whichever takes longer, and start the kernels of every block, LAUNCH each. What is no model's work takes as long as on
this machine.
"""

from dataclasses import dataclass

USED = 0.4  # of a peak, assumed
LAUNCH = 2.5e-4  # seconds a block and step in which a host starts kernels, assumed
IN_WORDS = (
    f"Hours on an accelerator are not measured: published peak rates, of which {USED:.0%} is assumed to be used, and"
    f" {LAUNCH * 1000:.2f} ms a block and step of sampling to start kernels; what is no model's work takes as long as"
    " here. Memory is that of all workers together, at most."
)


@dataclass(frozen=True)
class Card:
    """Peak rates without sparsity."""

    name: str
    float32: float  # operations a second, without tensor cores
    half: float  # operations a second of bfloat16 with float32 sums
    bandwidth: float  # bytes a second
    gigabytes: float
    source: str


CARDS = (
    Card("H200", 67e12, 989e12, 4.8e12, 141, "NVIDIA H200 data sheet, SXM"),
    Card("A100", 19.5e12, 312e12, 2.039e12, 80, "NVIDIA A100 80GB data sheet, SXM"),
    Card("4090", 82.6e12, 165.2e12, 1.008e12, 24, "NVIDIA Ada architecture white paper, appendix A: GeForce RTX 4090"),
)


@dataclass(frozen=True)
class Sampled:
    """Tokens that are written a batch at a time."""

    steps: float
    operations: float  # of all steps
    bytes: float  # that are read in all steps: weights, keys and values
    n_layers: float
    is_half: bool


def product_seconds(card: Card, operations: float) -> float:
    """Of so many float32 operations."""
    return operations / (card.float32 * USED)


def sampling_seconds(card: Card, work: Sampled) -> float:
    peak = card.half if work.is_half else card.float32
    computed, read = work.operations / (peak * USED), work.bytes / (card.bandwidth * USED)
    return max(computed, read) + work.steps * work.n_layers * LAUNCH
