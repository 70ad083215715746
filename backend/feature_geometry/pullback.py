"""What directions do to the output together: the exact metric averaged over chunks, and the pull-back cosine.

1. Ḡ is the mean, over chunks, of the exact metric G of each (backend/geometry/fisher.py): ½·β²·vᵀḠv is what a small
   step β·v costs, nats of KL, on average over those chunks.
2. A step along u and v together costs ½β²(u + v)ᵀḠ(u + v): beyond what each costs alone stands **β²·uᵀḠv**, their
   interference, nats. Its size without the costs' own is the **pull-back cosine** uᵀḠv / √(uᵀḠu · vᵀḠv), the cosine of
   what the two do to the output.
3. Ḡ has few large eigenvalues, so that even random directions have large pull-back cosines: what is large is said by
   draws of as many rows, isotropic ones and ones of the rows' own covariance, through the same Ḡ.
4. Two features **interfere in hiding** where they look orthogonal (|cosine| at most the isotropic median) and their
   pull-back cosine is beyond the 99.9 % of isotropic pairs. The reverse: rows whose cosine is beyond the 99.9 % of
   isotropic pairs, and whose pull-back cosine is at most the median of isotropic pairs.
5. Chunks are halved by problem, and each half has its own Ḡ: what differs between the halves is the error of Ḡ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.errors import AnchorscopeError
from backend.feature_geometry.exact_law import threshold
from backend.ids import seed_for
from backend.statistics.intervals import wilson

EDGES = np.round(np.linspace(-1, 1, 41), 4)  # of cosines in the figure
LARGE, MEDIAN = 1e-3, 0.5  # shares of isotropic pairs beyond what counts as large, and as small
_BLOCK = 1024  # rows whose cosines with all others are held at once
_DRAWN = 2048  # isotropic rows that say what is large
GROUPS = 20  # of rows, left out in turn for the intervals
_ALIKE = 0.9  # cosine from which two rows are duplicates of each other


class PullbackError(AnchorscopeError):
    """A metric and rows that do not fit each other."""


@dataclass(frozen=True)
class Lines:
    """From where cosines are small, and large."""

    cosine_small: float
    cosine_large: float
    pullback_small: float
    pullback_large: float


@dataclass(frozen=True, eq=False)
class Counted:
    """Pairs of rows."""

    n_pairs: int
    n_duplicates: int  # pairs with a cosine above 0.9, which are in no count
    bins: np.ndarray = field(repr=False)  # (40, 40) by cosine and pull-back cosine
    orthogonal: np.ndarray = field(
        repr=False
    )  # (GROUPS,) pairs that look orthogonal, of rows of each group with others
    hidden: np.ndarray = field(repr=False)  # (GROUPS,) of them, those that interfere
    alike: np.ndarray = field(repr=False)  # (GROUPS,) pairs with a large cosine
    apart: np.ndarray = field(repr=False)  # (GROUPS,) of them, those whose pull-back cosine is small


@dataclass(frozen=True)
class Pair:
    """Two rows, with what is between them."""

    first: int
    second: int
    cosine: float
    pullback: float
    nats: float  # uᵀḠv of the unit rows


def unit_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those with a length, as unit rows in float64, and their numbers."""
    length = np.linalg.norm(rows.astype(np.float64), axis=1)
    kept = np.flatnonzero(length > 1e-6 * (np.median(length) if len(length) else 0))
    return rows[kept].astype(np.float64) / length[kept, None], kept


