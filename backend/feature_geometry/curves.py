"""Do words whose order is known lie on a circle or a helix, more than any smooth curve would?

`points` (n, d) are the residual streams of n words at one layer, in their order.

1. They are centred and turned into their leading principal components, fitted on these words, as many as asked for.
2. The Fourier fit regresses them on a constant, cos and sin at each period and, for a helix, the number itself
   (Kantamneni & Tegmark 2025); what vanishes at every whole number (sin at period 2) is left out. The polynomial has as
   many regressors: powers up to that number.
3. R² is predictive: each word is left out in turn, and its squared error set against that of the others' mean. The
   interval is a delete-a-group jackknife of that ratio over words (of integers over tens).
4. Any ordered smooth curve looks like a circle or a helix in principal components. So the same fit is made to smooth
   random curves that know of no period and have the singular values of the words exactly: Gaussian processes along the
   order, whose length gives the words' own autocorrelation at lag 1. There are several kinds, because none is known to
   be the one that words would follow: every component by itself, with its own roughness, orthogonal to those before
   it; and the principal components of a whole curve, of three kernels, in as many dimensions as there are components
   and in 256. The one that comes nearest to the words counts. (Against the first kind alone, curves of the others were
   called circles in up to 97 % of draws.)
5. And to the same points in random order. Where words are split into digits and the last one is read, equal digits are
   near each other and any code of ten digits has period 10: there a third null deals the digits anew, the tens among
   the tens and the ones among the ones.

A circle or helix is shown where the Fourier fit predicts better than the polynomial (the interval of the difference is
above 0), and better than all but 5 % of each null. Who looks at many layers adjusts for that.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.feature_geometry.curve_sets import CurveSet
from backend.ids import seed_for
from backend.statistics.jackknife import jackknife

_LENGTHS = 80  # of kernels that are tried, between none and the whole order
_AT_ONCE = 100  # draws that are fitted together
_WIDE = 256  # dimensions of a curve that lies in many


@dataclass(frozen=True)
class Fit:
    """Leave-one-out predictions by least squares on `basis` (n, p), constant included: `hat` (n, n), `left` (n,) its
    diagonal."""

    hat: np.ndarray

    @classmethod
    def on(cls, basis: np.ndarray) -> "Fit":
        q, _ = np.linalg.qr(np.column_stack([np.ones(len(basis)), basis]))
        return cls(q @ q.T)

    def errors(self, points: np.ndarray) -> np.ndarray:
        """Squared error of each point, predicted from the others, (…, n) of (…, n, d)."""
        return (((points - self.hat @ points) / (1 - np.diag(self.hat))[:, None]) ** 2).sum(-1)


def fourier(order: np.ndarray, of: CurveSet) -> tuple[np.ndarray, list[str]]:
    """Regressors (n, p) at the numbers `order`, and what each is: `line`, `cos 10`, `sin 10`, …"""
    waves = {
        f"{name} {period}": wave(2 * np.pi * order / period)
        for period in of.periods
        for name, wave in (("cos", np.cos), ("sin", np.sin))
    }
    columns = ({"line": order.astype(float)} if of.has_line else {}) | waves
    kept = {name: column for name, column in columns.items() if np.abs(column).max() > 1e-9}
    return np.column_stack(list(kept.values())), list(kept)


def polynomial(order: np.ndarray, degree: int) -> np.ndarray:
    """Powers 1 to `degree`, as Legendre polynomials of the order scaled to [−1, 1]: (n, degree)."""
    scaled = 2 * (order - order[0]) / (order[-1] - order[0]) - 1
    return np.polynomial.legendre.legvander(scaled, degree)[:, 1:]


def r2(errors: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Predictive R² of squared errors (…, n) against those of the others' mean."""
    return 1 - errors.sum(-1) / base.sum(-1)


@dataclass(frozen=True)
class Fits:
    """The three fits of one set at its order."""

    order: np.ndarray
    of: CurveSet

    @property
    def names(self) -> list[str]:
        return fourier(self.order, self.of)[1]

    def all(self) -> tuple[Fit, Fit, Fit]:
        """Fourier, polynomial of as many regressors, mean alone."""
        basis, names = fourier(self.order, self.of)
        return Fit.on(basis), Fit.on(polynomial(self.order, len(names))), Fit.on(np.empty((len(self.order), 0)))


