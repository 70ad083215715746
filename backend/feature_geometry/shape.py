"""The shape of a cloud of activations as a whole: in how many directions it extends, and whether it points one way.

Of n activations in d dimensions, with the eigenvalues λ of their covariance and the singular values σ ∝ √λ of the
centred matrix:

1. Effective rank: exp of the entropy of σ / Σσ (Roy & Vetterli 2007, who take singular values, not eigenvalues).
2. Participation ratio: (Σλ)² / Σλ². Both are at most min(n − 1, d), and a sample's are below the cloud's.
3. The participation ratio corrected for that: Σλ² by the unbiased estimator of ‖covariance‖² (the U-statistic of Song
   et al. 2012 with linear kernels), so that n isotropic points in d dimensions have about d whatever n is.
4. TwoNN (Facco et al. 2017): with μ the ratio of the distances to the second and to the first neighbour, the slope
   through the origin of −log(1 − F(μ)) on log μ, the largest tenth of μ left out. Activations that are the same up to
   rounding count as one point, and a cloud with equal distances is refused: their ratio says nothing of dimensions.
5. Anisotropy: mean cosine of two different activations (Ethayarajh 2019), here of different problems, exactly, over
   all such pairs: for isotropic directions it is 0.

Intervals leave out one problem at a time (`backend.statistics.jackknife`), of all but anisotropy on a logarithmic
scale. What chance gives at the same n and d:
`isotropic`, standard normal points, and `matched`, normal points with the cloud's own mean and covariance. By
construction the spectrum of the second differs from the cloud's by the sampling of n points alone, so that its fall
below the cloud's is as large as the cloud's own bias; its TwoNN shows what clusters and bends change. Of one category's
chunks a third: as many chunks of `any` category.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backend.geometry.neighbourhoods import distinct
from backend.ids import seed_for
from backend.statistics.jackknife import jackknife

MIN_POINTS, MIN_PROBLEMS = 20, 5  # fewer have no shape to speak of
DISCARDED = 0.1  # of the ratios of TwoNN, the largest
ALL = "all"  # chunks of every category


class EqualDistances(ValueError):
    """Points that coincide, or with two neighbours at the same distance."""


@dataclass(frozen=True)
class Cloud:
    """`points` (n, d) float64; `problems` (n,) numbers, equal for points of one problem; `places` (n,) likewise of
    those that are the same up to rounding.
    """

    points: np.ndarray
    problems: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, problems: np.ndarray) -> "Cloud":
        points = np.asarray(points, np.float64)
        return cls(points, problems, distinct(points)[1])

    @cached_property
    def centred(self) -> np.ndarray:
        return self.points - self.points.mean(0)

    @cached_property
    def gram(self) -> np.ndarray:
        """(n, n): inner products of the centred points."""
        return self.centred @ self.centred.T

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Of the covariance, rising; as many as the smaller of n and d."""
        n, d = self.points.shape
        return np.maximum(np.linalg.eigvalsh(self.gram if n < d else self.centred.T @ self.centred), 0) / (n - 1)

    def only(self, chosen: np.ndarray) -> "Cloud":
        return Cloud(self.points[chosen], self.problems[chosen], self.places[chosen])

    def like(self, points: np.ndarray) -> "Cloud":
        """Other points, all different, of the same problems."""
        return Cloud(points, self.problems, np.arange(len(points)))


def effective_rank(cloud: Cloud) -> float:
    singular = np.sqrt(cloud.eigenvalues)
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else math.nan


def participation_ratio(cloud: Cloud) -> float:
    squares = (cloud.eigenvalues**2).sum()
    return float(cloud.eigenvalues.sum() ** 2 / squares) if squares else math.nan


def corrected_participation_ratio(cloud: Cloud) -> float:
    """NaN where the estimate of Σλ² is not above 0, as in few points of many dimensions."""
    n = len(cloud.points)
    gram = cloud.gram - np.diag(np.diag(cloud.gram))
    rows = gram.sum(1)
    squares = (gram**2).sum() + rows.sum() ** 2 / ((n - 1) * (n - 2)) - 2 * (rows @ rows) / (n - 2)
    return float(cloud.eigenvalues.sum() ** 2 * n * (n - 3) / squares) if squares > 0 else math.nan


