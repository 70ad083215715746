"""What somebody typed is in the link, or is said not to be; and it goes to the model that was shown."""

from types import SimpleNamespace

import pytest

from app.shared import typed_text
from app.shared.text_source import WORDS
from app.shell import fields, selection
from app.shell.selection import LONGEST
from app.steering import steered_text
from app.steering.steered_text import QUESTION, WRITTEN

LONG = "Wait. " * LONGEST


@pytest.fixture(autouse=True)
def session(monkeypatch):
    state = {}
    monkeypatch.setattr(selection.st, "session_state", state)
    return state


def opened_elsewhere(session) -> dict[str, str]:
    """The link of now, opened in another browser."""
    link = selection.values()
    session.clear()
    session["selection"] = fields.read(link)
    return link


def test_a_typed_question_is_what_its_link_asks(session):
    steered_text.type_in("What is 5-1?", "Let me see.", "4", model="m-chosen")
    link = opened_elsewhere(session)
    assert link["own_question"] == "What is 5-1?" and link["model"] == "m-chosen"
    assert steered_text.is_typed("nowhere") and not selection.notes()
    assert steered_text.what_was_typed() == steered_text.Typed("What is 5-1?", "Let me see.", "4")


def test_a_question_goes_to_the_model_that_was_shown_whatever_text_was_there_before(session):
    selection.choose(problem="p", cot="c-of-the-other-model", model="m-other")
    steered_text.type_in("What is 5-1?", "", None, model="m-shown")
    assert selection.get("model") == "m-shown"
    steered_text.continue_with(" Four.")
    assert selection.get("model") == "m-shown" and steered_text.what_was_typed().text == " Four."


def test_a_new_text_takes_nothing_of_the_old_one_along():
    steered_text.type_in("What is 5-1?", "Let me see.", "4")
    steered_text.type_in("And 6-1?", "", None)
    assert steered_text.what_was_typed() == steered_text.Typed("And 6-1?", "", None)


def test_going_back_to_the_studys_texts_forgets_the_typed_one_and_choosing_a_problem_too():
    for choice in ({"own_text": None}, {"problem": "p2"}, {"cot": "c2"}):
        selection.choose(problem="p1", cot=None)
        selection.choose(cot="c1")
        steered_text.type_in("What is 5-1?", "Let me see.", "4")
        selection.choose(**choice)
        assert not {"own_text", "own_question", "own_chain", "own_answer"} & selection.values().keys()


def test_what_is_too_long_for_a_link_stays_here_is_said_and_is_missed_elsewhere(session):
    steered_text.type_in("What is 5-1?", LONG, None)
    assert steered_text.what_was_typed().text == LONG
    assert "too long for a link (12,000 characters; at most 2,000 fit)" in typed_text.beyond_a_link(QUESTION, WRITTEN)
    link = opened_elsewhere(session)
    assert all(len(value) <= LONGEST for value in link.values())
    assert steered_text.is_typed("nowhere") and steered_text.what_was_typed().question == "What is 5-1?"
    assert selection.notes() == ["own_chain"]


@pytest.mark.parametrize("words", ["a" * LONGEST, "~not a name of ours", "two\nlines & signs = ? # %", "漢字"])
def test_every_text_comes_back_as_it_was_typed(words):
    typed_text.keep(WORDS, words)
    assert typed_text.read(WORDS) == words and len(selection.get(WORDS)) <= LONGEST
    typed_text.keep(WORDS, "")
    assert typed_text.read(WORDS) is None and selection.get(WORDS) is None


def test_a_link_to_a_run_on_a_text_that_is_in_no_link_brings_it_along(session, monkeypatch):
    row = {"cot_id": None, "text": LONG, "prompt": "<|user|>What is 5-1?"}
    monkeypatch.setattr(
        steered_text, "Experiments", lambda _: SimpleNamespace(get=lambda name: row if name == "x1" else None)
    )
    selection.choose(own_text="yes", run="x1")
    assert steered_text.is_typed("study") and steered_text.what_was_typed().text == LONG
    selection.choose(own_text=None)
    assert not steered_text.is_typed("study")
    selection.choose(own_text="yes", run="x2")
    assert not steered_text.is_typed("study") and selection.notes() == ["own_text"]


def test_another_layer_ends_the_range_that_began_at_the_old_one():
    selection.choose(layer="4", last_layer="6")
    selection.choose(layer="5")
    assert selection.get("last_layer") is None
