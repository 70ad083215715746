"""What steering a chunk did, from the samples of its arms (`steered_rollouts`): how far its answers moved, and how far
its importance did.

An arm is `steered` or `random`, always against `base`:

- `answers_changed`: of the pairs of continuations after the chunk that draw with the same random numbers, the share
  whose answers differ. Where the answer is open, two texts that part have other answers by luck alone: random
  directions show how many.
- `outcome_shift_…`: the outcomes of continuations after the steered chunk against those after the unsteered one, by the
  code and the conventions of resampling importance: JSD, KL, or difference of accuracies. Random directions show how
  many answers luck alone moves; of a JSD, chance is off already.
- every other quantity is an importance of the chunk, computed again under steering: rollouts from before the chunk
  against continuations after it, both of the arm, by the code and conventions of `metric_registry`. Its effect is
  what it is in the arm less what it is in `base`; both are from as many samples, so that a bias of few rollouts is in
  both.

The outcomes of a JSD are the answers that all samples of the chunk gave.

A sample without an answer takes no part, and unknown is None. Intervals are Wilson's of a share, a JSD's own of
`outcome_shift_jsd`, else the 2.5th and 97.5th percentiles over draws of samples, all arms together by their numbers,
each start by itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backend.errors import AnchorscopeError
from backend.ids import seed_for
from backend.importance.conventions import ALL
from backend.importance.estimates import Estimate, Estimator, Rollouts, grouped
from backend.importance.metric_registry import METRICS, Metric, conventions_of
from backend.importance.steered_rollouts import AFTER, ARMS, BASE, BEFORE, RANDOM, STARTS, STEERED
from backend.registry import Registry
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_percentile, wilson


class QuantityError(AnchorscopeError):
    """An effect of steering that there is not."""


@dataclass(frozen=True)
class Quantity:
    """An effect of steering a chunk. `metric` is whose code and conventions it has; empty for the share of answers."""

    name: str  # as it is stored
    label: str
    unit: str
    meaning: str  # in a sentence
    metric: str = ""
    rescored: bool = False  # the metric computed again under steering; else it compares steered with unsteered

    @property
    def signed(self) -> bool:
        """May be below 0, so that more of it is not more change."""
        return self.rescored or bool(self.metric and METRICS[self.metric].signed)

    @property
    def conventions(self) -> tuple[str, ...]:
        return tuple(conventions_of(self.metric)) if self.metric else (ALL,)


def _change_of(metric: str) -> Quantity:
    found = METRICS[metric]
    return Quantity(
        metric,
        f"Change of {found.short[:1].lower()}{found.short[1:]}",
        found.unit,
        f"{found.label} of the chunk under steering, less what it is unsteered.",
        metric,
        rescored=True,
    )


def _can_be_rescored(metric: Metric) -> bool:
    """Whether steered rollouts give it, without every sentence of theirs embedded, and it has an interval."""
    return metric.rollouts == "resample" and not metric.needs_returns and not metric.no_interval


ANSWERS_CHANGED = "answers_changed"
QUANTITIES: Registry[Quantity] = Registry(
    "effect of steering",
    Quantity(
        ANSWERS_CHANGED,
        "Answers changed",
        "share of pairs of continuations",
        "Of continuations that draw with the same random numbers, the share whose answer steering changes.",
    ),
    Quantity(
        "outcome_shift_jsd",
        "Shift of the answers (JSD)",
        METRICS["resampling_importance_jsd"].unit,
        "How far the answers after the steered chunk are from those after the unsteered one, less what chance gives.",
        "resampling_importance_jsd",
    ),
    Quantity(
        "outcome_shift_kl",
        "Shift of the answers (KL)",
        METRICS["resampling_importance_kl"].unit,
        "How far the answers after the steered chunk are from those after the unsteered one.",
        "resampling_importance_kl",
    ),
    Quantity(
        "outcome_shift_accuracy",
        "Shift of accuracy",
        METRICS["resampling_importance_accuracy"].unit,
        "Accuracy after the steered chunk less accuracy after the unsteered one.",
        "resampling_importance_accuracy",
    ),
    *(_change_of(metric.name) for metric in METRICS.values() if _can_be_rescored(metric)),
    error=QuantityError,
)


def effects_of_chunk(samples: pd.DataFrame, *, n_bootstrap: int = 300, seed: int) -> list[dict[str, Any]]:
    """One row an arm, quantity and convention: arm, quantity, convention, value, ci_low, ci_high, unsteered, steered,
    n.

    `samples` are all of one chunk, with the columns start, arm, sample, cluster, answer, is_correct, similarity and
    resampled_chunk; every arm has the same numbers. Without a column `same_numbers` (see `similarity`) it is unknown by
    the rule `numbers` what the embeddings call similar. `n` is of what took part, on the smaller side.
    """
    groups, n_outcomes = _groups(samples), int(samples["cluster"].nunique())
    found = {(arm, ANSWERS_CHANGED, ALL): _changed(groups, arm) for arm in _EDITED} | _compared(groups, n_outcomes)
    for key, effect in found.items():
        if key[1] == "outcome_shift_jsd" and n_bootstrap:
            found[key] = replace(effect, interval=_own_interval(groups, key, n_outcomes, seed))
    rng = np.random.default_rng(seed_for("effects of steering", seed))
    drawn = [_compared(_drawn(groups, rng), n_outcomes) for _ in range(n_bootstrap)]
    return [
        _row(key, effect, np.array([draw[key].value for draw in drawn if key in draw])) for key, effect in found.items()
    ]


_EDITED = (STEERED, RANDOM)
_Groups = Mapping[tuple[str, str], Rollouts]  # by arm and start, in the order of the samples' numbers
_Key = tuple[str, str, str]  # arm, quantity, convention


@dataclass(frozen=True)
class _Effect:
    value: float
    n: int
    unsteered: float = math.nan
    steered: float = math.nan
    interval: Interval | None = None  # where it is not that of the draws


def _changed(groups: _Groups, arm: str) -> _Effect:
    base, other = groups[BASE, AFTER].answer, groups[arm, AFTER].answer
    known = (base >= 0) & (other >= 0)
    n, changed = int(known.sum()), int((known & (base != other)).sum())
    return _Effect(changed / n if n else math.nan, n, interval=wilson(changed, n))


def _compared(groups: _Groups, n_outcomes: int) -> dict[_Key, _Effect]:
    """What is a metric of importance, or has its code."""
    found: dict[_Key, _Effect] = {}
    for one in QUANTITIES.values():
        for convention in one.conventions if one.metric else ():
            effects = (_rescored if one.rescored else _shifted)(groups, one.metric, convention, n_outcomes)
            found |= {(arm, one.name, convention): effect for arm, effect in effects.items()}
    return found


def _rescored(groups: _Groups, metric: str, convention: str, n_outcomes: int) -> dict[str, _Effect]:
    own = {
        arm: _estimate(metric, convention, _between(groups[arm, BEFORE], groups[arm, AFTER], n_outcomes))
        for arm in ARMS
    }
    base = own[BASE]
    return {
        arm: _Effect(own[arm].value - base.value, min(_smaller(own[arm]), _smaller(base)), base.value, own[arm].value)
        for arm in _EDITED
    }


def _shifted(groups: _Groups, metric: str, convention: str, n_outcomes: int) -> dict[str, _Effect]:
    own = {
        arm: _estimate(metric, convention, _between(groups[BASE, AFTER], groups[arm, AFTER], n_outcomes))
        for arm in _EDITED
    }
    return {arm: _Effect(shift.value, _smaller(shift)) for arm, shift in own.items()}


_NO_DRAWS = np.random.default_rng(0)  # of estimates without intervals of their own, which draw nothing


def _estimate(metric: str, convention: str, at: Estimator, rng: np.random.Generator = _NO_DRAWS) -> Estimate:
    return METRICS[metric].measure.estimated(at, convention, rng)


def _between(here: Rollouts, after: Rollouts, n_outcomes: int, n_bootstrap: int = 0) -> Estimator:
    nothing = Rollouts.none()
    return Estimator("", here, after, nothing, nothing, n_bootstrap=n_bootstrap, seed=0, n_outcomes=n_outcomes)


def _own_interval(groups: _Groups, key: _Key, n_outcomes: int, seed: int) -> Interval:
    """Of a shift: draws of samples would be further apart than the samples are."""
    arm, quantity, convention = key
    at = _between(groups[BASE, AFTER], groups[arm, AFTER], n_outcomes, n_bootstrap=1)
    rng = np.random.default_rng(seed_for("shift of the answers", seed, arm))
    return _estimate(QUANTITIES[quantity].metric, convention, at, rng).interval


def _drawn(groups: _Groups, rng: np.random.Generator) -> _Groups:
    """Samples drawn with replacement by their numbers, the same in every arm."""
    rows = {start: rng.integers(n, size=n) for start in STARTS for n in [len(groups[BASE, start])]}
    return {(arm, start): own.taken(rows[start]) for (arm, start), own in groups.items()}


def _groups(samples: pd.DataFrame) -> _Groups:
    ordered = samples.sort_values(["arm", "start", "sample"], ignore_index=True)
    numbers = {key: tuple(rows["sample"]) for key, rows in ordered.groupby(["arm", "start"])}
    for start in STARTS:
        if len({numbers.get((arm, start)) for arm in ARMS}) != 1:
            raise ValueError(f"the arms have other samples {start} the chunk; each needs the same numbers")
    named = ordered.assign(chunk_id=ordered["arm"], kind=ordered["start"], answer_cluster=ordered["cluster"])
    return {(str(arm), start): rows for (arm, start), rows in grouped(named).items()}


def _smaller(found: Estimate) -> int:
    return int(found.n if found.n_comparator is None else min(found.n, found.n_comparator))


def _row(key: _Key, effect: _Effect, draws: np.ndarray) -> dict[str, Any]:
    interval = effect.interval or (bootstrap_percentile(draws) if effect.n > 1 else UNKNOWN)
    low, high = UNKNOWN if math.isnan(effect.value) else interval
    numbers = {"value": effect.value, "ci_low": low, "ci_high": high}
    numbers |= {"unsteered": effect.unsteered, "steered": effect.steered}
    known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    return {**dict(zip(("arm", "quantity", "convention"), key, strict=True)), **known, "n": effect.n}