def two_nearest(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of each point to its nearest and its second nearest other one, from their Gram matrix (n, n)."""
    squares = np.diag(gram)[:, None] + np.diag(gram) - 2 * gram
    np.fill_diagonal(squares, np.inf)
    first, second = np.sqrt(np.maximum(np.partition(squares, 1, axis=1)[:, :2], 0)).T
    return first, second


def twonn(first: np.ndarray, second: np.ndarray) -> float:
    """Intrinsic dimension from the distances to the two nearest neighbours, both (n,). Raises EqualDistances."""
    if not (first > 0).all():
        raise EqualDistances("two points coincide; TwoNN needs different ones")
    if not (second > first).all():
        raise EqualDistances("a point has two nearest neighbours at the same distance; TwoNN needs their ratio")
    n = len(first)
    log_ratio = np.sort(np.log(second / first))[: int(n * (1 - DISCARDED))]
    rarity = -np.log1p(-np.arange(1, len(log_ratio) + 1) / n)
    return float(log_ratio @ rarity / (log_ratio @ log_ratio))


def intrinsic_dimension(cloud: Cloud) -> float:
    """TwoNN of the different points; NaN where distances are equal."""
    _, first = np.unique(cloud.places, return_index=True)
    if len(first) < MIN_POINTS:
        return math.nan
    try:
        return twonn(*two_nearest(cloud.gram[np.ix_(first, first)]))
    except EqualDistances:
        return math.nan


def anisotropy(cloud: Cloud) -> float:
    norms = np.linalg.norm(cloud.points, axis=1)
    if not (norms > 0).all():
        return math.nan
    units = cloud.points / norms[:, None]
    total = units.sum(0)
    _, number, sizes = np.unique(cloud.problems, return_inverse=True, return_counts=True)
    own = np.zeros((len(sizes), units.shape[1]))
    np.add.at(own, number, units)
    n_pairs = len(units) ** 2 - (sizes**2).sum()
    return float((total @ total - (own**2).sum()) / n_pairs) if n_pairs else math.nan


@dataclass(frozen=True)
class Measure:
    label: str
    unit: str  # as on an axis
    of: Callable[[Cloud], float]
    literature: str  # what a document reports of it, in a sentence
    is_positive: bool = True  # its interval is taken of its logarithm


MEASURES = {
    "effective_rank": Measure(
        "Effective rank",
        "directions",
        effective_rank,
        "Roy and Vetterli (2007) define it as a rank that noise does not fill up; published values of language models"
        " are of samples of different sizes, which alone changes them.",
    ),
    "participation_ratio": Measure(
        "Participation ratio",
        "directions",
        participation_ratio,
        "Participation ratios of hidden states are reported to be far below the width of the model; a sample's is low"
        " by itself where n is not much larger than d.",
    ),
    "corrected_participation_ratio": Measure(
        "Participation ratio, corrected for n",
        "directions",
        corrected_participation_ratio,
        "Published participation ratios are seldom corrected for the number of points.",
    ),
    "twonn": Measure(
        "Intrinsic dimension (TwoNN)",
        "dimensions",
        intrinsic_dimension,
        "Valeriani et al. (2023) report by such estimators that the dimension of token representations rises in early"
        " layers, to a peak, and falls after it.",
    ),
    "anisotropy": Measure(
        "Anisotropy",
        "mean cosine",
        anisotropy,
        "Ethayarajh (2019) reports that in every layer of BERT, ELMo and GPT-2 but the input two random words have a"
        " mean cosine above 0, in the last layer of GPT-2 of nearly 1.",
        is_positive=False,
    ),
}


def shape(cloud: Cloud, *, n_draws: int, seed: int, whole: Cloud | None = None) -> list[dict[str, Any]]:
    """One row a measure: its value and interval, and mean and standard deviation under each null.

    `whole` is the cloud of all categories, of which this one is a part; without it there is no null `any`. Unknown is
    NaN, and so is everything of a cloud of fewer than MIN_POINTS points or MIN_PROBLEMS problems.
    """
    _, number, sizes = np.unique(cloud.problems, return_inverse=True, return_counts=True)
    about = {"n": len(cloud.points), "n_problems": len(sizes)}
    if len(cloud.points) < MIN_POINTS or len(sizes) < MIN_PROBLEMS:
        return [{"measure": name, **about} for name in MEASURES]
    nulls = {
        "isotropic": list(_isotropic(*cloud.points.shape, tuple(number.tolist()), n_draws)),
        "matched": [_measured(drawn) for drawn in _matched(cloud, n_draws, seed)],
        "any_category": [] if whole is None else [_measured(drawn) for drawn in _of_any(cloud, whole, n_draws, seed)],
    }
    without = [_measured(cloud.only(number != left_out)) for left_out in range(len(sizes))]
    found = _measured(cloud)
    return [
        {
            "measure": name,
            **about,
            "value": found[name],
            **_interval(measure, found[name], _column(without, name), sizes),
            **{key: value for null, drawn in nulls.items() for key, value in _moments(null, _column(drawn, name))},
        }
        for name, measure in MEASURES.items()
    ]


def _interval(measure: Measure, value: float, without: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    if not measure.is_positive:
        return dict(zip(("low", "high"), jackknife(value, without, sizes), strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = jackknife(float(np.log(value)), np.log(without), sizes)
    return {"low": float(np.exp(ends.low)), "high": float(np.exp(ends.high))}


def _measured(cloud: Cloud) -> dict[str, float]:
    return {name: measure.of(cloud) for name, measure in MEASURES.items()}


def _column(rows: list[dict[str, float]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def _moments(null: str, drawn: np.ndarray) -> Iterator[tuple[str, float]]:
    known = drawn[np.isfinite(drawn)]
    yield null, float(known.mean()) if len(known) else math.nan
    yield f"{null}_sd", float(known.std(ddof=1)) if len(known) > 1 else math.nan


@functools.lru_cache(maxsize=64)  # of one study's layers all are alike
def _isotropic(n: int, d: int, problems: tuple[int, ...], n_draws: int) -> tuple[dict[str, float], ...]:
    rng = np.random.default_rng(seed_for("isotropic cloud", n, d))
    clouds = (Cloud(rng.standard_normal((n, d)), np.array(problems), np.arange(n)) for _ in range(n_draws))
    return tuple(map(_measured, clouds))


def _matched(cloud: Cloud, n_draws: int, seed: int) -> Iterator[Cloud]:
    """Normal points of the cloud's mean and covariance: sums of its own deviations with normal weights."""
    n, mean = len(cloud.points), cloud.points.mean(0)
    rng = np.random.default_rng(seed_for("matched cloud", n, seed))
    for _ in range(n_draws):
        yield cloud.like(mean + rng.standard_normal((n, n)) @ cloud.centred / math.sqrt(n - 1))


def _of_any(cloud: Cloud, whole: Cloud, n_draws: int, seed: int) -> Iterator[Cloud]:
    n = len(cloud.points)
    rng = np.random.default_rng(seed_for("any cloud", n, seed))
    for _ in range(n_draws):
        yield whole.only(np.sort(rng.choice(len(whole.points), n, replace=False)))
