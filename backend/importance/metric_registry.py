"""Every metric of importance, one entry each: how it is computed from rollouts, what it compares, and its words.

A metric is a number of one chunk's rollouts alone (`Own`), or compares two groups of rollouts, p with q (`Comparison`).
What the two are may be the convention's: then the metric has a row for each convention, else one row under `all`.
docs/extending/add-a-metric.md adds one step by step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.errors import AnchorscopeError
from backend.importance.conventions import (
    AFTER,
    ALL,
    ANOTHER,
    CONVENTIONS,
    DISSIMILAR,
    EMBEDDING,
    EMPTY,
    FORCED_AFTER,
    FORCED_HERE,
    GONE_HERE,
    HERE,
    JENSEN_SHANNON,
    KULLBACK_LEIBLER,
    OUTCOMES,
    PUBLISHED,
    REACHING_AFTER,
    SIMILARITIES,
    Convention,
    Sides,
    like,
)
from backend.importance.estimates import Estimate, Estimator
from backend.registry import Registry
from backend.store.registered import meaning_of, words_of


class MetricError(AnchorscopeError):
    """A metric that there is not, or not under that convention."""


@dataclass(frozen=True)
class Own:
    """A number of the rollouts at chunk i alone."""

    estimate: Callable[[Estimator, np.random.Generator], Estimate]  # `Estimator.here` are the rollouts at i
    definition: str  # what it is, in words and signs
    unit: str
    signed: bool = False  # may be below 0
    statistic = None

    def sides(self, convention: str) -> Sides | None:
        return None

    def estimated(self, at: Estimator, convention: str, rng: np.random.Generator) -> Estimate:
        return self.estimate(at, rng)

    def defined(self, convention: str) -> str:
        return self.definition if convention == ALL else ""

    def conventions(self, among: Sequence[str]) -> Sequence[str]:
        return (ALL,)


@dataclass(frozen=True)
class Statistic:
    """How p is compared with q; the convention is None for what none changes."""

    estimate: Callable[[Estimator, Sides, Convention | None, np.random.Generator], Estimate]
    definition: Callable[[str, str, Convention | None], str]  # of the words for p and q
    unit: str
    signed: bool
    divergence: str = KULLBACK_LEIBLER  # of the conventions under which it is had


@dataclass(frozen=True)
class Comparison:
    """A number of two groups of rollouts, which are the convention's or the same under all."""

    statistic: Statistic
    of: Sides | Callable[[Convention], Sides]

    @property
    def unit(self) -> str:
        return self.statistic.unit

    @property
    def signed(self) -> bool:
        return self.statistic.signed

    def sides(self, convention: str) -> Sides | None:
        """None where it is not had under that convention."""
        if isinstance(self.of, Sides):
            return self.of if convention == ALL else None
        how = CONVENTIONS.get(convention)
        if how is None or how.divergence != self.statistic.divergence:
            return None
        sides = self.of(how)
        return sides if how.similarity == EMBEDDING or sides.by_similarity else None

    def estimated(self, at: Estimator, convention: str, rng: np.random.Generator) -> Estimate:
        sides = self.sides(convention)
        if sides is None:
            raise MetricError(f"There is no such comparison under the convention {convention!r}.")
        return self.statistic.estimate(at, sides, CONVENTIONS.get(convention), rng)

    def defined(self, convention: str) -> str:
        sides = self.sides(convention)
        return "" if sides is None else self.statistic.definition(*sides.words(), CONVENTIONS.get(convention))

    def conventions(self, among: Sequence[str]) -> Sequence[str]:
        own = (ALL,) if isinstance(self.of, Sides) else among
        return tuple(convention for convention in own if self.sides(convention) is not None)


@dataclass(frozen=True)
class Metric:
    name: str  # as it is stored
    label: str
    meaning: str  # in a sentence
    measure: Own | Comparison
    rollouts: Literal["resample", "forced"] = "resample"  # which it rests on
    needs_returns: bool = False  # needs every sentence of the rollouts embedded: the resilience stage computes it
    needs_numbers: bool = False  # needs the numbers in the rollouts' first sentences and the chunk
    no_interval: str = ""  # why it never has one
    published_of: str = ""  # what the published values of it leave out, in words
    draws_as: str = ""  # the metric whose random numbers it shares, so that the two can be compared
    is_headline: bool = False  # its relation to steepness is the Steepness page's question
    rule: int = 1  # raise it when its values change: they are computed anew. 0: as before metrics had rules

    @property
    def unit(self) -> str:
        return self.measure.unit

    @property
    def signed(self) -> bool:
        """Runs below 0: a diverging scale, centred on 0."""
        return self.measure.signed

    @property
    def compares(self) -> bool:
        """Whether it compares the rollouts before the chunk with those before the next one."""
        return isinstance(self.measure, Comparison)

    @property
    def is_kl(self) -> bool:
        return self.measure.statistic is KL

    @property
    def is_accuracy(self) -> bool:
        return self.measure.statistic is ACCURACIES

    @property
    def by_permutation(self) -> bool:
        """Whether a permutation's p decides: it is among the most important where its q is at most 0.05."""
        return self.measure.statistic is JSD

    @property
    def short(self) -> str:
        of = " (KL)" if self.is_kl else " (JSD)" if self.by_permutation else " (accuracy)" if self.signed else ""
        return f"{self.label}{of}"

    @property
    def axis(self) -> str:
        return f"{self.label} ({self.unit})"


