"""How much of a model's next-token loss survives when a dictionary's reconstruction takes the residual stream's place.

1 − (spliced − loss) / (baseline − loss), losses being means over all tokens of the CoTs: 1 where splicing costs
nothing, 0 where it costs as much as the baseline (the residual stream set to zero, or to its mean). Intervals resample
problems, whose CoTs are alike.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from backend.statistics.intervals import Interval, bootstrap_percentile

_REPLICATES, _SEED = 2000, 0
Baseline = Literal["loss_zeroed", "loss_averaged"]


@dataclass(frozen=True)
class Recovered:
    """Of one model; NaN where nothing was measured, or where the baseline costs nothing."""

    value: float
    interval: Interval  # 95 %, NaN with fewer than two problems
    n_cots: int
    n_problems: int
    n_tokens: int


def loss_recovered(losses: pd.DataFrame, baseline: Baseline = "loss_zeroed") -> Recovered:
    """`losses` are the rows of one model of `DictionaryQueries.spliced_losses`."""
    n, below = losses["n_tokens"], losses[baseline]
    sums = losses.assign(gained=(below - losses["loss_spliced"]) * n, whole=(below - losses["loss"]) * n)
    gained, whole = sums.groupby("problem_id", sort=True)[["gained", "whole"]].sum().to_numpy(dtype=np.float64).T
    value = float(gained.sum() / whole.sum()) if whole.sum() > 0 else math.nan
    interval = Interval(math.nan, math.nan)
    if len(gained) > 1:
        drawn = np.random.default_rng(_SEED).integers(len(gained), size=(_REPLICATES, len(gained)))
        denominator = whole[drawn].sum(1)
        replicates = np.divide(
            gained[drawn].sum(1), denominator, out=np.full(_REPLICATES, np.nan), where=denominator > 0
        )
        interval = bootstrap_percentile(replicates)
    return Recovered(value, interval, len(losses), len(gained), int(n.sum()))
