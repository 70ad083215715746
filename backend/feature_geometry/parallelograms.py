"""Whether word pairs of a class make parallelograms: b − a against d − c.

1. The loss of two pairs (a, b) and (c, d) is ‖(b − a) − (d − c)‖ / √(‖a‖² + ‖b‖² + ‖c‖² + ‖d‖²): 0 of a parallelogram,
   at most 2. Of four independent isotropic Gaussian words in R^d, loss² / 4 is Beta(d/2, 3d/2), so the loss is near 1
   (`random_loss`). Source: Baek & Tegmark (2025), arXiv:2503.03730, section 6.
2. Every two pairs of a class that share no word make one quadruple.
3. The null deals the outputs anew among the inputs of the class. Each side keeps its words, so that whatever makes the
   inputs one cloud and the outputs another (capitals beside countries) stays: the ratio of the loss to its null says
   what of it is due to *which* output belongs to which input.
4. Quadruples share pairs. So what varies are pairs: standard errors are those of a mean over two of n pairs (Hoeffding
   1948), by the first-order influence of each pair; pairs that share a word are moved together.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, Interval

QUANTILES = tuple(step / 20 for step in range(21))  # at which a cumulative curve is kept
_CURVE_SHUFFLES = 20  # whose losses make the null's curve
_CELLS = 50_000  # losses at a time: few enough for a core's own memory


@dataclass(frozen=True, eq=False)
class Pairs:
    """Vectors of the pairs of one class; `parts` are groups that quadruples do not cross."""

    inputs: np.ndarray  # (n, d) float64
    outputs: np.ndarray
    input_ids: np.ndarray  # (n,): which word, so that a word is known where it stands twice
    output_ids: np.ndarray
    part: np.ndarray  # (n,) from 0

    @property
    def n(self) -> int:
        return len(self.inputs)

    def of_part(self, part: int) -> np.ndarray:
        return np.flatnonzero(self.part == part)

    @property
    def n_parts(self) -> int:
        return int(self.part.max(initial=-1)) + 1


@dataclass(frozen=True, eq=False)
class Measured:
    """The losses of one class, and what shuffled pairs give. Unknown is NaN."""

    losses: np.ndarray  # (n, n) symmetric; NaN where two pairs make no quadruple
    null_means: np.ndarray  # (n_shuffles,)
    null_by_input: np.ndarray  # (n,): mean loss of the shuffled quadruples that the pair's input takes part in
    null_by_output: np.ndarray
    null_curve: np.ndarray  # (len(QUANTILES),)
    clusters: np.ndarray  # (n,) from 0: pairs that share words, directly or by others

    @property
    def upper(self) -> np.ndarray:
        """Each quadruple's loss once."""
        values = self.losses[np.triu_indices(len(self.losses), 1)]
        return values[~np.isnan(values)]

    @property
    def mean(self) -> float:
        return float(self.upper.mean()) if self.upper.size else math.nan

    @property
    def null(self) -> float:
        return float(self.null_means.mean()) if self.null_means.size else math.nan

    @property
    def ratio(self) -> float:
        return self.mean / self.null if self.null > 0 else math.nan

    @property
    def p(self) -> float:
        """One-sided: how often shuffled pairs have as low a mean loss, as (k + 1) / (N + 1)."""
        if not self.null_means.size or math.isnan(self.mean):
            return math.nan
        return float(((self.null_means <= self.mean + 1e-12).sum() + 1) / (len(self.null_means) + 1))

    @property
    def curve(self) -> np.ndarray:
        return curve(self.upper)

    @property
    def influence(self) -> np.ndarray:
        """(n,): of each pair on the mean loss, times n."""
        return _centred(2 * _row_means(self.losses))

    @property
    def log_ratio_influence(self) -> np.ndarray:
        """(n,): of each pair on the logarithm of the ratio, times n; the null moves with the pair's two words."""
        null = _centred(2 * self.null_by_input + 2 * self.null_by_output)
        return self.influence / self.mean - null / self.null

    @property
    def ratio_interval(self) -> Interval:
        """95 % interval over pairs."""
        if not self.ratio > 0:
            return UNKNOWN
        around = t_interval(math.log(self.ratio), self.log_ratio_influence, self.clusters)
        return Interval(math.exp(around.low), math.exp(around.high))


@dataclass(frozen=True)
class Compared:
    """One model's value less another's, on the same pairs. Unknown is NaN."""

    difference: float
    low: float  # 95 % interval over pairs
    high: float
    p: float  # two-sided, Student's t on the pairs' influences


