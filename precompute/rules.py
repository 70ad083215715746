"""A stage's RULE is a number that is raised when what it computes changes: it stands in the keys of its units, so that
those of an older rule are computed again. The pipeline puts it there; a stage only says the number.

A unit without a rule is one of rule 1. Some stages said theirs from the first number on (`_SAID_FROM_THE_FIRST`), and
chunks have a rule for each text: what a stage put into its units' inputs itself stays.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from precompute.units import Context, Stage, Unit

_SAID_FROM_THE_FIRST = frozenset(
    {
        "importance",
        "resilience",
        "neighbourhoods",
        "geometry",
        "before_after",
        "codes",
        "features",
        "splices",
        "ablations",
        "evidence",
        "crosscoder.file",  # of that stage only the unit of a dictionary that was brought
    }
)  # closed: the keys of stored units depend on it, and a stage to come says its rule from 2 on


@dataclass(frozen=True)
class Raised:
    """Units of a stage that are stored as an older rule made them."""

    stage: str
    old: int  # the newest of their rules
    new: int
    units: int

    def in_words(self) -> str:
        return (
            f"the rule of {self.stage} was raised from {self.old} to {self.new}: {self.units} units are computed again"
        )


def units_of(stage: Stage, context: Context) -> list[Unit]:
    """What the stage asks for, with its rule in every key."""
    return [_under(stage, unit, rule_of(stage)) for unit in stage.units(context)]


def rule_of(stage: Stage) -> int:
    """Its RULE; 1 where a stage that was made elsewhere says none. Ours all say it."""
    return int(getattr(stage, "RULE", 1))


def raised(stage: Stage, units: Sequence[Unit], stored: Collection[str]) -> Raised | None:
    """Which of these units, of `units_of`, are among the `stored` keys under an older rule alone."""
    lacking = [unit for unit in units if unit.lacking(stored) is not None]
    older = [rule for unit in lacking for rule in [_stored_rule(stage, unit, stored)] if rule]
    return Raised(stage.NAME, max(older), max(map(_rule, units)), len(older)) if older else None


def _stored_rule(stage: Stage, unit: Unit, stored: Collection[str]) -> int | None:
    """The newest older rule under which the unit is stored."""
    for rule in range(_rule(unit) - 1, 0, -1):
        if _under(stage, _without(unit), rule).lacking(stored) is None:
            return rule
    return None


def _rule(unit: Unit) -> int:
    return int(unit.inputs.get("rule", 1))


def _without(unit: Unit) -> Unit:
    inputs = {name: value for name, value in unit.inputs.items() if name != "rule"}
    return replace(unit, inputs=inputs, parts=tuple(map(_without, unit.parts)))


def _under(stage: Stage, unit: Unit, rule: int) -> Unit:
    if rule == 1 and _SAID_FROM_THE_FIRST.isdisjoint((stage.NAME, f"{stage.NAME}.{unit.unit_id}")):
        return unit
    parts = tuple(_under(stage, part, rule) for part in unit.parts)
    return replace(unit, inputs={"rule": rule, **unit.inputs}, parts=parts)
