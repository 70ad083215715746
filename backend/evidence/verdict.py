"""Whether a law is claimed. Every condition must hold; the thresholds were chosen on simulated studies (tests/simulated_studies.py).

Of 200 studies of 600 chunks each, a law was claimed in 1 % of those without one, be it problem effects, an L-shape, or a common cause that
is held fixed (0.5 %). An inverse law was found in 98 % where rho within CoTs is −0.22 on average, in 95 % at −0.19, and in 74 % at −0.15:
a weaker law, or a smaller study, is likely to be missed, and "none" does not say that there is no law. With p at most 0.05 in place of 0.01
L-shapes are claimed in up to 5 %.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.evidence.pairs import Evidence

P_ALONE, Q_GRID, P_PARTS, LEAST_PROBLEMS = 0.01, 0.05, 0.05, 5

RULE = (
    "A law is claimed where all of this holds: "
    f"chance rarely does as well (importance permuted within CoTs: p at most {P_ALONE}, and over a grid of pairs q at most {Q_GRID}); "
    f"the interval of ρ over at least {LEAST_PROBLEMS} problems lies on one side of 0, and that of ρ within CoTs lies on the same side; "
    f"the sign stays, with p at most {P_PARTS}, when the covariates are held fixed, where any are known; "
    f"neither whether importance is above 0, nor how large it is then, runs the other way with p at most {P_PARTS}; "
    "and the two are measured apart: not on the same rollouts, nor along a direction made from these."
)


@dataclass(frozen=True)
class Condition:
    words: str
    holds: bool


def verdict(evidence: "Evidence") -> str:
    """inverse, direct, or none. "none" says that no law was shown, not that there is none."""
    if not all(condition.holds for condition in conditions(evidence)):
        return "none"
    return "inverse" if evidence.rank.spearman < 0 else "direct"


def conditions(evidence: "Evidence", names: Mapping[str, str] | None = None) -> tuple[Condition, ...]:
    """Each condition with its numbers. What is unknown does not hold, but for covariates and parts: there it cannot speak against.

    `names` says what the covariates are called.
    """
    rank, within, given, parts = evidence.rank, evidence.within, evidence.partial, evidence.zero_inflated
    sign = math.copysign(1, rank.spearman) if rank.spearman else math.nan
    found = [
        Condition(f"p within CoTs = {_shown(rank.p_permutation)}, at most {P_ALONE}", rank.p_permutation <= P_ALONE),
        Condition(
            f"95 % interval of ρ [{_shown(rank.ci_low)}, {_shown(rank.ci_high)}] over {rank.n_problems} problems: on one side of 0, "
            f"at least {LEAST_PROBLEMS} problems",
            rank.ci_low * rank.ci_high > 0 and rank.n_problems >= LEAST_PROBLEMS,
        ),
        Condition(
            f"95 % interval of ρ within CoTs [{_shown(within.low)}, {_shown(within.high)}]: on the same side of 0",
            within.low * sign > 0 and within.high * sign > 0,
        ),
    ]
    if not math.isnan(evidence.q):
        found.append(Condition(f"q over the grid = {_shown(evidence.q)}, at most {Q_GRID}", evidence.q <= Q_GRID))
    if not math.isnan(given.rho):
        held = ", ".join((names or {}).get(name, name) for name in given.covariates)
        words = f"ρ given {held} = {_shown(given.rho)}, p = {_shown(given.p)}: the same sign, p at most {P_PARTS}"
        found.append(Condition(words, given.rho * sign > 0 and (given.rho - given.null_mean) * sign > 0 and given.p <= P_PARTS))
    for what, effect, by_chance, p in (
        ("AUC of importance above 0", parts.auc, parts.auc_null_mean, parts.auc_p),
        ("ρ among importances above 0", parts.positive_spearman, parts.positive_null_mean, parts.positive_p),
    ):
        words = f"{what} = {_shown(effect)} ({_shown(by_chance)} by chance), p = {_shown(p)}: not the other way"
        found.append(Condition(words, not ((effect - by_chance) * sign < 0 and p <= P_PARTS)))
    if evidence.shared:
        found.append(Condition(f"measured apart: no, {evidence.shared}", False))
    return tuple(found)


def _shown(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2g}".replace("-", "−")