def measure(pairs: Pairs, *, shuffles: int, seed: int) -> Measured:
    """Losses of a class and of `shuffles` random dealings of its outputs; the same ones for every model and space of
    the same pairs.
    """
    n = pairs.n
    losses, means = np.full((n, n), math.nan), np.zeros((shuffles, 2))
    by_input, by_output = np.zeros((n, 2)), np.zeros((n, 2))  # sums and counts
    sample: list[np.ndarray] = []
    for part in range(pairs.n_parts):
        own = pairs.of_part(part)
        gram = _Gram.of(pairs, own)
        losses[np.ix_(own, own)] = gram.square(gram.losses(np.arange(len(own))[None])[0])
        rng = np.random.default_rng(seed_for("shuffled pairs", seed, n, part))
        orders = rng.permuted(np.tile(np.arange(len(own)), (shuffles, 1)), axis=1)
        for start in range(0, shuffles, step := max(1, _CELLS // max(1, len(gram.first)))):
            some = orders[start : start + step]
            found = gram.losses(some)
            known = ~np.isnan(found)
            sums = gram.by_pair(np.where(known, found, 0.0))
            counts = np.full(sums.shape, len(own) - 1.0) if known.all() else gram.by_pair(known.astype(np.float64))
            means[start : start + step] += np.stack([sums.sum(1), counts.sum(1)], 1)
            by_input[own] += np.stack([sums.sum(0), counts.sum(0)], 1)
            np.add.at(by_output, own[some.ravel()], np.stack([sums.ravel(), counts.ravel()], 1))
            if start < _CURVE_SHUFFLES:
                sample.append(found[: _CURVE_SHUFFLES - start][known[: _CURVE_SHUFFLES - start]])
    return Measured(
        losses,
        _divided(means),
        _divided(by_input),
        _divided(by_output),
        curve(np.concatenate(sample) if sample else np.empty(0)),
        clusters(pairs.input_ids, pairs.output_ids),
    )


def loss(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Of vectors (…, d), as the formula has it; NaN where all four are zero."""
    of_sides = np.linalg.norm((b - a) - (d - c), axis=-1)
    norms = np.sqrt(sum((one * one).sum(-1) for one in (a, b, c, d)))
    return np.divide(of_sides, norms, out=np.full(np.shape(of_sides), math.nan), where=norms > 0)


def random_loss(d: int) -> "stats.rv_frozen":
    """The law of loss² / 4 of four independent isotropic Gaussian words in R^d."""
    return stats.beta(d / 2, 3 * d / 2)


def compare(one: Measured, other: Measured) -> Compared:
    """The mean loss of `other` less that of `one`, which has the same pairs."""
    return _compared(other.mean - one.mean, other.influence - one.influence, one.clusters)


def compare_ratios(one: Measured, other: Measured) -> Compared:
    """The logarithm of the ratio of `other` less that of `one`."""
    if not (one.ratio > 0 and other.ratio > 0):
        return Compared(math.nan, *UNKNOWN, math.nan)
    difference = math.log(other.ratio) - math.log(one.ratio)
    return _compared(difference, other.log_ratio_influence - one.log_ratio_influence, one.clusters)


def t_interval(value: float, influence: np.ndarray, clusters: np.ndarray) -> Interval:
    """95 % interval of a value whose pairs have this influence, pairs of a cluster together."""
    error, degrees = _standard_error(influence, clusters)
    if not degrees:
        return UNKNOWN
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Interval(value - half, value + half)


def clusters(input_ids: np.ndarray, output_ids: np.ndarray) -> np.ndarray:
    """(n,) from 0: pairs that share a word are of one cluster, and so are those that others join."""
    words = np.unique(np.concatenate([input_ids, output_ids]))
    of_word = {word: number for number, word in enumerate(words.tolist())}
    root = list(range(len(words)))

    def find(word: int) -> int:
        while root[word] != word:
            word = root[word] = root[root[word]]
        return word

    for a, b in zip(input_ids.tolist(), output_ids.tolist(), strict=True):
        root[find(of_word[a])] = find(of_word[b])
    return np.unique([find(of_word[a]) for a in input_ids.tolist()], return_inverse=True)[1]


def extremes(losses: np.ndarray, n: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The `n` quadruples of the least loss, least first, and the `n` of the largest, largest first, as two pairs."""
    rows, columns = np.triu_indices(len(losses), 1)
    values = losses[rows, columns]
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    places = [(int(rows[k]), int(columns[k])) for k in order]
    n = min(n, len(places) // 2)
    return places[:n], places[::-1][:n]


def curve(values: np.ndarray) -> np.ndarray:
    """(len(QUANTILES),): the loss that each share of the quadruples is below; NaN where there are none."""
    return np.quantile(values, QUANTILES) if values.size else np.full(len(QUANTILES), math.nan)


@dataclass(frozen=True, eq=False)
class _Gram:
    """Products of the words of some pairs: all that losses of any dealing need. Quadruples are pairs i < j."""

    inputs: np.ndarray  # (n, n)
    outputs: np.ndarray
    across: np.ndarray  # inputs by outputs
    same_input: np.ndarray  # (n, n) bool: one word
    same_output: np.ndarray
    same_across: np.ndarray
    first: np.ndarray  # (m,): i of each quadruple
    second: np.ndarray  # (m,): j

    @classmethod
    def of(cls, pairs: Pairs, own: np.ndarray) -> "_Gram":
        a, b = pairs.inputs[own], pairs.outputs[own]
        of_a, of_b = pairs.input_ids[own], pairs.output_ids[own]
        same = (of_a[:, None] == of_a, of_b[:, None] == of_b, of_a[:, None] == of_b)
        return cls(a @ a.T, b @ b.T, a @ b.T, *same, *np.triu_indices(len(own), 1))

    def losses(self, orders: np.ndarray) -> np.ndarray:
        """(n_orders, m): of the pairs (a_i, b_order[i]) and (a_j, b_order[j]); NaN where a word stands twice."""
        i, j, n = self.first, self.second, orders.shape[1]
        of_i, of_j = orders[:, i], orders[:, j]
        at = np.arange(n)
        outputs, across = self.outputs.ravel(), self.across.ravel()  # one index finds faster than two
        norms = np.diagonal(self.inputs) + np.diagonal(self.outputs)[orders]  # ‖a‖² + ‖b‖²
        sides = norms - 2 * self.across[at, orders]  # ‖b − a‖²
        size = norms[:, i] + norms[:, j]
        dot = self.inputs[i, j] + outputs.take(of_i * n + of_j)
        dot -= across.take(i * n + of_j) + across.take(j * n + of_i)
        squares = sides[:, i] + sides[:, j] - 2 * dot
        found = np.sqrt(np.divide(np.maximum(squares, 0), size, out=np.full(size.shape, math.nan), where=size > 0))
        found[:, self.same_input[i, j]] = math.nan
        if np.triu(self.same_output, 1).any():
            found[self.same_output[of_i, of_j]] = math.nan
        if self.same_across.any():
            itself = self.same_across[at, orders]
            shared = self.same_across[i, of_j] | self.same_across[j, of_i] | itself[:, i] | itself[:, j]
            found[shared] = math.nan
        return found

    def by_pair(self, values: np.ndarray) -> np.ndarray:
        """(n_orders, n): sums of values (n_orders, m) over the quadruples that each input takes part in."""
        return values @ self._incidence

    @cached_property
    def _incidence(self) -> np.ndarray:
        """(m, n): 1 where the pair takes part."""
        found, at = np.zeros((len(self.first), len(self.inputs))), np.arange(len(self.first))
        found[at, self.first] = found[at, self.second] = 1.0
        return found

    def square(self, values: np.ndarray) -> np.ndarray:
        """(n, n) symmetric of values (m,); NaN on the diagonal."""
        found = np.full(self.inputs.shape, math.nan)
        found[self.first, self.second] = found[self.second, self.first] = values
        return found


def _compared(difference: float, influence: np.ndarray, clusters: np.ndarray) -> Compared:
    error, degrees = _standard_error(influence, clusters)
    if not degrees or math.isnan(difference):
        return Compared(difference, *UNKNOWN, math.nan)
    p = float(2 * stats.t.sf(abs(difference) / error, degrees)) if error > 0 else float(difference == 0)
    return Compared(difference, *t_interval(difference, influence, clusters), p)


def _standard_error(influence: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Of a mean over n pairs with these influences, and its degrees of freedom; a pair without quadruples has none."""
    known = ~np.isnan(influence)
    sums = np.bincount(clusters[known], weights=influence[known])
    sums = sums[np.bincount(clusters[known]) > 0]
    n, k = int(known.sum()), len(sums)
    if k < 2:
        return math.nan, 0
    return math.sqrt(float((sums**2).sum()) * k / (k - 1)) / n, k - 1


def _row_means(losses: np.ndarray) -> np.ndarray:
    known = ~np.isnan(losses)
    return _divided(np.stack([np.where(known, losses, 0.0).sum(1), known.sum(1)], 1))


def _centred(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return values - (values[known].mean() if known.any() else math.nan)


def _divided(sums_and_counts: np.ndarray) -> np.ndarray:
    """(n,) of (n, 2); NaN for a count of 0."""
    sums, counts = sums_and_counts.T
    return np.divide(sums, counts, out=np.full(len(sums), math.nan), where=counts > 0)