def _with_outcomes(convention: Convention | None) -> Convention:
    if convention is None:
        raise MetricError("A KL needs a convention, which says what its outcomes are.")
    return convention


def _words_of_kl(p: str, q: str, convention: Convention | None) -> str:
    how = _with_outcomes(convention)
    return f"KL( {p} ‖ {q} ), nats; outcomes: {OUTCOMES[how.outcomes]}; {how.smoothing:g} added to every count"


KL = Statistic(
    lambda at, sides, how, rng: at.kl(sides, _with_outcomes(how), rng), _words_of_kl, "KL, nats", signed=False
)


def _words_of_jsd(p: str, q: str, convention: Convention | None) -> str:
    how = _with_outcomes(convention)
    return (
        f"Jensen–Shannon divergence of {p} and {q}, nats, less what it is when they are dealt to the two at random;"
        f" outcomes: {OUTCOMES[how.outcomes]}; {SIMILARITIES[how.similarity]}"
    )


JSD = Statistic(
    lambda at, sides, how, rng: at.jsd(sides, _with_outcomes(how), rng),
    _words_of_jsd,
    "JSD, nats",
    signed=True,
    divergence=JENSEN_SHANNON,
)
ACCURACIES = Statistic(
    lambda at, sides, how, rng: at.accuracy_difference(sides, rng),
    lambda p, q, how: f"accuracy of {p} − accuracy of {q}",
    "difference of accuracies",
    signed=True,
)

METRICS: Registry[Metric] = Registry("metric", error=MetricError)
register = METRICS.register


def metric_named(name: str) -> Metric:
    """The registry's entry, or one with the words that a study has of a metric whose code is not here: it cannot be
    computed.
    """
    if name in METRICS:
        return METRICS[name]

    def unknown(at: Estimator, rng: np.random.Generator) -> Estimate:
        raise MetricError(f"How {name} is computed is not known here: its code is not registered in this process.")

    said = words_of("metric", name)
    own = Own(unknown, "", said.unit if said else "value", signed=said.signed if said else True)
    return Metric(name, said.label if said else name, meaning_of("metric", name), own)


def metrics_to_compute(*, needs_returns: bool = False) -> tuple[str, ...]:
    """What the importance stage computes, or the resilience stage."""
    return tuple(metric.name for metric in METRICS.values() if metric.needs_returns == needs_returns)


def rules(*, needs_returns: bool = False) -> dict[str, dict[str, int]]:
    """What a stage adds to its units' inputs for metrics that came, or changed, since metrics have rules; often
    nothing.
    """
    found = {name: METRICS[name].rule for name in metrics_to_compute(needs_returns=needs_returns)}
    found = {name: rule for name, rule in found.items() if rule}
    return {"metrics": found} if found else {}


def conventions_of(metric: str, conventions: Sequence[str] = tuple(CONVENTIONS)) -> Sequence[str]:
    """The conventions under which a metric has rows, of those asked for."""
    return METRICS[metric].measure.conventions(conventions)


def sides_of(metric: str, convention: str) -> Sides:
    """Raises MetricError where the metric compares nothing, or not under this convention."""
    sides = METRICS[metric].measure.sides(convention)
    if sides is None:
        raise MetricError(f"{metric} compares nothing under the convention {convention!r}.")
    return sides


def why_unknown(metric: str, convention: str, n: int | None, n_comparator: int | None) -> str:
    """Which side of a comparison is empty, in words; empty itself where neither is known to be."""
    measure = METRICS[metric].measure if metric in METRICS else None
    sides = None if measure is None else measure.sides(like(convention)) or measure.sides(ALL)
    if sides is None:
        return EMPTY[HERE] if n == 0 else ""
    return EMPTY[sides.p] if n == 0 else EMPTY[sides.q[0]] if n_comparator == 0 else ""


def definition(metric: str, convention: str) -> str:
    """In words and signs what a value is: direction, comparator, outcomes and smoothing.

    Empty for a name that is not known here.
    """
    if metric not in METRICS:
        return ""
    found = METRICS[metric]
    if convention != PUBLISHED:
        return found.measure.defined(convention)
    own = found.measure.defined(like(convention)) or found.measure.defined(ALL)
    return own and f"as published: {own}{found.published_of and ', ' + found.published_of}"