def components(points: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    """The scores (n_points, at most n) of the leading principal components, and their share of the variance."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(n, int((s > 1e-9 * s[0]).sum()))
    return u[:, :kept] * s[:kept], float((s[:kept] ** 2).sum() / (s**2).sum())


def autocorrelation(scores: np.ndarray) -> np.ndarray:
    """Of each column (n, k) along the order, at lag 1."""
    return (scores[1:] * scores[:-1]).sum(0) / (scores**2).sum(0)


KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of the distance along the order over a length
    "squared exponential": lambda away: np.exp(-(away**2) / 2),
    "Matérn 3/2": lambda away: (1 + away) * np.exp(-away),
    "exponential": lambda away: np.exp(-away),
}


def smooth(scores: np.ndarray, n_draws: int, seed: int) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Each kind of smooth random curve: what it is, and blocks (draws, n, k) with the singular values of `scores`."""
    own = np.random.default_rng(seed_for("component by component", seed))
    yield "component by component", _one_by_one(scores, n_draws, own)
    n, k = scores.shape
    whole = (scores[1:] * scores[:-1]).sum() / (scores**2).sum()
    for name, kernel in KERNELS.items():
        root = _roots(kernel, n, np.array([whole]))[0]
        for wide in dict.fromkeys((k, _WIDE)):
            rng = np.random.default_rng(seed_for(name, wide, seed))
            yield f"{name}, {wide} dimensions", _as_a_whole(scores, root, wide, n_draws, rng)


def _one_by_one(scores: np.ndarray, n_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Every component a smooth random function of its own roughness, orthogonal to those before it."""
    n, k = scores.shape
    roots = _roots(KERNELS["squared exponential"], n, autocorrelation(scores))
    for size in _blocks(n_draws):
        drawn = np.einsum("kij,bjk->bik", roots, rng.standard_normal((size, n, k)))
        q, _ = np.linalg.qr(drawn - drawn.mean(1, keepdims=True))
        yield q * np.linalg.norm(scores, axis=0)


def _as_a_whole(
    scores: np.ndarray, root: np.ndarray, wide: int, n_draws: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The principal components of a smooth random curve in so many dimensions, all of one roughness."""
    n, k = scores.shape
    for size in _blocks(n_draws):
        drawn = root @ rng.standard_normal((size, n, wide))
        drawn -= drawn.mean(1, keepdims=True)
        _, vectors = np.linalg.eigh(drawn @ drawn.transpose(0, 2, 1))
        yield vectors[:, :, : -k - 1 : -1] * np.linalg.norm(scores, axis=0)


def _blocks(n_draws: int) -> list[int]:
    return [min(_AT_ONCE, n_draws - start) for start in range(0, n_draws, _AT_ONCE)]


def _roots(kernel: Callable[[np.ndarray], np.ndarray], n: int, wanted: np.ndarray) -> np.ndarray:
    """(k, n, n): of each autocorrelation the root of the kernel whose centred draws have it, as nearly as any has."""
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    kernels = [np.eye(n), *(kernel(lags / length) for length in np.geomspace(0.3, 2 * n, _LENGTHS))]
    mean = np.eye(n) - 1 / n
    centred = [mean @ one @ mean for one in kernels]
    given = np.array([np.trace(one, 1) / np.trace(one) for one in centred])
    nearest = np.abs(np.subtract.outer(wanted, given)).argmin(1)
    return np.stack([_root(kernels[place]) for place in nearest])


def _root(kernel: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(kernel)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def permuted(scores: np.ndarray, n_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks of the same points in random order."""
    for _ in range(n_draws):
        yield scores[rng.permutation(len(scores))][None]


def dealt_digits(scores: np.ndarray, order: np.ndarray, n_draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks in which the word of tens t and ones u has the point of σ(t) and τ(u). Every such pair is there."""
    place = {number: at for at, number in enumerate(order.tolist())}
    tens = np.unique(order // 10)
    for _ in range(n_draws):
        other_tens, other_ones = dict(zip(tens, rng.permutation(tens), strict=True)), rng.permutation(10)
        dealt = [10 * other_tens[number // 10] + other_ones[number % 10] for number in order.tolist()]
        yield scores[[place[number] for number in dealt]][None]


def is_digit_grid(order: np.ndarray) -> bool:
    """Whether whole tens, each with all ten ones, are there."""
    return len(order) % 10 == 0 and order[0] % 10 == 0 and bool((np.diff(order) == 1).all()) and order[-1] > 9


def curve(
    points: np.ndarray, order: Sequence[int], of: CurveSet, *, dimensions: int, n_draws: int, seed: int, is_split: bool
) -> dict[str, Any]:
    """The measured columns of a row of `curves`. `is_split`: the last token is not the whole word."""
    order_ = np.asarray(order)
    scores, share = components(points, dimensions)
    by_fourier, by_polynomial, by_mean = Fits(order_, of).all()
    errors = {"fourier": by_fourier.errors(scores), "polynomial": by_polynomial.errors(scores)}
    base = by_mean.errors(scores)
    found: dict[str, Any] = {
        "n": len(order_),
        "n_parameters": len(Fits(order_, of).names),
        "dimensions": scores.shape[1],
        "variance": share,
        "autocorrelation": float((scores[1:] * scores[:-1]).sum() / (scores**2).sum()),
    }
    blocks = order_ // of.block
    for name, own in errors.items():
        found |= _with_interval(name, own, base, blocks)
    found |= _with_interval("difference", errors["fourier"] - errors["polynomial"] + base, base, blocks)
    value = float(found["fourier"])
    found |= _against_smooth(scores, value, by_fourier, by_mean, n_draws, seed)
    drawn = permuted(scores, n_draws, np.random.default_rng(seed_for("permuted", seed)))
    found |= _against("permuted", value, by_fourier, by_mean, drawn)
    if is_split and is_digit_grid(order_):
        drawn = dealt_digits(scores, order_, n_draws, np.random.default_rng(seed_for("digits", seed)))
        found |= _against("digits", value, by_fourier, by_mean, drawn)
    return found


def _with_interval(name: str, errors: np.ndarray, base: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """R² of these errors, and its interval from leaving out one block of words at a time."""
    value = float(r2(errors, base))
    _, number, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    without = np.array([r2(errors[number != block], base[number != block]) for block in range(len(sizes))])
    interval = jackknife(value, without, sizes)
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _against(name: str, value: float, by: Fit, by_mean: Fit, drawn: Iterator[np.ndarray]) -> dict[str, float]:
    """Median and 95th percentile of the fit's R² under a null, and the share of draws that reach `value`."""
    found = np.concatenate([r2(by.errors(points), by_mean.errors(points)) for points in drawn])
    p = (1 + int((found >= value - 1e-12).sum())) / (1 + len(found))
    return {f"{name}_median": float(np.median(found)), f"{name}_high": float(np.quantile(found, 0.95)), f"{name}_p": p}


def _against_smooth(
    scores: np.ndarray, value: float, by: Fit, by_mean: Fit, n_draws: int, seed: int
) -> dict[str, float | str]:
    """Under the kind of smooth curve that comes nearest: the one with the largest p, of equal ones the highest."""
    found: list[dict[str, float | str]] = [
        {"smooth_kind": kind, **_against("smooth", value, by, by_mean, drawn)}
        for kind, drawn in smooth(scores, n_draws, seed)
    ]
    return max(found, key=lambda one: (float(one["smooth_p"]), float(one["smooth_high"])))


def in_plane(points: np.ndarray, order: Sequence[int], of: CurveSet, *, dimensions: int) -> dict[int, np.ndarray]:
    """By period (those with both waves), (n, 2): each word's cos and sin, read off its point by the map that the other
    words fit. On a perfect circle or helix they are its own, on the unit circle.
    """
    order_ = np.asarray(order)
    scores, _ = components(points, dimensions)
    basis, names = fourier(order_, of)
    decoded = np.full(basis.shape, math.nan)
    for left_out in range(len(order_)):
        rest = np.arange(len(order_)) != left_out
        design = np.column_stack([np.ones(rest.sum()), basis[rest]])
        fitted, *_ = np.linalg.lstsq(design, scores[rest], rcond=None)
        decoded[left_out] = (scores[left_out] - fitted[0]) @ np.linalg.pinv(fitted[1:])
    return {
        period: decoded[:, [names.index(f"cos {period}"), names.index(f"sin {period}")]]
        for period in of.periods
        if {f"cos {period}", f"sin {period}"} <= set(names)
    }


@functools.lru_cache(maxsize=32)  # the same for every model
def power(of: CurveSet, n: int, *, share: float, n_planted: int, n_draws: int, seed: int) -> float:
    """The share of planted circles that the smooth null finds at p ≤ 0.05: `share` of the variance lies in the circles
    (and line) of the set, the rest in as many components of white noise, n words.
    """
    rng = np.random.default_rng(seed_for("planted curve", of.label, share, seed))
    order = np.arange(n)
    basis, _ = fourier(order, of)
    by_fourier, _, by_mean = Fits(order, of).all()
    planted = basis - basis.mean(0)
    planted = planted / np.linalg.norm(planted, axis=0) * math.sqrt(share / planted.shape[1])
    found = 0
    for number in range(n_planted):
        noise = rng.standard_normal((n, n))
        noise = (noise - noise.mean(0)) * math.sqrt((1 - share) / (n * (n - 1)))
        scores, _ = components(np.column_stack([planted, noise]), min(n - 1, 20))
        value = float(r2(by_fourier.errors(scores), by_mean.errors(scores)))
        against = _against_smooth(scores, value, by_fourier, by_mean, n_draws, seed_for("power", number, seed))
        found += float(against["smooth_p"]) <= 0.05
    return found / n_planted
