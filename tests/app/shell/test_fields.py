"""What can be chosen is declared once, and old words still say what they said."""

import pytest

from app import views
from app.shell import fields, selection
from app.shell.fields import FIELDS, FORMER, SWITCH, Decimal, Field, Whole, declare
from backend.errors import AnchorscopeError

RUNS = {"run", "second_run", "token", "chunk_reworded", "chunk_paraphrased"}
TYPED = {"own_text", "own_question", "own_chain", "own_answer", "own_prompt"}


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """Everything that pages declare, and a session of its own."""
    views.registered()
    state: dict = {}
    monkeypatch.setattr(selection.st, "session_state", state)
    return state


@pytest.fixture
def tint():
    yield declare(Field("tint", "tint of the panel", ("red", "blue"), "blue"))
    FIELDS.remove("tint")


@pytest.mark.parametrize("part", [{"name": ""}, {"words": ""}, {"words": None}])
def test_a_choice_without_one_of_its_parts_is_not_taken(part):
    with pytest.raises(AnchorscopeError, match=f"choice needs {next(iter(part))}"):
        declare(Field(**({"name": "tint", "words": "tint", "allowed": None} | part)))
    assert "tint" not in FIELDS


def test_two_declarations_of_one_name_are_an_error(tint):
    with pytest.raises(AnchorscopeError, match="There is a choice 'tint' already"):
        declare(Field("tint", "another tint", None))


@pytest.mark.parametrize(
    "use",
    [
        lambda: selection.get("hue"),
        lambda: selection.choose(hue="red"),
        lambda: selection.forget_unknown("hue"),
        lambda: selection.stand_in("hue", "red", "blue"),
        lambda: selection.checked(Field("hue", "hue", SWITCH)),
    ],
)
def test_a_choice_that_nobody_declared_is_an_error(use, session):
    with pytest.raises(AnchorscopeError, match="There is no choice 'hue'"):
        use()
    assert not session.get("selection")


def test_a_declaration_is_not_another_of_its_name(tint):
    with pytest.raises(AnchorscopeError, match="not declared, but another"):
        selection.get(Field("tint", "tint", None))


def test_a_choice_is_had_by_its_declaration_and_by_its_name(tint):
    selection.choose({tint: "red"})
    assert selection.get(tint) == selection.get("tint") == "red"
    selection.choose(tint=None)
    assert selection.get(tint) is None and selection.checked(tint) == "blue"


def test_a_value_that_is_had_elsewhere_stays_and_any_other_is_forgotten(tint):
    selection.choose({tint: "red"})
    assert selection.checked(tint, ["blue"]) == "blue" and selection.get(tint) == "red"
    assert selection.stand_ins() == [("tint", "red", "blue")] and not selection.notes()
    selection.choose({tint: "seventh"})
    assert selection.checked(tint) == "blue" and selection.get(tint) is None and selection.notes() == ["tint"]


@pytest.mark.parametrize("widget", [selection.pick_whole, lambda *of: selection.pick_decimal(*of, step=1)])
def test_a_number_is_asked_only_where_one_is_declared(tint, widget):
    with pytest.raises(AnchorscopeError, match="not declared as numbers"):
        widget(tint, "Tint", 1)
    with pytest.raises(AnchorscopeError, match="are no list"):
        _ = Field("n", "n", Whole(0, 9)).options


def test_numbers_are_taken_within_their_bounds():
    assert [Whole(1, 64)(text) for text in ("1", "64", "0", "65", "-1", "1.5", "", "²", "9" * 20)] == [True] * 2 + [
        False
    ] * 7
    assert [Decimal(-1, 1)(text) for text in ("0.5", "-1", "1e-3", "2", "nan", "inf", "x")] == [True] * 3 + [False] * 4


def test_every_choice_belongs_to_one_that_there_is():
    assert not [field.name for field in FIELDS.values() if field.of is not None and field.of not in FIELDS]


def test_a_change_forgets_what_belonged_to_it_and_another_study_all_but_how_it_is_shown():
    kept = {"dock", "dock_arranged", "geometry_axis", "importance_intervals", "map_colour", "steepness_part"}
    assert not fields.belonging_to("study") & kept
    assert fields.belonging_to("study") == {field.name for field in FIELDS.values() if field.of is not None}
    assert (
        fields.belonging_to("problem") == {"cot", "chunk", "added_rollouts", "compared_cot", "lens_from"} | RUNS | TYPED
    )
    assert fields.belonging_to("cot") == {"chunk", "added_rollouts", "lens_from"} | RUNS | TYPED
    assert fields.belonging_to("chunk") == {"added_rollouts", "lens_from"} | RUNS
    assert fields.belonging_to("own_text") == TYPED - {"own_text"}
    assert fields.belonging_to("layer") == {"last_layer"}
    assert fields.belonging_to("dictionary") == {
        *("feature", "compared_features", "feature_filters", "heat_features"),
        *("ablated_above", "changed_features", "interventions"),
        *("analogy_feature_a", "analogy_feature_b", "analogy_feature_c", "feature_quadruple"),
    }
    selection.choose(layer="4", last_layer="6", study="one", dock="rollouts")
    selection.choose(layer="5")
    assert selection.get("last_layer") is None
    selection.choose(study="another", model="m")
    assert selection.values() == {"study": "another", "model": "m", "dock": "rollouts"}


# Links of before


def test_every_former_word_leads_to_a_choice_and_is_none_itself():
    """The layer was written MODEL:LAYER; its word stayed."""
    assert {now for now in FORMER.values() if isinstance(now, str)} <= set(FIELDS)
    assert set(FORMER) & set(FIELDS) == {"layer"}


def test_links_of_before_say_the_same_by_todays_names():
    assert fields.read({"swept": "m1:15:rms", "live": "m2", "layers": "4-6", "kind": "random"}) == {
        "model": "m2",
        "layer": "4",
        "last_layer": "6",
        "unit": "rms",
        "direction": "random",
    }
    assert fields.read({"layer": "m1:5"}) == {"model": "m1", "layer": "5"}
    assert fields.read({"swept": "m1:-1:none"}) == {"model": "m1"}
    assert fields.read({"layer": "7", "layers": "3-3", "direction": "pair", "kind": "random"}) == {
        "layer": "7",
        "direction": "pair",
    }
    of_a_run = {"of": "c_0001", "while": "deduction", "n": "16", "place": "onward", "through": "9", "own": "yes"}
    assert fields.read(of_a_run) == {
        "samples": "16",
        "own_text": "yes",
        "last_layer": "9",
        "steered_where": "onward",
        "only_while": "deduction",
        "vector_from": "c_0001",
    }
    assert fields.read({"panel": "rollouts", "chunk_panel": "steering"}) == {"dock": "steering"}
