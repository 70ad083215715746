"""Words that studies bring for what is not Anchorscope's own: whose they are is never guessed."""

import pytest

from backend.store import registered
from backend.store.registered import learn, meaning_of, words_of


@pytest.fixture(autouse=True)
def none_known(monkeypatch):
    monkeypatch.setattr(registered, "_KNOWN", {})


def row(label: str, *, name: str = "surprise", unit: str = "nats") -> dict:
    own = {"kind": "metric", "name": name, "own_label": label, "unit": unit, "own_meaning": f"what {label} is"}
    return own | {"signed": False, "colour": None, "sha256": "0" * 64, "made_by": "arrays", "version": None}


def test_a_name_is_shown_by_the_words_of_its_study_and_an_unknown_one_by_none():
    learn("one", [row("Surprise")])
    assert (words_of("metric", "surprise").label, words_of("metric", "surprise").unit) == ("Surprise", "nats")
    assert words_of("column", "surprise") is None and "no words of it" in meaning_of("column", "surprise")


def test_two_studies_that_say_the_same_agree_and_two_that_differ_leave_the_name_to_itself():
    learn("one", [row("Surprise")])
    learn("two", [row("Surprise")])
    assert words_of("metric", "surprise").label == "Surprise"
    learn("two", [row("Surprise", unit="bits")])
    found = words_of("metric", "surprise")
    assert (found.label, found.unit, found.signed) == ("surprise", "value", True)
    assert "different things" in meaning_of("metric", "surprise")


def test_a_study_that_is_published_again_says_what_it_says_now():
    learn("one", [row("Surprise"), row("Other", name="other")])
    learn("one", [row("Surprisal")])
    assert words_of("metric", "surprise").label == "Surprisal" and words_of("metric", "other") is None


def test_markup_and_names_that_none_of_ours_could_have_are_passed_over():
    learn("one", [row("<b>Surprise</b> [x](y)"), row("Bad", name="x'; DROP")])
    assert not set("<>[]") & set(words_of("metric", "surprise").label)
    assert words_of("metric", "x'; DROP") is None
