"""Which curve does y follow: constant, linear, a power (log-log), or A/(x + x₀) + c?

Curves can be compared only on the same rows and in the same unit, so there are two comparisons, and all residuals are
of y itself:

`all`       every chunk: constant, linear, inverse. A logarithm has no place for the zeros.
`positive`  chunks with x > 0 and y > 0: the same three, and the power, factor · x^exponent.

All four are least squares of y, which is what AIC and R² compare: a curve fitted by another loss would lose to those it
contains. The power begins at the line through the logarithms. The `parameters` of the inverse are the soft-L1 solution,
which outliers move little (its width is 1.48 times the median absolute deviation of y, or y's standard deviation where
that is 0), with x + x₀ above 0 and x₀ at most 1000 times the spread of x. A may be negative. AIC = n ln(RSS / n) + 2 (k
+ 1) with k parameters. Cross-validated R² = 1 − Σ (y − fitted)² / Σ (y − mean)² over held-out problems, fit and mean
both from the other problems: a constant has exactly 0, and a curve below 0 predicts worse than no curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backend.evidence.sample import Sample
from backend.ids import seed_for
from backend.statistics.resampling import constant

N_FOLDS = 5
_MOST_FOR_SLOPES = 3000  # Theil–Sen holds all pairs
LEAST_X0, MOST_X0 = 1e-4, 1e3  # of the inverse, in spreads of x

Curve = Callable[[np.ndarray], np.ndarray]
Fitted = tuple[Callable[[], dict[str, float]], Curve]  # parameters, worked out where they are asked for, and the curve
Fitting = Callable[[np.ndarray, np.ndarray, float], Fitted]  # from x, y and the least x of the whole sample


@dataclass(frozen=True)
class Fit:
    rows: str  # all or positive
    n: int
    curve: str  # constant, linear, log_log or inverse
    parameters: dict[
        str, float
    ]  # c · intercept, slope · factor, exponent · A, x0, c; empty where there are too few rows
    aic: float  # lower is better
    r2: float  # in sample
    cv_r2: float  # over held-out problems; NaN for one problem


@dataclass(frozen=True)
class TheilSen:
    """Median slope over pairs, y per x. Its interval (Sen 1968) takes chunks for independent.
    NaN where x is constant."""

    slope: float
    low: float
    high: float
    intercept: float


NO_SLOPE = TheilSen(math.nan, math.nan, math.nan, math.nan)


def theil_sen(sample: Sample, *, seed: int) -> TheilSen:
    """Of all chunks, or of 3000 of them drawn at random."""
    from scipy.stats import theilslopes

    if len(sample) < 3 or constant(sample.x):
        return NO_SLOPE
    x, y = sample.x, sample.y
    if len(x) > _MOST_FOR_SLOPES:
        chosen = np.random.default_rng(seed_for("Theil-Sen", seed)).choice(len(x), _MOST_FOR_SLOPES, replace=False)
        x, y = x[chosen], y[chosen]
    found = theilslopes(y, x)
    return TheilSen(float(found.slope), float(found.low_slope), float(found.high_slope), float(found.intercept))


def fits(sample: Sample, *, seed: int) -> tuple[Fit, ...]:
    """Every curve on `all` chunks, then on the `positive` ones."""
    positive = sample.only((sample.x > 0) & (sample.y > 0))
    return tuple(
        _fit(rows, own, curve, seed)
        for rows, own, curves in (
            ("all", sample, ("constant", "linear", "inverse")),
            ("positive", positive, tuple(_CURVES)),
        )
        for curve in curves
    )


def _fit(rows: str, sample: Sample, curve: str, seed: int) -> Fit:
    x, y, fit = sample.x, sample.y, _CURVES[curve]
    if len(x) < 6 or constant(x) or constant(y):
        return Fit(rows, len(x), curve, {}, math.nan, math.nan, math.nan)
    reported, fitted = fit(x, y, x.min())
    parameters = reported()
    rss = float(((y - fitted(x)) ** 2).sum())
    aic = len(x) * math.log(rss / len(x)) + 2 * (len(parameters) + 1) if rss > 0 else -math.inf
    return Fit(
        rows, len(x), curve, parameters, aic, 1 - rss / float(((y - y.mean()) ** 2).sum()), _cv_r2(sample, fit, seed)
    )


def parameters_of(curve: str, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What `fits` reports of a curve through x and y, (n,) each, neither of them constant."""
    return _CURVES[curve](x, y, float(x.min()))[0]()


def soft_width(y: np.ndarray) -> float:
    """The residual from which soft-L1 counts it less than squared."""
    return 1.4826 * float(np.median(np.abs(y - np.median(y)))) or float(np.std(y))