register(
    Metric(
        "counterfactual_importance_jsd",
        "Counterfactual importance",
        "How far the final answers move when this chunk is replaced by one that says something else.",
        Comparison(JSD, lambda convention: Sides(ANOTHER, (REACHING_AFTER,))),
        is_headline=True,
    )
)
register(
    Metric(
        "resampling_importance_jsd",
        "Resampling importance",
        "How far the final answers move when the chunk is sampled anew, whatever it then says.",
        Comparison(JSD, lambda convention: convention.resampling),
    )
)
register(
    Metric(
        "forced_importance_jsd",
        "Forced importance",
        "How far the answers move when the model must answer right before, or right after, this chunk.",
        Comparison(JSD, lambda convention: convention.forced),
        rollouts="forced",
    )
)
register(
    Metric(
        "counterfactual_importance_kl",
        "Counterfactual importance",
        "How far the final answers move when this chunk is replaced by one that says something else.",
        Comparison(KL, lambda convention: Sides(DISSIMILAR, convention.comparator_of_kl)),
        is_headline=True,
        rule=0,
    )
)
register(
    Metric(
        "counterfactual_importance_accuracy",
        "Counterfactual importance",
        "Accuracy with a different chunk here, minus accuracy with this one kept.",
        Comparison(ACCURACIES, lambda convention: Sides(DISSIMILAR, convention.comparator_of_accuracy)),
        rule=0,
    )
)
register(
    Metric(
        "resampling_importance_kl",
        "Resampling importance",
        "How far the final answers move when the chunk is sampled anew, whatever it then says.",
        Comparison(KL, lambda convention: convention.resampling),
        rule=0,
    )
)
register(
    Metric(
        "resampling_importance_accuracy",
        "Resampling importance",
        "Accuracy with the chunk kept, minus accuracy with it sampled anew.",
        Comparison(ACCURACIES, Sides(AFTER, (HERE,))),
        rule=0,
    )
)
register(
    Metric(
        "forced_importance_kl",
        "Forced importance",
        "How far the answers move when the model must answer right before, or right after, this chunk.",
        Comparison(KL, lambda convention: convention.forced),
        rollouts="forced",
        rule=0,
    )
)
register(
    Metric(
        "forced_importance_accuracy",
        "Forced importance",
        "Accuracy when answering right after this chunk, minus right before it.",
        Comparison(ACCURACIES, Sides(FORCED_AFTER, (FORCED_HERE,))),
        rollouts="forced",
        rule=0,
    )
)
register(
    Metric(
        "counterfactual_accuracy",
        "Accuracy of rollouts",
        "Share of the rollouts from before this chunk whose answer is correct.",
        Own(
            lambda at, rng: at.share(at.here.correct, rng),
            "share of correct ones among the judged rollouts at i",
            "share correct",
        ),
        rule=0,
    )
)
register(
    Metric(
        "different_trajectories_fraction",
        "Different trajectories",
        "Share of rollouts whose first sentence says something else (cosine below 0.8).",
        Own(
            lambda at, rng: at.share(1 - at.here.similar[at.here.similar >= 0], rng),
            "share of dissimilar ones among the rollouts at i",
            "share of rollouts",
        ),
        published_of="of those with an answer",
        is_headline=True,
        rule=0,
    )
)
register(
    Metric(
        "different_trajectories_fraction_numbers",
        "Different trajectories, numbers too",
        "Share of rollouts whose first sentence says something else, or the same of other numbers.",
        Own(
            lambda at, rng: at.share(1 - (known := at.here.by_numbers.similar)[known >= 0], rng),
            "share among the rollouts at i of those that are dissimilar, or have other numbers or operators",
            "share of rollouts",
        ),
        needs_numbers=True,
        draws_as="different_trajectories_fraction",
    )
)
register(
    Metric(
        "overdeterminedness",
        "Overdeterminedness",
        "1 − distinct first sentences / rollouts: high when the model writes the same again.",
        Own(
            lambda at, rng: at.overdeterminedness(),
            "1 − distinct first sentences / rollouts at i",
            "share of rollouts",
        ),
        no_interval="a bootstrap repeats texts",
        published_of="of those with an answer",
        rule=0,
    )
)
register(
    Metric(
        "resilience",
        "Resilience",
        "Of the rollouts whose first sentence says something else, the share that says the chunk's content in a later"
        " sentence after all.",
        Own(
            lambda at, rng: at.resilience(),
            "share of the dissimilar rollouts at i that say the chunk's content later after all",
            "share of dissimilar rollouts",
        ),
        needs_returns=True,
        rule=0,
    )
)
# Counterfactual++ differs from counterfactual importance in p alone, and shares its random numbers.
register(
    Metric(
        "counterfactual_importance_pp_kl",
        "Counterfactual++",
        "How far the final answers move when this chunk's content is gone from the whole continuation, not only from"
        " its first sentence.",
        Comparison(KL, lambda convention: Sides(GONE_HERE, convention.comparator_of_kl)),
        needs_returns=True,
        draws_as="counterfactual_importance_kl",
        rule=0,
    )
)
register(
    Metric(
        "counterfactual_importance_pp_accuracy",
        "Counterfactual++",
        "Accuracy of the rollouts that say this chunk's content nowhere, minus accuracy with the chunk kept.",
        Comparison(ACCURACIES, lambda convention: Sides(GONE_HERE, convention.comparator_of_accuracy)),
        needs_returns=True,
        draws_as="counterfactual_importance_accuracy",
        rule=0,
    )
)
SHIPPED = frozenset(METRICS)  # what comes later, somebody registered
