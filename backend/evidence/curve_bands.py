"""A curve through the chunks of a pair, to be drawn: its parameters with intervals, and the band that it lies in.

1. The curve is that of `laws.py`: A/(x + x₀) + c by soft-L1, and by least squares a constant, a line, and a power on
   the chunks where both are above 0; beside them Theil and Sen's line, the median slope over pairs of chunks.
2. Whole problems are drawn with replacement, because chunks of one problem are not independent. Each draw is fitted
   anew, its chunks weighted by how often their problem was drawn: the two nonlinear curves by searching their one
   nonlinear parameter on three grids, each finer than the one before.
3. Parameters and, at each x, the curve's value have the middle 95 % over the draws. With fewer than two problems, or a
   curve that cannot be fitted, they are unknown.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from backend.evidence import laws
from backend.evidence.sample import Sample, sample_of
from backend.ids import seed_for
from backend.statistics.intervals import bootstrap_percentile
from backend.statistics.resampling import constant, problem_draws

N_DRAWS = 200
_POINTS = 60  # of the drawn curve, evenly and again evenly in the logarithm
_MOST_FOR_PAIRS = 700  # chunks whose pairs Theil–Sen looks at
_GRIDS = (27, 9, 9)  # values of the nonlinear parameter, from the whole range to 1/50 of a step
_REWEIGHTED = (6, 6, 8)  # times, on each grid


@dataclass(frozen=True)
class Parameter:
    value: float
    low: float  # of the middle 95 % over draws of problems
    high: float


@dataclass(frozen=True)
class Drawn:
    """A fitted curve at `x`, all arrays (n_points,); none where it could not be fitted, and `note` says why."""

    curve: str
    n: int  # chunks it is fitted through
    n_problems: int
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    x: np.ndarray = field(default_factory=lambda: np.empty(0))
    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    low: np.ndarray = field(default_factory=lambda: np.empty(0))
    high: np.ndarray = field(default_factory=lambda: np.empty(0))
    n_draws: int = 0
    note: str = ""


Parameters = dict[str, float]
Refit = Callable[[np.ndarray], Parameters]  # from weights (n,) of the chunks


def curve_through(frame: pd.DataFrame, curve: str, *, subset: str = "all", n_draws: int = N_DRAWS, seed: int) -> Drawn:
    """`frame` has `x`, `y`, `cot_id`, `problem_id`; `curve` is one of CURVES."""
    sample = sample_of(frame, subset)
    if curve == "log_log":
        sample = sample.only((sample.x > 0) & (sample.y > 0))
    about = (curve, len(sample), sample.n_problems)
    if len(sample) < 6 or constant(sample.x) or constant(sample.y):
        return Drawn(*about, note="fewer than 6 chunks, or one of the two does not vary")
    point, refit = _FITTED[curve](sample, seed)
    draws, which = np.unique(problem_draws(sample.n_problems, n_draws, seed), axis=0, return_inverse=True)
    fitted = [
        refit(weights.astype(float)) if _varies(sample.x[weights > 0]) else None
        for weights in draws[:, sample.problems]
    ]  # of few problems there are few draws that differ
    again = [own for number in which.ravel() if (own := fitted[number]) is not None]
    x = _grid(sample.x)
    values = np.array([value_at(curve, parameters, x) for parameters in again]).reshape(len(again), len(x))
    low, high = _middle(values)
    found = {
        name: Parameter(value, *bootstrap_percentile(np.array([own[name] for own in again], float)))
        for name, value in point.items()
    }
    return Drawn(*about, found, x, value_at(curve, point, x), low, high, len(again))


def value_at(curve: str, parameters: Mapping[str, float], x: np.ndarray) -> np.ndarray:
    """The curve's value, NaN where it has none."""
    with np.errstate(all="ignore"):
        found = _VALUES[curve](parameters, np.asarray(x, float))
    return np.where(np.isfinite(found), found, np.nan)


_VALUES: dict[str, Callable[[Mapping[str, float], np.ndarray], np.ndarray]] = {
    "inverse": lambda p, x: p["A"] / (x + p["x0"]) + p["c"],
    "linear": lambda p, x: p["intercept"] + p["slope"] * x,
    "constant": lambda p, x: np.full(len(x), p["c"]),
    "log_log": lambda p, x: p["factor"] * np.where(x > 0, x, np.nan) ** p["exponent"],
    "theil_sen": lambda p, x: p["intercept"] + p["slope"] * x,
}


def _varies(x: np.ndarray) -> bool:
    return len(x) >= 6 and not constant(x)


def _grid(x: np.ndarray) -> np.ndarray:
    """Where the curve is drawn: from the least to the largest x, fine where an axis of either scale is."""
    above = x[x > 0]
    parts = [np.linspace(x.min(), x.max(), _POINTS)]
    if len(above):
        parts.append(np.geomspace(above.min(), above.max(), _POINTS))
    return np.unique(np.clip(np.concatenate(parts), x.min(), x.max()))


