"""The answer in a few sentences: is x inversely related to y within chains here, how strongly, would chance do as well,
and what is a "none" worth? The correlation over all chunks is said beside it, and that it runs the other way where it
does.
"""

import math
from collections.abc import Mapping

from backend.evidence.power import OFTEN, SAID, Power
from backend.evidence.record import Evidence
from backend.evidence.rule import P_ALONE
from backend.evidence.verdict import conditions, verdict


def in_words(
    evidence: Evidence, *, x_name: str, y_name: str, where: str, names: Mapping[str, str] | None = None
) -> str:
    """`where` says the direction, layer and position ("" leaves it out), `names` what covariates are called.

    Unknown is said to be so.
    """
    rank, within, there = evidence.rank, evidence.within, f" ({where})" if where else ""
    sample = f"{rank.n} chunks of {rank.n_cots} CoTs of {rank.n_problems} problems"
    if evidence.subset == "away_from_origin":
        sample += ", those near the origin left out"
    if math.isnan(within.rho):
        why = (
            f": {rank.notes[0]}"
            if math.isnan(rank.spearman) and rank.notes
            else ": no CoT has two chunks that differ in both"
        )
        return f"Whether {x_name} is related to {y_name} here{there} is unknown{why} ({sample})."
    claimed = verdict(evidence)
    opening = {
        "inverse": f"{x_name} is inversely related to {y_name} here{there}",
        "direct": f"{x_name} is directly, not inversely, related to {y_name} here{there}",
        "none": f"No association between {x_name} and {y_name} is shown here{there}",
    }[claimed]
    how = (
        f"within CoTs ρ = {signed(within.rho)}, {_strength(within.rho)}, {_interval(within.low, within.high)}, over"
        f" {sample}"
    )
    worth = f" {power_in_words(evidence)}" if claimed == "none" and not evidence.shared else ""
    return f"{_capital(opening)}: {how}. {_beside(evidence)} {_chance(evidence, names)}{worth}"


def power_in_words(evidence: Evidence) -> str:
    """What would have been found: the share for ρ = −0.25, and from which size on 9 in 10 are."""
    power, p = evidence.power, evidence.p_allowed
    if not power.n:
        return f"How strong an association would have been found is unknown: {power.note or 'it was not worked out'}."
    least, grid = power.least(p), "" if p >= P_ALONE else f" among all pairs, where p must be at most {p:.2g}"
    alone = power.at(SAID)
    if math.isnan(alone):
        said = f"However importance is arranged within CoTs, ρ there does not reach {signed(SAID)}"
    else:
        said = f"ρ = {signed(SAID)} within CoTs would have been found {_times(alone)}" + (
            " as a pair by itself" if grid else ""
        )
    return f"{said}; {_from(power, least)}{grid}."


def _from(power: Power, least: float) -> str:
    if math.isnan(least):
        return f"not even ρ = {signed(min(power.rho))} is found {_times(OFTEN)}"
    return f"{_times(OFTEN)} from ρ = {signed(least)} on"


def _times(share: float) -> str:
    tenths = math.floor(share * 10 + 1e-9)
    if tenths < 2:
        return "hardly ever" if share < 0.05 else "once in 10" if tenths else "less than once in 10"
    return f"{tenths} times in 10"


def _beside(evidence: Evidence) -> str:
    rank = evidence.rank
    said = f"Over all chunks ρ = {signed(rank.spearman)}, {_interval(rank.ci_low, rank.ci_high)}"
    if evidence.runs_the_other_way:
        return (
            f"{said}, which runs the other way: there what differs between problems and CoTs outweighs what happens"
            " within them."
        )
    return f"{said}."


def _chance(evidence: Evidence, names: Mapping[str, str] | None) -> str:
    rank, within = evidence.rank, evidence.within
    if math.isnan(rank.p_permutation):
        return "Whether chance would do as well is unknown: no permutation of importance within CoTs could be made."
    band = (
        f"when importance is shuffled within CoTs, ρ there falls between {signed(within.null_low)} and"
        f" {signed(within.null_high)}"
    )
    p = f"p {_p(rank.p_permutation, rank.n_permutations)}"
    q = "" if math.isnan(evidence.q) else f", q = {evidence.q:.2g} over all pairs"
    is_outside = within.rho < within.null_low or within.rho > within.null_high
    if P_ALONE < rank.p_permutation <= 0.05 and is_outside:
        return (
            f"Chance seldom does as well: {band} ({p}{q}). But this does not hold:"
            f" {'; '.join(_broken(evidence, names))}."
        )
    if rank.p_permutation > P_ALONE:
        verb = "Chance does" if rank.p_permutation > 0.05 else "Chance may do"
        apart = f" And it could not be claimed: {evidence.shared}." if evidence.shared else ""
        return f"{verb} as well: {band} ({p}{q}).{apart}"
    broken = _broken(evidence, names)
    but = f" But this does not hold: {'; '.join(broken)}." if broken else ""
    return f"Chance would not do as well: {band} ({p}{q}).{but}"


def _broken(evidence: Evidence, names: Mapping[str, str] | None) -> list[str]:
    """The conditions of the rule that do not hold."""
    return [condition.words for condition in conditions(evidence, names) if not condition.holds]


def _interval(low: float, high: float) -> str:
    return "95 % interval unknown" if math.isnan(low) else f"95 % interval [{signed(low)}, {signed(high)}]"


def _strength(rho: float) -> str:
    """Cohen's (1988) steps for a correlation."""
    size = abs(rho)
    return "next to nothing" if size < 0.1 else "weak" if size < 0.3 else "moderate" if size < 0.5 else "strong"


def signed(value: float) -> str:
    """A correlation in words, with a real minus sign."""
    return "unknown" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _p(value: float, n_permutations: int) -> str:
    return f"≤ {value:.2g}" if value <= 1 / (n_permutations + 1) else f"= {value:.2g}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
