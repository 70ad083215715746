"""The rule by which a law is claimed, as functions of numbers: only what is left within CoTs shows one.

Every condition must hold. The thresholds were chosen on worlds whose truth is known, made in two ways that share
nothing (tests/simulated_studies.py); `python benchmarks/evidence.py` prints how often a law is claimed in each, and
docs/evidence.md says what it printed. Both tests of both correlations at 0.01 keep false claims near 0.5 %, also where
chunks of a chain resemble their neighbours. The functions take numbers or arrays of many planted worlds (`power`)
alike: there is one rule. `verdict.py` applies it to what was found on one pair.
"""

import math
from typing import Any

P_ALONE, Q_GRID, P_PARTS, LEAST_PROBLEMS = 0.01, 0.05, 0.05, 5

RULE = (
    "An association is one within chains of thought: what differs between problems or chains decides nothing. It is"
    f" claimed where this holds: chance rarely does as well (importance permuted within CoTs: p at most {P_ALONE},"
    f" and over a grid of pairs q at most {Q_GRID}); at least {LEAST_PROBLEMS} problems agree (their own sums differ"
    f" from 0 with p at most {P_ALONE}, and the interval of ρ within CoTs that resamples problems lies on one side of"
    f" 0); the sign stays, and both p are at most {P_ALONE}, when the covariates are held fixed, where any are known;"
    f" neither whether importance is above 0, nor how large it is then, runs the other way with p at most {P_PARTS};"
    " and the two are measured apart: not on the same rollouts, nor along a direction made from these."
)


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