def _cv_r2(sample: Sample, fit: Fitting, seed: int) -> float:
    n_folds = min(N_FOLDS, sample.n_problems)
    if n_folds < 2:
        return math.nan
    fold = np.random.default_rng(seed_for("folds", seed)).permutation(np.arange(sample.n_problems) % n_folds)[
        sample.problems
    ]
    of_curve = of_mean = 0.0
    for held in (fold == k for k in range(n_folds)):
        x, y = sample.x[~held], sample.y[~held]
        if len(x) < 6 or constant(x):
            return math.nan
        _, fitted = fit(x, y, sample.x.min())
        of_curve += float(((sample.y[held] - fitted(sample.x[held])) ** 2).sum())
        of_mean += float(((sample.y[held] - y.mean()) ** 2).sum())
    return 1 - of_curve / of_mean if of_mean else math.nan


def _constant(x: np.ndarray, y: np.ndarray, least_x: float) -> Fitted:
    mean = float(y.mean())
    return lambda: {"c": mean}, lambda at: np.full(len(at), mean)


def _linear(x: np.ndarray, y: np.ndarray, least_x: float) -> Fitted:
    slope, intercept = _line(x, y)
    return lambda: {"intercept": intercept, "slope": slope}, lambda at: intercept + slope * at


def _log_log(x: np.ndarray, y: np.ndarray, least_x: float) -> Fitted:
    from scipy.optimize import least_squares

    middle = math.exp(np.log(x).mean())
    exponent, intercept = _line(np.log(x / middle), np.log(y))
    u, scale = np.log(x / middle), float(np.std(y)) or 1.0

    def power_of(exponent: float) -> np.ndarray:
        return np.exp(np.clip(exponent * u, -500, 500))

    least = least_squares(
        lambda p: p[0] * power_of(p[1]) - y / scale,
        [math.exp(intercept) / scale, exponent],
        lambda p: np.column_stack([power_of(p[1]), p[0] * u * power_of(p[1])]),
        max_nfev=200,
    )
    factor, exponent = float(least.x[0] * scale), float(least.x[1])
    found = {"factor": factor * middle**-exponent, "exponent": exponent}
    return lambda: found, lambda at: factor * (at / middle) ** exponent


def _inverse(x: np.ndarray, y: np.ndarray, least_x: float) -> Fitted:
    """x₀ = e^t − min(least_x, 0), with the least x of all rows, so that held-out rows too lie on one side of the pole.
    Given t the curve is a line in 1/(x + x₀), so that t alone is searched.
    """
    shift, spread = -min(least_x, 0.0), float(np.std(x))
    u, scale = (x + shift) / spread, float(np.std(y)) or 1.0
    target = y / scale

    def searched(loss_width: float | None) -> dict[str, float]:
        grid = np.linspace(math.log(LEAST_X0), math.log(MOST_X0), 81)
        for _ in range(4):  # the last step is 1e-5 wide
            slopes, intercepts, losses = lines(1 / (u + np.exp(grid)[:, None]), target, loss_width)
            best = int(np.argmin(losses))
            found, step = (float(grid[best]), float(slopes[best]), float(intercepts[best])), grid[1] - grid[0]
            grid = np.clip(np.linspace(found[0] - step, found[0] + step, 41), math.log(LEAST_X0), math.log(MOST_X0))
        t, slope, intercept = found
        return {"A": slope * scale * spread, "x0": math.exp(t) * spread + shift, "c": intercept * scale}

    fitted = searched(None)
    return lambda: searched(soft_width(y) / scale or 1.0), lambda at: fitted["A"] / (at + fitted["x0"]) + fitted["c"]


def lines(
    x: np.ndarray,
    y: np.ndarray,
    loss_width: float | None = None,
    *,
    given: np.ndarray | float = 1.0,
    times: int = 20,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes, intercepts and losses (n_lines,) of the lines of y, (n,), on each row of x, (n_lines, n): least squares,
    or least soft-L1 of that width by reweighting so many times. `given` are weights of the points, above 0 there.
    """
    weights = np.broadcast_to(np.asarray(given, float), x.shape)
    for _ in range(1 if loss_width is None else times):
        total = weights.sum(1, keepdims=True)
        mean_x, mean_y = (weights * x).sum(1, keepdims=True) / total, (weights * y).sum(1, keepdims=True) / total
        size = (weights * (x - mean_x) ** 2).sum(1, keepdims=True)
        slope = np.divide(
            (weights * (x - mean_x) * (y - mean_y)).sum(1, keepdims=True), size, out=np.zeros_like(size), where=size > 0
        )
        left = y - mean_y - slope * (x - mean_x)
        if loss_width is not None:
            weights = given / np.sqrt(1 + (left / loss_width) ** 2)
    losses = (given * (left**2 if loss_width is None else given / weights - 1)).sum(1)
    return slope[:, 0], (mean_y - slope * mean_x)[:, 0], losses


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of least squares."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred)) if centred.any() else 0.0
    return slope, float(y.mean() - slope * x.mean())


_CURVES = {"constant": _constant, "linear": _linear, "log_log": _log_log, "inverse": _inverse}
