"""The ablation figure with k % of the features that fire on a category at all: see `ablations`, which takes k % of all.

Where few features fire on a category's tokens, k % of all of them is every one that fires from a small k on, and larger
k zero the same set again. Of those that fire, each k is a set of its own, up to all of them at 100 %.
"""

from collections.abc import Iterator, Sequence

from precompute.estimates import Estimate, Quantities
from precompute.stages import ablations
from precompute.units import Context, Finished, Unit

NAME, UNIT = "firing_ablations", "model and category"
RULE = 1  # of targets, features, sets and intervals: raise it when they change
PERCENTS = (*ablations.PERCENTS, 50.0, 100.0)


def units(context: Context) -> list[Unit]:
    """One unit a model of the pair and category, once the features are measured."""
    return ablations.units(context)


def estimate(of: Quantities) -> Estimate | None:
    return ablations.estimated(of, NAME, len(PERCENTS))


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    from backend.crosscoder.ablations import top_firing

    return ablations.computed(context, units, ablations.Ranking("firing_ablations", PERCENTS, top_firing))
