"""What groups of rollouts say of one chunk: shares, differences of accuracy, divergences, each with its interval.

Which groups a metric compares, and by which outcomes, its entry and its convention say (`metric_registry`,
`conventions`); what comes out is described in `metrics`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pandas as pd

from backend.importance.conventions import (
    AFTER,
    ANOTHER,
    CORRECTNESS,
    DISSIMILAR,
    EMBEDDING,
    FORCED_AFTER,
    FORCED_HERE,
    GONE_HERE,
    HERE,
    REACHING_AFTER,
    REACHING_HERE,
    SIMILAR,
    WRITTEN,
    Convention,
    Sides,
    written_answers,
)
from backend.importance.jsd import jensen_shannon
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile, wilson

SIMILARITY_THRESHOLD = 0.8
# Rollouts with another outcome than the most frequent one, below which a bootstrap's width says nothing.
LEAST_RARER = 5
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of counts (…, outcomes) of p and of q


@dataclass(frozen=True)
class Estimate:
    value: float  # NaN where undefined
    interval: Interval
    n: int
    n_comparator: int | None  # None where nothing is compared
    n_rarer: int | None = None  # rollouts on both sides with another outcome than the most frequent one; likewise
    p: float = math.nan  # of a permutation; NaN where none is made

    @property
    def is_certain_of_nothing(self) -> bool:
        """Whether the interval is a bootstrap's of groups that hardly differ in outcome: its width, often 0, is then no
        evidence of certainty, because no draw shows what was not seen.
        """
        return self.n_rarer is not None and self.n_rarer < LEAST_RARER


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
    numbers: np.ndarray  # 1 the resampled chunk has the chunk's numbers and operators, 0 it has others, -1 unknown
    kept: np.ndarray  # chunks from this one on that are written token for token, or -1
    departing: np.ndarray  # as `similar`, at the chunk that is reached and not kept
    departing_numbers: np.ndarray  # as `numbers`, there

    @staticmethod
    def none() -> "Rollouts":
        return Rollouts(*(np.empty(0, dtype=np.int64) for _ in fields(Rollouts)))

    def __len__(self) -> int:
        return len(self.similar)

    @property
    def by_numbers(self) -> "Rollouts":
        """The same under the rule that the numbers must be the same too."""
        return replace(self, similar=np.where(self.similar == 1, self.numbers, self.similar))

    @property
    def another(self) -> "Rollouts":
        """The dissimilar ones. One that writes the chunk token for token is none of them, whatever its first sentence
        runs on to: it is a rollout at the next chunk.
        """
        return self.taken((self.similar == 0) & (self.kept <= 0))

    def reaching(self, n: int) -> "Rollouts":
        """Those that keep `n` chunks, as rollouts at the chunk after these. What is similar there is known of those
        that depart there; the others keep that chunk too.
        """
        own = self.taken(self.kept >= n)
        departs = own.kept == n
        return replace(
            own,
            similar=np.where(departs, own.departing, -1),
            numbers=np.where(departs, own.departing_numbers, -1),
            kept=own.kept - n,
            first=np.full(len(own), -1),
            returns=np.full(len(own), -1),
        )

    def with_others(self, others: Sequence["Rollouts"]) -> "Rollouts":
        if not (some := [one for one in others if len(one)]):
            return self
        return Rollouts(
            **{f.name: np.concatenate([getattr(one, f.name) for one in (self, *some)]) for f in fields(self)}
        )

    def where_similar(self, value: int) -> "Rollouts":
        return self.taken(self.similar == value)

    def taken(self, rows: np.ndarray) -> "Rollouts":
        """Those at `rows`: a mask, or indices."""
        return Rollouts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def grouped(rollouts: pd.DataFrame) -> dict[tuple[str | None, str], Rollouts]:
    """The rollouts of one CoT by chunk and kind. Without a column `returns`, `same_numbers` or `n_kept`, that is
    unknown of all of them.
    """
    answer, _ = pd.factorize(rollouts["answer_cluster"])
    written = answer
    if "answer" in rollouts:
        written, _ = pd.factorize(written_answers(rollouts["answer"].where(rollouts["answer_cluster"].notna())))

    def column(name: str) -> pd.Series:
        return rollouts[name] if name in rollouts else pd.Series(pd.NA, rollouts.index)

    def numbered(values: pd.Series) -> np.ndarray:
        return values.astype("Int64").fillna(-1).to_numpy(dtype=np.int64)

    cosines = (pd.to_numeric(column(name)).astype("Float64") for name in ("similarity", "departing_similarity"))
    similar, departing = (numbered(one >= SIMILARITY_THRESHOLD) for one in cosines)
    correct, returns, numbers, departing_numbers = (
        numbered(column(name).astype("boolean"))
        for name in ("is_correct", "returns", "same_numbers", "departing_same_numbers")
    )
    kept = numbered(column("n_kept"))
    # Chunks tile the text and so carry the white space that follows them: the same sentence counts once whatever comes
    # after it.
    first, _ = pd.factorize(rollouts["resampled_chunk"].astype("string").str.strip().replace("", pd.NA))
    columns = similar, answer, written, correct, first, returns, numbers, kept, departing, departing_numbers
    return {
        key: Rollouts(*(one[rows] for one in columns))
        for key, rows in rollouts.groupby(["chunk_id", "kind"]).indices.items()
    }


def reaching(groups: Mapping[tuple[str | None, str], Rollouts], chunk_ids: Sequence[str], position: int) -> Rollouts:
    """The rollouts from before earlier chunks that write the CoT token for token up to the chunk at `position`: what
    they go on with is drawn as that of the rollouts there.
    """
    earlier = [
        own.reaching(position - before)
        for before, chunk in enumerate(chunk_ids[:position])
        if (own := groups.get((chunk, "resample"))) is not None and (own.kept >= position - before).any()
    ]
    return Rollouts.none().with_others(earlier) if earlier else Rollouts.none()


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
    n_outcomes: int = 0  # distinct answers of the problem, as far as known; those here count in any case
    reaching_here: Rollouts = field(default_factory=Rollouts.none)  # of earlier chunks' rollouts, see `reaching`
    reaching_after: Rollouts = field(default_factory=Rollouts.none)

    def _groups(self, sides: Sides) -> tuple[list[Rollouts], list[Rollouts]]:
        """p and q."""
        return [self._group(sides.p)], [self._group(name) for name in sides.q]

    def _group(self, name: str) -> Rollouts:
        dissimilar = self.here.where_similar(0)
        return {
            HERE: self.here,
            REACHING_HERE: self.here.with_others([self.reaching_here]),
            AFTER: self.after,
            REACHING_AFTER: self.after.with_others([self.reaching_after]),
            DISSIMILAR: dissimilar,
            ANOTHER: self.here.with_others([self.reaching_here]).another,
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
        p_counts, q_counts = self._outcomes(sides, convention)
        return self._compared(p_counts, q_counts, lambda p, q: kl_divergence(p, q, convention.smoothing), rng)

    def jsd(self, sides: Sides, convention: Convention, rng: np.random.Generator) -> Estimate:
        """Jensen–Shannon divergence of the outcomes of p and q, nats, less what it is by chance.

        Without replicates interval and p stay unknown.
        """
        p_counts, q_counts = (side.sum(0) for side in self._outcomes(sides, convention))
        n, n_comparator = int(p_counts.sum()), int(q_counts.sum())
        if not n or not n_comparator:
            return Estimate(math.nan, UNKNOWN, n, n_comparator)
        found = jensen_shannon(p_counts, q_counts, self.n_outcomes)
        interval, p = (found.interval(rng), found.p(rng)) if self.n_bootstrap else (UNKNOWN, math.nan)
        return Estimate(found.value, interval, n, n_comparator, p=p)

    def jsd_interval(self, sides: Sides, convention: Convention, rng: np.random.Generator) -> Interval:
        """That of `jsd` alone; unknown where a side is empty."""
        p_counts, q_counts = (side.sum(0) for side in self._outcomes(sides, convention))
        if not p_counts.sum() or not q_counts.sum():
            return UNKNOWN
        return jensen_shannon(p_counts, q_counts, self.n_outcomes).interval(rng)

    def sizes(self, sides: Sides, convention: Convention) -> tuple[int, int]:
        """Rollouts of p and q with a known outcome."""
        p_counts, q_counts = self._outcomes(sides, convention)
        return int(p_counts.sum()), int(q_counts.sum())

    def _by_numbers(self) -> "Estimator":
        return replace(self, here=self.here.by_numbers, reaching_here=self.reaching_here.by_numbers)

    def _outcomes(self, sides: Sides, convention: Convention) -> tuple[np.ndarray, np.ndarray]:
        """Counts (groups, outcomes) of p and of q."""
        at = self if convention.similarity == EMBEDDING else self._by_numbers()
        p, q = at._groups(sides)
        if convention.outcomes == CORRECTNESS:
            return _counts([group.correct for group in p], 2), _counts([group.correct for group in q], 2)
        p_codes, q_codes = (
            [group.written if convention.outcomes == WRITTEN else group.answer for group in side] for side in (p, q)
        )
        n_outcomes = 1 + max(int(codes.max(initial=-1)) for codes in p_codes + q_codes)
        return _union_in_canonical_order(_counts(p_codes, n_outcomes), _counts(q_codes, n_outcomes))

    def _compared(
        self, p_counts: np.ndarray, q_counts: np.ndarray, statistic: Statistic, rng: np.random.Generator
    ) -> Estimate:
        """`statistic` of the pooled counts (outcomes) of p and q, each given by group as (groups, outcomes)."""
        # Without its first group there is no comparator: where i+1 has none, the similar rollouts at i alone are none.
        n, n_comparator = int(p_counts.sum()), int(q_counts.sum()) if q_counts[0].any() else 0
        if not n or not n_comparator:
            return Estimate(math.nan, UNKNOWN, n, n_comparator)
        pooled = p_counts.sum(0) + q_counts.sum(0)
        value = float(statistic(p_counts.sum(0), q_counts.sum(0)))
        replicates = statistic(_resampled(p_counts, self.n_bootstrap, rng), _resampled(q_counts, self.n_bootstrap, rng))
        n_rarer = int(pooled.sum() - pooled.max())
        return Estimate(value, _interval(replicates, min(n, n_comparator)), n, n_comparator, n_rarer)


def estimator_at(
    groups: Mapping[tuple[str | None, str], Rollouts],
    chunk_ids: Sequence[str],
    position: int,
    *,
    n_bootstrap: int = 0,
    seed: int = 0,
    n_outcomes: int = 0,
) -> Estimator:
    """Of the chunk at `position`, from the rollouts of its CoT by chunk and kind; nothing comes after the last."""
    here, is_last = chunk_ids[position], position + 1 == len(chunk_ids)
    following, nothing = None if is_last else chunk_ids[position + 1], Rollouts.none()
    return Estimator(
        here,
        groups.get((here, "resample"), nothing),
        groups.get((following, "resample"), nothing),
        groups.get((here, "forced"), nothing),
        groups.get((following, "forced"), nothing),
        n_bootstrap,
        seed,
        n_outcomes,
        reaching(groups, chunk_ids, position),
        nothing if is_last else reaching(groups, chunk_ids, position + 1),
    )


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
