"""Whether a law is claimed on one pair, and each condition of the rule (`rule.py`) with its numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from backend.evidence.record import Evidence
from backend.evidence.rule import (
    LEAST_PROBLEMS,
    P_ALONE,
    Q_GRID,
    chance_is_rare,
    outlives,
    parts_agree,
    problems_agree,
)


@dataclass(frozen=True)
class Condition:
    words: str
    holds: bool


def verdict(evidence: Evidence) -> str:
    """inverse, direct, or none. "none" says that no law was shown, not that there is none: see `power`."""
    if not all(condition.holds for condition in conditions(evidence)):
        return "none"
    return "inverse" if evidence.within.rho < 0 else "direct"


def conditions(evidence: Evidence, names: Mapping[str, str] | None = None) -> tuple[Condition, ...]:
    """Each condition with its numbers. What is unknown does not hold, but for covariates and parts: there it cannot
    speak against.

    `names` says what the covariates are called.
    """
    rank, within, given, parts = evidence.rank, evidence.within, evidence.partial, evidence.zero_inflated
    sign = math.copysign(1, within.rho) if within.rho else math.nan
    found = [
        Condition(
            f"p within CoTs = {_shown(rank.p_permutation)}, at most {P_ALONE}", chance_is_rare(rank.p_permutation)
        ),
        Condition(
            f"{rank.n_problems} problems agree, at least {LEAST_PROBLEMS}: p over problems ="
            f" {_shown(within.p_problems)}, at most {P_ALONE}, and 95 % interval of ρ within CoTs"
            f" [{_shown(within.low)}, {_shown(within.high)}] on one side of 0",
            problems_agree(within.low, within.high, within.p_problems, rank.n_problems),
        ),
    ]
    if not math.isnan(evidence.q):
        found.append(Condition(f"q over the grid = {_shown(evidence.q)}, at most {Q_GRID}", evidence.q <= Q_GRID))
    if not math.isnan(given.rho):
        held = ", ".join((names or {}).get(name, name) for name in given.covariates)
        words = (
            f"ρ within CoTs given {held} = {_shown(given.rho)}, p = {_shown(given.p)}, p over problems ="
            f" {_shown(given.p_problems)}: the same sign, both p at most {P_ALONE}"
        )
        found.append(Condition(words, outlives(given.rho, given.p, given.p_problems, sign)))
    for what, effect, by_chance, p in (
        ("AUC of importance above 0", parts.auc, parts.auc_null_mean, parts.auc_p),
        ("ρ among importances above 0", parts.positive_spearman, parts.positive_null_mean, parts.positive_p),
    ):
        words = f"{what} = {_shown(effect)} ({_shown(by_chance)} by chance), p = {_shown(p)}: not the other way"
        found.append(Condition(words, parts_agree(effect - by_chance, p, sign)))
    if evidence.shared:
        found.append(Condition(f"measured apart: no, {evidence.shared}", False))
    return tuple(Condition(condition.words, bool(condition.holds)) for condition in found)


def _shown(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2g}".replace("-", "−")
