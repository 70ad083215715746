"""How much a chunk matters for the final answer, from rollouts (Thought Anchors, arXiv:2506.19143, section 3).

The method in steps, for chunk i of a CoT:

1. A rollout at i continues from before chunk i; its first chunk S' replaces S_i. It is *dissimilar* when the cosine of
   their sentence embeddings is below 0.8, *similar* at or above. The rollouts at i+1 are those that keep S_i.
2. Two groups of rollouts are compared, p with q. Which, in which direction, and by which outcomes, is the convention's:
   `conventions` has one entry for each. The `_kl` metrics are KL(p || q) in nats; the `_accuracy` metrics are
   accuracy(p) − accuracy(q).
3. The smoothing of a KL adds the convention's alpha to the count of every outcome of a set fixed beforehand: the union
   of the answers in p and q, or {correct, wrong}, seen or not.
4. Intervals: each group is resampled within itself, at its own size, and the 2.5th and 97.5th percentiles are taken.
   Sampling noise alone makes a KL positive, so the interval of a KL that is truly 0 may lie above 0.

Unknown takes no part and is never 0. A rollout without an answer has no outcome: it counts neither as an answer of its
own nor as wrong (the published code of Thought Anchors drops it too). A rollout without a similarity is neither similar
nor dissimilar. The last chunk has no i+1, and a group may be empty: then the row is there and its value is NULL. `n`
and `n_comparator` are the rollouts of p and q that took part. `different_trajectories_fraction` and
`overdeterminedness` need no answer, and count every rollout; that code leaves out those without one.

`resilience` tells of two more metrics, which look at the whole continuation; they are estimated here, from a column
`returns`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import seed_for
from backend.importance import conventions as registry
from backend.importance.conventions import (
    AFTER,
    CORRECTNESS,
    DISSIMILAR,
    FORCED_AFTER,
    FORCED_HERE,
    GONE_HERE,
    HERE,
    SIMILAR,
    WRITTEN,
    Convention,
    Sides,
    written_answers,
)
from backend.importance.metric_registry import METRICS, conventions_of, metrics_to_compute
from backend.schema.tables import TABLES
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile, wilson

SIMILARITY_THRESHOLD = 0.8
CONVENTIONS = tuple(registry.CONVENTIONS)
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of counts (…, outcomes) of p and of q

_COLUMNS = ["chunk_id", "kind", "similarity", "answer_cluster", "is_correct", "resampled_chunk"]


class RolloutsError(AnchorscopeError):
    """The rollouts handed in cannot be those of one CoT."""


@dataclass(frozen=True)
class Estimate:
    value: float  # NaN where undefined
    interval: Interval
    n: int
    n_comparator: int | None  # None where nothing is compared


def importance_of_cot(
    rollouts: pd.DataFrame,
    chunk_ids: Sequence[str],
    *,
    conventions: Sequence[str] = CONVENTIONS,
    n_bootstrap: int = 1000,
    seed: int,
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The metrics by every convention for every chunk of one CoT, with the columns of the table `importance` (unknown
    is NaN or NA).

    `rollouts` has the columns of the table `rollouts`, of this CoT alone, and `answer_cluster`; their order and the
    names of the clusters change nothing. The column `answer` is what `ta` counts, as written; without it the clusters
    stand for it. `chunk_ids` are all chunks of the CoT in reading order, also those without rollouts. `n_bootstrap` = 0
    leaves the intervals unknown; `metrics` left out are all that need no `returns`. The random numbers of an interval
    depend on `seed`, chunk and metric alone.
    """
    _check(rollouts, chunk_ids, conventions)
    groups = grouped(rollouts)
    nothing = Rollouts.none()
    metrics = metrics_to_compute() if metrics is None else metrics
    wanted = [(metric, convention) for metric in metrics for convention in conventions_of(metric, conventions)]
    rows = []
    for position, chunk in enumerate(chunk_ids):
        following = chunk_ids[position + 1] if position + 1 < len(chunk_ids) else None
        here, forced_here = (groups.get((chunk, kind), nothing) for kind in ("resample", "forced"))
        after, forced_after = (groups.get((following, kind), nothing) for kind in ("resample", "forced"))
        estimate = Estimator(chunk, here, after, forced_here, forced_after, n_bootstrap, seed)
        for metric, convention in wanted:
            found = estimate(metric, convention)
            rows.append(
                (chunk, metric, convention, found.value, *found.interval, found.n, found.n_comparator, None, None)
            )
    table = pd.DataFrame(rows, columns=list(TABLES["importance"].columns))
    return table.astype(
        {"value": "float64", "ci_low": "float64", "ci_high": "float64", "n": "int64", "n_comparator": "Int64"}
    )


