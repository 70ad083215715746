"""Every module of precompute/stages is a whole stage that runs in its turn; the plan asks each what it costs."""

import pkgutil
from types import SimpleNamespace

import pytest

from backend.schema.tables import FILLED
from backend.store.unit_files import StudyFolder
from precompute import stages
from precompute.estimates import Estimate
from precompute.plan import raised_rules, what_it_costs
from precompute.rules import Raised, units_of
from precompute.study import Study
from precompute.units import Unit
from tests import small_study

ON_ITS_OWN = {"interventions"}  # is asked for on a page, not by a study file: it runs after all stages


def test_every_module_is_registered_once():
    names = [stage.NAME for stage in stages.STAGES]
    assert sorted(names) == sorted({one.name for one in pkgutil.iter_modules(stages.__path__)} - ON_ITS_OWN)


def test_every_stage_has_words_for_where_it_has_not_run():
    assert {stage.NAME for stage in stages.STAGES} | ON_ITS_OWN == set(FILLED)
    for filled in FILLED.values():
        assert filled.none[-1] in ".:" and "{" not in filled.none, filled
        assert (filled.of is None) == (filled.done is None), "counted of what"
        assert filled.some is None or filled.some.format(left=1, of=2).startswith("1 of 2 "), filled
    unsaid = SimpleNamespace(**{name: getattr(stages.sweep, name) for name in stages.PARTS} | {"NAME": "unsaid"})
    with pytest.raises(TypeError, match="The stage unsaid has no words"):
        stages.whole(unsaid)


def test_a_stage_that_no_study_has_unasked_says_what_to_put_into_the_study_file():
    asked = {name for name, field in Study.model_fields.items() if field.default is None} & set(FILLED)
    asked -= {"problems", "crosscoder"}  # for a dictionary the page says more: which models it needs
    assert {"geometry", "random_steps", "anchors", "causation"} <= asked
    assert [name for name in sorted(asked) if f"[{name}]" not in FILLED[name].none] == []


@pytest.mark.parametrize("part", [part for part in stages.PARTS if part != "NAME"])
def test_a_stage_with_a_part_left_out_is_refused_by_name(part):
    parts = {name: getattr(stages.sweep, name) for name in stages.PARTS}
    assert stages.whole(SimpleNamespace(**parts)).NAME == "sweep"
    del parts[part]
    with pytest.raises(TypeError, match=f"The stage sweep has no {part}"):
        stages.whole(SimpleNamespace(**parts))


def test_the_plan_says_whose_rule_was_raised_and_what_that_costs(tmp_path):
    folder = StudyFolder(small_study.make(tmp_path / "small"))

    def stage(rule: int) -> SimpleNamespace:
        return SimpleNamespace(NAME="counts", RULE=rule, units=lambda _: [Unit("a", {}), Unit("b", {})])

    with folder.writing("test") as writer:
        writer.add("counts", units_of(stage(1), None)[0].key, {})
    assert raised_rules(None, folder, stages=[stage(1)]) == []
    (again,) = raised_rules(None, folder, stages=[stage(2)])
    assert again == Raised("counts", 1, 2, 1)
    assert what_it_costs(again, [Estimate("counts", 2, 1, 0, 180.0, 0.0)]).endswith(
        "raised from 1 to 2: 1 units are computed again, in about 1.5 minutes of a core"
    )
    assert what_it_costs(again, []).endswith("for a time that is unknown")
