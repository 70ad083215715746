"""`Evidence`: all that was found on one pair at one subset."""

import math
from dataclasses import dataclass

from backend.evidence.association import Association
from backend.evidence.kendall import Kendall
from backend.evidence.laws import Fit, TheilSen
from backend.evidence.mixed import Mixed
from backend.evidence.partial import Partial
from backend.evidence.power import Power
from backend.evidence.rule import P_ALONE
from backend.evidence.within import Within
from backend.evidence.zero_inflated import ZeroInflated


@dataclass(frozen=True)
class Evidence:
    """Unknown numbers are NaN; `notes` and `mixed.note` say why."""

    subset: str  # all, or away_from_origin (see sample.py)
    rank: Association
    within: Within
    kendall: Kendall
    partial: Partial
    zero_inflated: ZeroInflated
    fits: tuple[Fit, ...]  # empty where it was not asked for
    theil_sen: TheilSen
    mixed: Mixed
    power: Power
    q: float = math.nan  # Benjamini and Hochberg's over a grid of pairs; NaN for a pair alone
    p_allowed: float = P_ALONE  # what p may be at most for a law to be claimed: in a grid q may ask for less
    shared: str = ""  # why x and y are not measured apart (multiple.py): then no law is claimed

    @property
    def notes(self) -> tuple[str, ...]:
        return self.rank.notes

    @property
    def runs_the_other_way(self) -> bool:
        """Whether ρ over all chunks and ρ within CoTs have different signs, and either is beyond its interval."""
        within, rank = self.within, self.rank
        return disagree(within.rho, (within.low, within.high), rank.spearman, (rank.ci_low, rank.ci_high))


def disagree(rho: float, interval: tuple[float, float], other: float, other_interval: tuple[float, float]) -> bool:
    """Whether two correlations differ in sign and the interval of either does not contain 0.

    Unknown disagrees with nothing.
    """
    return rho * other < 0 and any(low * high > 0 for low, high in (interval, other_interval))