def kl_divergence(p_counts: np.ndarray, q_counts: np.ndarray, alpha: float) -> np.ndarray:
    """KL(p || q) in nats, float64, at least 0, of counts of the same outcomes along the last axis; leading axes are
    replicates.

    `alpha` > 0 is added to every count on both sides. Where a side has no counts at all the divergence is unknown: NaN.
    """
    p_counts, q_counts = np.asarray(p_counts, dtype=np.float64), np.asarray(q_counts, dtype=np.float64)
    empty = (p_counts.sum(-1) == 0) | (q_counts.sum(-1) == 0)
    p, q = p_counts + alpha, q_counts + alpha
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return np.where(empty, np.nan, np.maximum((p * np.log(p / q)).sum(-1), 0.0))


@dataclass(frozen=True)
class Rollouts:
    """A group of rollouts as arrays of one length; -1 stands for unknown."""

    similar: np.ndarray  # 1 similar, 0 dissimilar, -1 unknown
    answer: np.ndarray  # number of the answer cluster within the CoT, or -1
    written: np.ndarray  # number of the answer as `conventions.written_answer` has it, or -1
    correct: np.ndarray  # 1, 0 or -1
    first: np.ndarray  # number of the resampled chunk's text, or -1
    returns: np.ndarray  # 1 the chunk's content comes back after the resampled chunk, 0 it does not, -1 unknown

    @staticmethod
    def none() -> "Rollouts":
        return Rollouts(*(np.empty(0, dtype=np.int64) for _ in fields(Rollouts)))

    def __len__(self) -> int:
        return len(self.similar)

    def where_similar(self, value: int) -> "Rollouts":
        return self.taken(self.similar == value)

    def taken(self, rows: np.ndarray) -> "Rollouts":
        """Those at `rows`: a mask, or indices."""
        return Rollouts(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def grouped(rollouts: pd.DataFrame) -> dict[tuple[str | None, str], Rollouts]:
    """The rollouts of one CoT by chunk and kind. Without a column `returns` it is unknown of all of them."""
    similarity = rollouts["similarity"].to_numpy(dtype=np.float64, na_value=np.nan)
    similar = np.where(np.isnan(similarity), -1, similarity >= SIMILARITY_THRESHOLD).astype(np.int64)
    answer, _ = pd.factorize(rollouts["answer_cluster"])
    written = answer
    if "answer" in rollouts:
        written, _ = pd.factorize(written_answers(rollouts["answer"].where(rollouts["answer_cluster"].notna())))
    returns = rollouts["returns"] if "returns" in rollouts else pd.Series(pd.NA, rollouts.index)
    correct, returns = (
        column.astype("boolean").astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
        for column in (rollouts["is_correct"], returns)
    )
    # Chunks tile the text and so carry the white space that follows them: the same sentence counts once whatever comes
    # after it.
    first, _ = pd.factorize(rollouts["resampled_chunk"].astype("string").str.strip().replace("", pd.NA))
    return {
        key: Rollouts(similar[rows], answer[rows], written[rows], correct[rows], first[rows], returns[rows])
        for key, rows in rollouts.groupby(["chunk_id", "kind"]).indices.items()
    }


@dataclass(frozen=True)
class Estimator:
    """All metrics of one chunk: `here` are the rollouts at i, `after` those at i+1."""

    chunk: str
    here: Rollouts
    after: Rollouts
    forced_here: Rollouts
    forced_after: Rollouts
    n_bootstrap: int
    seed: int

    def __call__(self, metric: str, convention: str) -> Estimate:
        found = METRICS[metric]
        rng = np.random.default_rng(seed_for(self.seed, self.chunk, found.draws_as or metric))
        return found.measure.estimated(self, convention, rng)

    def _groups(self, sides: Sides) -> tuple[list[Rollouts], list[Rollouts]]:
        """p and q."""
        return [self._group(sides.p)], [self._group(name) for name in sides.q]

    def _group(self, name: str) -> Rollouts:
        dissimilar = self.here.where_similar(0)
        return {
            HERE: self.here,
            AFTER: self.after,
            DISSIMILAR: dissimilar,
            SIMILAR: self.here.where_similar(1),
            GONE_HERE: dissimilar.taken(dissimilar.returns == 0),
            FORCED_HERE: self.forced_here,
            FORCED_AFTER: self.forced_after,
        }[name]

    def share(self, outcomes: np.ndarray, rng: np.random.Generator) -> Estimate:
        """Share of 1 among outcomes of 0 and 1; −1 is unknown."""
        known = outcomes[outcomes >= 0]
        if not len(known):
            return Estimate(math.nan, UNKNOWN, 0, None)
        share = float(known.mean())
        replicates = rng.binomial(len(known), share, self.n_bootstrap) / len(known)
        return Estimate(share, _interval(replicates, len(known)), len(known), None)

    def resilience(self) -> Estimate:
        """Wilson's interval, which has a width also where the content never or always comes back: dissimilar rollouts
        are often few.
        """
        returns = self.here.where_similar(0).returns
        known = returns[returns >= 0]
        interval = wilson(int(known.sum()), len(known)) if self.n_bootstrap else UNKNOWN
        return Estimate(float(known.mean()) if len(known) else math.nan, interval, len(known), None)

    def overdeterminedness(self) -> Estimate:
        """No interval: a sample drawn with replacement repeats texts by construction, so the bootstrap says nothing
        about distinct ones.
        """
        known = self.here.first[self.here.first >= 0]
        value = 1 - len(np.unique(known)) / len(known) if len(known) else math.nan
        return Estimate(value, UNKNOWN, len(known), None)

    def accuracy_difference(self, sides: Sides, rng: np.random.Generator) -> Estimate:
        """accuracy(p) − accuracy(q)."""
        p_counts, q_counts = (_counts([group.correct for group in side], 2) for side in self._groups(sides))
        return self._compared(p_counts, q_counts, lambda p, q: _accuracy(p) - _accuracy(q), rng)

    def kl(self, sides: Sides, convention: Convention, rng: np.random.Generator) -> Estimate:
        """KL( outcomes of p ‖ outcomes of q ), nats."""
        p, q = self._groups(sides)
        if convention.outcomes == CORRECTNESS:
            p_counts, q_counts = (_counts([group.correct for group in side], 2) for side in (p, q))
        else:
            p_codes, q_codes = (
                [group.written if convention.outcomes == WRITTEN else group.answer for group in side] for side in (p, q)
            )
            n_outcomes = 1 + max(int(codes.max(initial=-1)) for codes in p_codes + q_codes)
            p_counts, q_counts = _union_in_canonical_order(_counts(p_codes, n_outcomes), _counts(q_codes, n_outcomes))
        return self._compared(p_counts, q_counts, lambda p, q: kl_divergence(p, q, convention.smoothing), rng)

    def _compared(
        self, p_counts: np.ndarray, q_counts: np.ndarray, statistic: Statistic, rng: np.random.Generator
    ) -> Estimate:
        """`statistic` of the pooled counts (outcomes) of p and q, each given by group as (groups, outcomes)."""
        # Without its first group there is no comparator: where i+1 has none, the similar rollouts at i alone are none.
        n, n_comparator = int(p_counts.sum()), int(q_counts.sum()) if q_counts[0].any() else 0
        if not n or not n_comparator:
            return Estimate(math.nan, UNKNOWN, n, n_comparator)
        value = float(statistic(p_counts.sum(0), q_counts.sum(0)))
        replicates = statistic(_resampled(p_counts, self.n_bootstrap, rng), _resampled(q_counts, self.n_bootstrap, rng))
        return Estimate(value, _interval(replicates, min(n, n_comparator)), n, n_comparator)


def _counts(groups: list[np.ndarray], n_outcomes: int) -> np.ndarray:
    """Counts (groups, outcomes) of the known outcomes."""
    counts = [np.bincount(codes[codes >= 0], minlength=n_outcomes) for codes in groups]
    return np.array(counts, dtype=np.int64).reshape(len(groups), n_outcomes)


def _union_in_canonical_order(p_counts: np.ndarray, q_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes that occur on either side, ordered by their counts: so the draws do not depend on what the answers are
    called.
    """
    both = np.concatenate([p_counts, q_counts])
    both = both[:, both.sum(0) > 0]
    both = both[:, np.lexsort(both[::-1])[::-1]]
    return both[: len(p_counts)], both[len(p_counts) :]


def _resampled(counts: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Pooled counts (n_bootstrap, outcomes) after resampling every group (a row of `counts`) at its own size."""
    pooled = np.zeros((n_bootstrap, counts.shape[1]), dtype=np.int64)
    for group in counts:
        if n := int(group.sum()):
            pooled += rng.multinomial(n, group / n, size=n_bootstrap)
    return pooled


def _accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of correct among [wrong, correct] along the last axis."""
    return counts[..., 1] / counts.sum(-1)


def _interval(replicates: np.ndarray, n_smaller: int) -> Interval:
    """Unknown where the smaller side is a single rollout: resampling one rollout gives that rollout, which is no
    certainty.
    """
    return bootstrap_percentile(replicates) if n_smaller > 1 else UNKNOWN


def _check(rollouts: pd.DataFrame, chunk_ids: Sequence[str], conventions: Sequence[str]) -> None:
    if missing := [column for column in _COLUMNS if column not in rollouts.columns]:
        raise RolloutsError(f"rollouts lack the columns {missing}; expected those of the table rollouts")
    if len(set(chunk_ids)) != len(chunk_ids):
        raise RolloutsError("a chunk id occurs twice in the reading order; pass every chunk of the CoT once")
    if strangers := sorted(set(rollouts["chunk_id"]) - set(chunk_ids)):
        raise RolloutsError(
            f"rollouts at chunk {strangers[0]}, which is none of the {len(chunk_ids)} chunks given; pass one CoT at a"
            " time"
        )
    if unknown := sorted(set(rollouts["kind"]) - {"resample", "forced"}):
        raise RolloutsError(f"a rollout's kind is {unknown[0]!r}; expected resample or forced")
    if unknown := [convention for convention in conventions if convention not in CONVENTIONS]:
        raise RolloutsError(f"there is no convention {unknown[0]!r}; choose among {', '.join(CONVENTIONS)}")
