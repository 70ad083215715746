"""How a quantity runs along places in order: not at all, gradually, or in one step; with an interval for every number.

1. The step, the interval of its place and its p are `changepoint`'s over all samples; p is against places that differ
   no more than samples of one place do.
2. Constant, straight line and step are fitted to the places' means and compared by AIC = n·log(RSS/n) + 2·parameters. A
   step's place counts as 3 parameters (Ninomiya 2005, Statistics & Probability Letters 72, 237).
3. `p_order` is the share of orders of the places' means whose best step explains as much, by permutation.
4. `no change` if p ≥ 0.05: places differ no more than samples do. `uneven` if they differ, but `p_order` ≥ 0.05: chance
   puts such places into such an order. Else `sharp` or `gradual`, whichever describes them best.
5. The step's size and the line's slope have intervals of their own: the samples are drawn anew within each place, the
   step is placed and the line fitted again, and the 2.5th and 97.5th percentiles are taken. Deviations from a place's
   mean are widened by √(n/(n−1)), without which few samples look surer than they are. With one sample at a place the
   intervals are unknown.

With 7 places or fewer even a perfect step has a `p_order` above 0.05: these are `uneven` at most, and `best` says what
they look like. Where places differ at random, `best` is sharp or gradual in a quarter of all cases, `verdict` in a
twentieth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backend.ids import seed_for
from backend.statistics.changepoint import MIN_X, Changepoint, changepoint
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile

ALPHA = 0.05
ORDERED_FROM = 8  # places; with fewer no order can be told from chance
_DRAWS = 1000


@dataclass(frozen=True)
class Course:
    """Sizes and slopes are in the unit of the samples, places in that of x. Unknown numbers are NaN."""

    verdict: str | None  # sharp, gradual, uneven or no change; None where fewer than 4 places are known
    best: (
        str | None
    )  # sharp, gradual or no change: of step, line and constant the one of lowest AIC; None where they cannot be had
    step: Changepoint | None  # with the interval of its place; its p is against places that differ no more than samples
    size: Interval  # 95 % interval of the step's size
    p_order: float  # against places that differ in no order; NaN without a step
    slope: float  # of the straight line: change a place
    slope_interval: Interval  # its 95 % interval
    aic_constant: float
    aic_line: float
    aic_step: float
    n_places: int
    n_samples: int
    n_unknown: int  # samples that are unknown and left out


def course(samples: Mapping[int, Sequence[float]], *, n_unknown: int = 0, seed: int = 0) -> Course:
    """Of the known samples at each place; a place without any takes no part."""
    there = {place: np.asarray(values, float) for place, values in sorted(samples.items()) if len(values)}
    places = list(there)
    unknown = Course(
        verdict=None,
        best=None,
        step=None,
        size=UNKNOWN,
        p_order=math.nan,
        slope=math.nan,
        slope_interval=UNKNOWN,
        aic_constant=math.nan,
        aic_line=math.nan,
        aic_step=math.nan,
        n_places=len(places),
        n_samples=sum(map(len, there.values())),
        n_unknown=n_unknown,
    )
    if len(places) < MIN_X:
        return unknown
    x, means = np.array(places, float), np.array([values.mean() for values in there.values()])
    step = changepoint(places, [values.tolist() for values in there.values()], seed=seed)
    by_place = changepoint(places, means[:, None].tolist(), seed=seed)
    if step is None or by_place is None:
        return replace(unknown, verdict="no change", step=step, slope=0.0)
    slope, level = np.polyfit(x, means, 1)
    stepped = np.where(x <= by_place.x_before, by_place.mean_before, by_place.mean_after)
    total = float(((means - means.mean()) ** 2).sum())

    def aic(fitted: np.ndarray | float, parameters: int) -> float:
        return len(x) * math.log(max(float(((means - fitted) ** 2).sum()), 1e-12 * total) / len(x)) + 2 * parameters

    aics = {"no change": aic(means.mean(), 2), "gradual": aic(slope * x + level, 3), "sharp": aic(stepped, 6)}
    best = min(aics, key=aics.__getitem__)
    verdict = "no change" if step.p >= ALPHA else "uneven" if by_place.p >= ALPHA or best == "no change" else best
    size, slope_interval = _intervals(x, list(there.values()), seed)
    return replace(
        unknown,
        verdict=verdict,
        best=best,
        step=step,
        size=size,
        p_order=by_place.p,
        slope=float(slope),
        slope_interval=slope_interval,
        aic_constant=aics["no change"],
        aic_line=aics["gradual"],
        aic_step=aics["sharp"],
    )


def _intervals(x: np.ndarray, groups: Sequence[np.ndarray], seed: int) -> tuple[Interval, Interval]:
    """Of the step's size, and of the line's slope."""
    sizes = np.array([len(group) for group in groups], float)
    if sizes.min() < 2:
        return UNKNOWN, UNKNOWN
    rng = np.random.default_rng(seed_for("course bootstrap", seed))
    means = np.stack([_drawn_means(group, rng) for group in groups], 1)  # (n_draws, n_places)
    slopes = (means - means.mean(1, keepdims=True)) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    sums = np.cumsum(means * sizes, 1)
    before, after = np.cumsum(sizes)[:-1], sizes.sum() - np.cumsum(sizes)[:-1]
    steps = (sums[:, -1:] - sums[:, :-1]) / after - sums[:, :-1] / before
    best = (steps**2 * before * after).argmax(1)  # what a step explains, but for a constant
    return bootstrap_percentile(steps[np.arange(_DRAWS), best]), bootstrap_percentile(slopes)


def _drawn_means(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = group[rng.integers(len(group), size=(_DRAWS, len(group)))].mean(1)
    return group.mean() + math.sqrt(len(group) / (len(group) - 1)) * (drawn - group.mean())
