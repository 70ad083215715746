"""What a dictionary should reach before its features are read: bars of this project, met or not."""

import math
from dataclasses import dataclass

DEAD_MOST, EXPLAINED_LEAST, RECOVERED_LEAST = 0.15, 0.85, 0.95


@dataclass(frozen=True)
class Bar:
    what: str
    wanted: str
    value: float  # NaN where it is not measured
    is_met: bool | None  # None where it is not measured


def bars(dead_share: float, explained: dict[str, float], recovered: dict[str, float]) -> list[Bar]:
    """Dead share of the features, and by model the variance explained and the loss recovered (of zero)."""
    return [
        _bar("dead features", f"at most {DEAD_MOST:.0%}", dead_share, dead_share <= DEAD_MOST),
        *(
            _bar(f"variance explained, {model}", f"at least {EXPLAINED_LEAST}", value, value >= EXPLAINED_LEAST)
            for model, value in explained.items()
        ),
        *(
            _bar(f"loss recovered, {model}", f"at least {RECOVERED_LEAST}", value, value >= RECOVERED_LEAST)
            for model, value in recovered.items()
        ),
    ]


def _bar(what: str, wanted: str, value: float, is_met: bool) -> Bar:
    return Bar(what, wanted, value, None if math.isnan(value) else bool(is_met))