def images(rows: np.ndarray, metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) what pull-back cosines are the plain products of, and (n,) √(vᵀḠv) of each row. Raises PullbackError for
    a metric of another width.
    """
    if metric.shape != (rows.shape[1],) * 2:
        raise PullbackError(f"Rows have {rows.shape[1]} values, and the metric has shape {metric.shape}.")
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    moved = rows @ (vectors * np.sqrt(np.clip(values, 0, None)))
    cost = np.linalg.norm(moved, axis=1)
    return moved / np.where(cost > 0, cost, 1)[:, None], cost


def lines_of(metric: np.ndarray, *, seed: int) -> Lines:
    """What is small and large among isotropic pairs: exactly of cosines, of pull-back cosines by a draw."""
    d = len(metric)
    moved, _ = images(isotropic(_DRAWN, d, seed=seed), metric)
    sizes = np.abs((moved @ moved.T)[np.triu_indices(_DRAWN, 1)])
    small, large = np.quantile(sizes, [1 - MEDIAN, 1 - LARGE])
    return Lines(threshold(MEDIAN, d), threshold(LARGE, d), float(small), float(large))


def isotropic(n: int, d: int, *, seed: int) -> np.ndarray:
    """(n, d) unit rows."""
    return unit_rows(np.random.default_rng(seed_for("isotropic rows", seed)).standard_normal((n, d)))[0]


def alike_in_covariance(rows: np.ndarray, *, seed: int) -> np.ndarray:
    """(n, d) unit rows drawn with the mean and covariance of these."""
    rng = np.random.default_rng(seed_for("rows of one covariance", seed))
    centred = rows - rows.mean(0)
    mix = rng.standard_normal((len(rows), len(rows))) / np.sqrt(len(rows))
    return unit_rows(rows.mean(0) + mix @ centred)[0]


def counted(rows: np.ndarray, metric: np.ndarray, lines: Lines) -> Counted:
    """All pairs of unit rows, once each."""
    moved, _ = images(rows, metric)
    bins, sums = np.zeros((len(EDGES) - 1,) * 2, dtype=np.int64), np.zeros((4, GROUPS), dtype=np.int64)
    group, n_pairs, n_duplicates = np.arange(len(rows)) % GROUPS, 0, 0
    for first, second, cosine, pullback in _pairs(rows, moved):
        n_pairs, fresh = n_pairs + len(cosine), cosine <= _ALIKE
        n_duplicates += int((~fresh).sum())
        first, second, cosine, pullback = (one[fresh] for one in (first, second, cosine, pullback))
        bins += np.histogram2d(cosine, pullback, bins=(EDGES, EDGES))[0].astype(np.int64)
        small, large = np.abs(cosine) <= lines.cosine_small, np.abs(cosine) > lines.cosine_large
        acts, idles = np.abs(pullback) > lines.pullback_large, np.abs(pullback) <= lines.pullback_small
        for number, chosen in enumerate((small, small & acts, large, large & idles)):
            for one in (first, second):
                sums[number] += np.bincount(group[one[chosen]], minlength=GROUPS)
    return Counted(n_pairs, n_duplicates, bins, *sums)


def share_of(part: np.ndarray, whole: np.ndarray) -> tuple[float, float, float]:
    """Share of pairs and its 95 % interval: jackknife over groups of rows, each left out with all its pairs; NaN where
    there are no pairs. Of none or all of the pairs, Wilson's, as if pairs were independent. Counts of a group are of
    its rows' pairs, those within it twice.
    """
    if not whole.sum():
        return (float("nan"),) * 3
    if part.sum() in (0, whole.sum()):
        return (float(part.sum() > 0), *wilson(int(part.sum()) // 2, int(whole.sum()) // 2))
    share = part.sum() / whole.sum()
    left_out = np.array(
        [
            (part.sum() - 2 * part[k]) / rest if (rest := whole.sum() - 2 * whole[k]) > 0 else np.nan
            for k in range(len(part))
        ]
    )
    known = left_out[np.isfinite(left_out)]
    error = np.sqrt((len(known) - 1) / len(known) * ((known - known.mean()) ** 2).sum()) if len(known) > 1 else np.nan
    return float(share), float(max(0.0, share - 1.96 * error)), float(min(1.0, share + 1.96 * error))


def strongest(rows: np.ndarray, metric: np.ndarray, lines: Lines, n: int) -> tuple[list[Pair], list[Pair]]:
    """The `n` pairs that interfere most while they look orthogonal, by nats; and the `n` most alike ones that do not
    interfere, by cosine.
    """
    moved, cost = images(rows, metric)
    hidden: list[Pair] = []
    apart: list[Pair] = []
    for first, second, cosine, pullback in _pairs(rows, moved):
        nats = pullback * cost[first] * cost[second]
        acts = (np.abs(cosine) <= lines.cosine_small) & (np.abs(pullback) > lines.pullback_large)
        idles = (np.abs(cosine) > lines.cosine_large) & (np.abs(pullback) <= lines.pullback_small) & (cosine <= _ALIKE)
        for found, chosen, size in ((hidden, acts, np.abs(nats)), (apart, idles, np.abs(cosine))):
            best = np.flatnonzero(chosen)
            best = best[np.argsort(-size[best], kind="stable")[:n]]
            found += [
                Pair(int(first[k]), int(second[k]), float(cosine[k]), float(pullback[k]), float(nats[k])) for k in best
            ]
    hidden.sort(key=lambda pair: -abs(pair.nats))
    apart.sort(key=lambda pair: -abs(pair.cosine))
    return hidden[:n], apart[:n]


def between_halves(
    rows: np.ndarray, halves: Sequence[np.ndarray], *, seed: int, n: int = 20_000
) -> tuple[float, float]:
    """Of the pull-back cosines of `n` drawn pairs under the one half's metric and the other's: their correlation, and
    the root mean square of the difference.
    """
    rng = np.random.default_rng(seed_for("pairs of rows", seed))
    first, step = rng.integers(len(rows), size=n), rng.integers(1, len(rows), size=n)
    second = (first + step) % len(rows)
    one, other = ((moved[first] * moved[second]).sum(1) for moved, _ in (images(rows, half) for half in halves))
    return float(np.corrcoef(one, other)[0, 1]), float(np.sqrt(np.mean((one - other) ** 2)))


def _pairs(rows: np.ndarray, moved: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Numbers, cosines and pull-back cosines of all pairs, a block at a time."""
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(rows)))
        for other in range(start, len(rows), _BLOCK):
            right = slice(other, min(other + _BLOCK, len(rows)))
            shape = (block.stop - block.start, right.stop - right.start)
            at = np.triu_indices(shape[0], 1, shape[1]) if other == start else np.indices(shape).reshape(2, -1)
            yield (
                at[0] + start,
                at[1] + other,
                (rows[block] @ rows[right].T)[at[0], at[1]],
                np.clip((moved[block] @ moved[right].T)[at[0], at[1]], -1, 1),
            )
