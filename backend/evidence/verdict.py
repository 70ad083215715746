"""Whether a law is claimed: only where what is left within CoTs shows it. Effects of problems and CoTs decide nothing.

Every condition must hold. The thresholds were chosen on worlds whose truth is known, made in two ways that share
nothing (tests/simulated_studies.py); `python benchmarks/evidence.py` prints how often a law is claimed in each, and
docs/evidence.md says what it printed. Both tests of both correlations at 0.01 keep false claims near 0.5 %, also where
chunks of a chain resemble their neighbours. The functions from `chance_is_rare` to `parts_agree` take numbers or arrays
of many planted worlds (`power`) alike: there is one rule.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.evidence.pairs import Evidence

P_ALONE, Q_GRID, P_PARTS, LEAST_PROBLEMS = 0.01, 0.05, 0.05, 5

RULE = (
    "A law is one within chains of thought: what differs between problems or chains decides nothing. It is claimed"
    f" where this holds: chance rarely does as well (importance permuted within CoTs: p at most {P_ALONE}, and over a"
    f" grid of pairs q at most {Q_GRID}); at least {LEAST_PROBLEMS} problems agree (their own sums differ from 0 with p"
    f" at most {P_ALONE}, and the interval of ρ within CoTs that resamples problems lies on one side of 0); the sign"
    f" stays, and both p are at most {P_ALONE}, when the covariates are held fixed, where any are known; neither"
    f" whether importance is above 0, nor how large it is then, runs the other way with p at most {P_PARTS}; and the"
    " two are measured apart: not on the same rollouts, nor along a direction made from these."
)


@dataclass(frozen=True)
class Condition:
    words: str
    holds: bool


def chance_is_rare(p: Any) -> Any:
    return p <= P_ALONE


def problems_agree(low: Any, high: Any, p_problems: Any, n_problems: int) -> Any:
    return (low * high > 0) & (p_problems <= P_ALONE) & (n_problems >= LEAST_PROBLEMS)


def outlives(rho: Any, p: Any, p_problems: Any, sign: Any) -> Any:
    """The correlation given the covariates against the sign without them."""
    return (rho * sign > 0) & (p <= P_ALONE) & (p_problems <= P_ALONE)


def parts_agree(effect: Any, p: Any, sign: Any) -> Any:
    """`effect` is less what chance gives. One that is unknown cannot speak against."""
    return ((effect * sign < 0) & (p <= P_PARTS)) ^ True  # not `~`, which makes −2 of True


def decisive_p(p: Any, partial_p: float | None) -> Any:
    """What q is made of: the law must show with and without the covariates, so the larger of the two; p alone where
    none were held.
    """
    return p if partial_p is None or math.isnan(partial_p) else max(p, partial_p)


def verdict(evidence: "Evidence") -> str:
    """inverse, direct, or none. "none" says that no law was shown, not that there is none: see `power`."""
    if not all(condition.holds for condition in conditions(evidence)):
        return "none"
    return "inverse" if evidence.within.rho < 0 else "direct"


def conditions(evidence: "Evidence", names: Mapping[str, str] | None = None) -> tuple[Condition, ...]:
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
