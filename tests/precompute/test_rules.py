"""A stage's rule stands in the keys of its units; what was stored before there were rules goes on counting."""

from types import SimpleNamespace

import pytest

from precompute.rules import raised, units_of
from precompute.stages import STAGES, crosscoder, sweep
from precompute.units import Unit


def stage(of: int, name: str = "sweep", **inputs) -> SimpleNamespace:
    return SimpleNamespace(NAME=name, UNIT="CoT", RULE=of, units=lambda _: [Unit("m.c", {"seed": 1, **inputs})])


def keys(of: SimpleNamespace) -> set[str]:
    return {unit.key for unit in units_of(of, None)}


def test_rule_one_leaves_the_keys_that_stored_units_have():
    assert keys(stage(1)) == {"m.c@fbe47f6d82b435a8"}


def test_a_stage_that_said_its_rule_from_the_first_keeps_saying_it():
    assert keys(stage(1, "geometry")) == keys(stage(1, "other", rule=1)) != keys(stage(1))


def test_a_raised_rule_changes_every_key_and_is_said_with_its_number_of_units():
    stored = keys(stage(1))
    units = units_of(stage(3), None)
    assert not stored & {unit.key for unit in units}
    found = raised(stage(3), units, stored)
    assert found.in_words() == "the rule of sweep was raised from 1 to 3: 1 units are computed again"


def test_a_raised_rule_is_of_the_parts_of_an_earlier_format_too():
    def in_parts(rule: int) -> SimpleNamespace:
        return SimpleNamespace(
            NAME="rollouts", RULE=rule, units=lambda _: [Unit("c", {}, (Unit("c.x", {}), Unit("c.y", {})))]
        )

    (old,), (new,) = units_of(in_parts(1), None), units_of(in_parts(2), None)
    stored = {part.key for part in old.parts}
    assert old.lacking(stored) is None and raised(in_parts(1), [old], stored) is None
    assert [part.unit_id for part in new.lacking(stored).parts] == ["c.x", "c.y"], "all of it is left to do"
    assert raised(in_parts(2), [new], stored).in_words().endswith("from 1 to 2: 1 units are computed again")


def test_units_that_were_never_computed_are_no_units_of_an_older_rule():
    assert raised(stage(2), units_of(stage(2), None), set()) is None
    assert raised(stage(1), units_of(stage(1), None), keys(stage(1))) is None


def test_what_a_unit_says_of_its_own_text_stays():
    assert keys(stage(5, "chunks", rule=2)) == keys(stage(1, "chunks", rule=2))


@pytest.mark.parametrize("module", STAGES, ids=lambda module: module.NAME)
def test_every_stage_has_a_rule(module):
    assert isinstance(module.RULE, int) and module.RULE >= 1


def test_a_brought_dictionary_says_its_rule_and_a_trained_one_does_not():
    one = SimpleNamespace(NAME=crosscoder.NAME, RULE=1, units=lambda _: [Unit("file", {}), Unit("texts-0", {})])
    file, texts = units_of(one, None)
    assert file.inputs == {"rule": 1} and texts.inputs == {}
    assert sweep.RULE == 1  # of which stored units have no word