def _middle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of each column of draws (n_draws, n); NaN without draws."""
    if not len(values):
        unknown = np.full(values.shape[1], math.nan)
        return unknown, unknown
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    return low, high


# Each curve: its parameters as `laws` has them, and the same fit of weighted chunks


def _of_laws(curve: str, sample: Sample) -> Parameters:
    return laws.parameters_of(curve, sample.x, sample.y)


def _constant(sample: Sample, seed: int) -> tuple[Parameters, Refit]:
    return _of_laws("constant", sample), lambda weights: {"c": float(np.average(sample.y, weights=weights))}


def _linear(sample: Sample, seed: int) -> tuple[Parameters, Refit]:
    def refit(weights: np.ndarray) -> Parameters:
        slope, intercept, _ = laws.lines(sample.x[None], sample.y, given=weights[None])
        return {"intercept": float(intercept[0]), "slope": float(slope[0])}

    return _of_laws("linear", sample), refit


def _inverse(sample: Sample, seed: int) -> tuple[Parameters, Refit]:
    """As in `laws`: given t = log(x₀ + min(x, 0)) / spread the curve is a line in 1/(x + x₀)."""
    spread, scale = float(np.std(sample.x)), float(np.std(sample.y))
    shift = -min(float(sample.x.min()), 0.0)
    u, y = (sample.x + shift) / spread, sample.y / scale
    width = laws.soft_width(sample.y) / scale

    def refit(weights: np.ndarray) -> Parameters:
        some = weights > 0
        own_u, own_y, own = u[some], y[some], weights[some]

        def at(grid: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return laws.lines(1 / (own_u + np.exp(grid)[:, None]), own_y, width, given=own[None], times=times)

        t, slope, intercept = _searched(at, math.log(laws.LEAST_X0), math.log(laws.MOST_X0))
        return {"A": slope * scale * spread, "x0": math.exp(t) * spread + shift, "c": intercept * scale}

    return _of_laws("inverse", sample), refit


def _log_log(sample: Sample, seed: int) -> tuple[Parameters, Refit]:
    middle = math.exp(np.log(sample.x).mean())
    u, point = np.log(sample.x / middle), _of_laws("log_log", sample)

    def refit(weights: np.ndarray) -> Parameters:
        def at(grid: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            powers = np.exp(np.clip(grid[:, None] * u, -300, 300))
            factor = (weights * powers * sample.y).sum(1) / (weights * powers**2).sum(1)
            left = sample.y - factor[:, None] * powers
            return factor, np.zeros_like(factor), (weights * left**2).sum(1)

        exponent, factor, _ = _searched(at, point["exponent"] - 6, point["exponent"] + 6)
        return {"factor": factor * middle**-exponent, "exponent": exponent}

    return point, refit


def _theil_sen(sample: Sample, seed: int) -> tuple[Parameters, Refit]:
    rng, n = np.random.default_rng(seed_for("pairs of Theil–Sen", seed)), len(sample)
    some = np.sort(rng.choice(n, min(n, _MOST_FOR_PAIRS), replace=False))
    first, second = (some[part] for part in np.triu_indices(len(some), 1))
    apart = sample.x[first] != sample.x[second]
    first, second = first[apart], second[apart]
    slopes = (sample.y[second] - sample.y[first]) / (sample.x[second] - sample.x[first])
    order = np.argsort(slopes, kind="stable")
    slopes, first, second = slopes[order], first[order], second[order]

    def refit(weights: np.ndarray) -> Parameters:
        slope = _weighted_median(slopes, weights[first] * weights[second])
        middle_x, middle_y = (
            _weighted_median(values[by], weights[by])
            for values, by in ((own, np.argsort(own, kind="stable")) for own in (sample.x, sample.y))
        )
        return {"intercept": middle_y - slope * middle_x, "slope": slope}

    return refit(np.ones(n)), refit


def _weighted_median(rising: np.ndarray, weights: np.ndarray) -> float:
    """Of values in rising order: the mean of the two in the middle where they are even, as without weights."""
    total = np.cumsum(weights)
    if not len(total) or total[-1] <= 0:
        return math.nan
    at = np.searchsorted(total, total[-1] / 2)
    if total[at] == total[-1] / 2:
        after = np.searchsorted(total, total[-1] / 2, side="right")
        return float((rising[at] + rising[min(after, len(rising) - 1)]) / 2)
    return float(rising[at])


def _searched(
    at: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]], low: float, high: float
) -> tuple[float, float, float]:
    """The value of the nonlinear parameter with the least loss, and the two linear ones that `at` gives with it."""
    grid, found = np.linspace(low, high, _GRIDS[0]), (math.nan, math.nan, math.nan)
    for number, (size, times) in enumerate(zip((*_GRIDS[1:], 0), _REWEIGHTED, strict=True)):
        first, second, losses = at(grid, times)
        best, step = int(np.argmin(losses)), grid[1] - grid[0]
        found = float(grid[best]), float(first[best]), float(second[best])
        if number < len(_GRIDS) - 1:
            grid = np.clip(np.linspace(found[0] - step, found[0] + step, size), low, high)
    return found


_FITTED: dict[str, Callable[[Sample, int], tuple[Parameters, Refit]]] = {
    "inverse": _inverse,
    "linear": _linear,
    "constant": _constant,
    "log_log": _log_log,
    "theil_sen": _theil_sen,
}
CURVES = tuple(_FITTED)
