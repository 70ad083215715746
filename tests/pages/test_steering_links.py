"""Every control of the Steering page is in its link, or docs/selection.md says that it is not."""

import pytest

from app.shell.fields import FIELDS
from backend.store.library import KeptVector, Library
from tests import intervened_study, steerable_study
from tests.backend.live.test_jobs import unit
from tests.pages.conftest import settled
from tests.pages.test_steering import open_page

pytestmark = pytest.mark.usefixtures("no_embedded_model")

# By the beginning of a widget's key, or by its label where it has none: the choice that it shows.
SHOWS = {
    "steered_model": "model",
    "beta_slide": "beta",
    "beta_typed": "beta",
    "wording": "chunk_reworded",
    "paraphrase": "chunk_paraphrased",
    "Question": "own_question",
    "Chain of thought": "own_chain",
    "Right answer": "own_answer",
}
# What docs/selection.md says a link leaves out.
LEFT_OUT = ("direction_file", "direction_entry", "direction_row", "name_", "click_chooses")
KINDS = ("selectbox", "number_input", "slider", "toggle", "checkbox", "radio", "multiselect", "text_area", "text_input")
# Changed, they lead to another text, or to other controls than the state's.
LEADS_AWAY = ("Study", "Direction", "Operation", "Chain of thought", "Problem", "Model that is steered")
STATES = (
    {"direction": "category", "vector_category": "active_computation"},
    {"direction": "pair"},
    {"direction": "on_manifold", "vector_component": "2"},
    {"direction": "random", "run_kind": "dose"},
    {"direction": "library", "run_kind": "continue"},
    {"direction": "feature"},
    {"direction": "file"},
    {"direction": "per_chunk", "operation": "ablate"},
    {"run_kind": "wording"},
)


SET = [state for state in STATES if {"on_manifold", "library", "feature", "wording"} & set(state.values())]


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    loaded = tiny("llama")
    study = steerable_study.make(tmp_path_factory.mktemp("linked") / "small", loaded)
    for number, name in enumerate(("doubt", "haste")):
        Library(study).keep(KeptVector(name, loaded.model_id, loaded.name, None, 1, unit(number + 1), "file", {}))
    intervened_study.add_dictionary(study, [loaded.model_id, "m0"], 64)
    return study


def widgets(test) -> list:
    return [one for kind in KINDS for one in getattr(test, kind)] + list(test.get("button_group"))


def choice_of(widget) -> str | None:
    """The choice that a widget shows; None for one that a link leaves out."""
    key, label = widget.key or "", getattr(widget, "label", "") or widget.proto.label
    if key.startswith(LEFT_OUT) or label == "A click chooses":
        return None
    for begin in ("pick_", "number_", "decimal_"):
        if key.startswith(begin):
            named = key.removeprefix(begin)
            return next((name for name in FIELDS if named == name or named.rpartition("_")[0] == name), named)
    return next(
        (name for begin, name in SHOWS.items() if key.startswith(begin) or label.startswith(begin)), key or label
    )


def shown(test) -> dict:
    """What each control of a link says, by its choice and label; a number has six digits there."""
    return {
        (choice, one.label): f"{one.value:g}" if isinstance(one.value, float) else one.value
        for kind in KINDS
        for one in getattr(test, kind)
        if (choice := choice_of(one)) is not None
    }


@pytest.mark.parametrize("state", STATES, ids=lambda state: " ".join(state.values()))
def test_every_control_shows_a_choice_that_links_have_or_is_said_to_be_left_out(opened, study, state):
    test = settled(open_page(opened, study, **state), lambda t: "is reading" not in str(t.get("progress")))
    found = widgets(test)
    assert len(found) > 8
    assert {choice for one in found if (choice := choice_of(one)) is not None} <= set(FIELDS)


def settable(test) -> list:
    return [one for one in [*test.number_input, *test.selectbox] if choice_of(one) and one.label not in LEADS_AWAY]


def another(widget):
    """Another value than a widget has."""
    if widget.type == "selectbox":
        return next((k for k in range(len(widget.options)) if k != widget.index), None)
    if widget.type == "number_input":
        return (
            widget.value + widget.step
            if widget.max is None or widget.value + widget.step <= widget.max
            else widget.value - widget.step
        )
    return None


@pytest.mark.parametrize("state", SET, ids=lambda state: " ".join(state.values()))
def test_what_is_set_is_found_again_by_the_link_in_a_fresh_session(opened, study, state):
    test, changed = open_page(opened, study, **state), set()
    while (one := next(filter(lambda w: w.label not in changed, settable(test)), None)) is not None:
        changed.add(one.label)
        if (value := another(one)) is not None:
            one.select_index(value).run() if one.type == "selectbox" else one.set_value(value).run()
            test = settled(test, lambda t: any(b.key == "run_button" for b in t.button))
    for area in [one for one in test.text_area if (one.key or "").startswith(("wording", "paraphrase"))]:
        next(one for one in test.text_area if one.key == area.key).set_value(f"{area.label}, said otherwise.").run()
    assert {"Seed", "Max new tokens", "Temperature", "Top-p"} <= changed
    link = {name: test.query_params[name] for name in test.query_params}
    link = {name: value[0] if isinstance(value, list) else value for name, value in link.items()}
    assert link == test.session_state["selection"]
    again = opened("steering", study, **link)
    again = settled(again, lambda t: any(b.key == "run_button" for b in t.button))
    assert shown(again) == shown(test) and again.session_state["selection"] == test.session_state["selection"]
