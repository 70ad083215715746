"""The answer in one or two sentences: is x inversely related to y here, how strongly, and would chance do as well?"""

import math
from collections.abc import Mapping

from backend.evidence.pairs import Evidence
from backend.evidence.verdict import P_ALONE, conditions, verdict


def in_words(evidence: Evidence, *, x_name: str, y_name: str, where: str, names: Mapping[str, str] | None = None) -> str:
    """`where` says the direction, layer and position ("" leaves it out), `names` what covariates are called. Unknown is said to be so."""
    rank, place = evidence.rank, f" ({where})" if where else ""
    sample = f"{rank.n} chunks of {rank.n_cots} CoTs of {rank.n_problems} problems"
    if evidence.subset == "away_from_origin":
        sample += ", those near the origin left out"
    if math.isnan(rank.spearman):
        why = f": {rank.notes[0]}" if rank.notes else ""
        return f"Whether {x_name} is related to {y_name} here{place} is unknown{why} ({sample})."
    opening = {
        "inverse": f"{x_name} is inversely related to {y_name} here{place}",
        "direct": f"{x_name} is directly, not inversely, related to {y_name} here{place}",
        "none": f"No law between {x_name} and {y_name} is shown here{place}",
    }[verdict(evidence)]
    how = f"Spearman ρ = {_signed(rank.spearman)}, {_strength(rank.spearman)}, {_interval(evidence)}"
    return f"{_capital(opening)}: {how}, over {sample}. {_chance(evidence, names)}"


def _chance(evidence: Evidence, names: Mapping[str, str] | None) -> str:
    rank = evidence.rank
    if math.isnan(rank.p_permutation):
        return "Whether chance would do as well is unknown: no permutation of importance within CoTs could be made."
    band = f"when importance is shuffled within CoTs, ρ falls between {_signed(rank.null_low)} and {_signed(rank.null_high)}"
    p = f"p {_p(rank.p_permutation, rank.n_permutations)}"
    q = "" if math.isnan(evidence.q) else f", q = {evidence.q:.2g} over all pairs"
    if rank.p_permutation > P_ALONE:
        verb = "Chance does" if rank.p_permutation > 0.05 else "Chance may do"
        apart = f" And it could not be claimed: {evidence.shared}." if evidence.shared else ""
        return f"{verb} as well: {band} ({p}{q}).{apart}"
    broken = [condition.words for condition in conditions(evidence, names) if not condition.holds]
    but = f" But this does not hold: {'; '.join(broken)}." if broken else ""
    return f"Chance would not do as well: {band} ({p}{q}).{but}"


def _interval(evidence: Evidence) -> str:
    rank = evidence.rank
    return "95 % interval unknown" if math.isnan(rank.ci_low) else f"95 % interval [{_signed(rank.ci_low)}, {_signed(rank.ci_high)}]"


def _strength(rho: float) -> str:
    """Cohen's (1988) steps for a correlation."""
    size = abs(rho)
    return "next to nothing" if size < 0.1 else "weak" if size < 0.3 else "moderate" if size < 0.5 else "strong"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _p(value: float, n_permutations: int) -> str:
    return f"≤ {value:.2g}" if value <= 1 / (n_permutations + 1) else f"= {value:.2g}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
