"""A kind of thing is one entry in one place; what is left out or unknown is refused, and never another's."""

from dataclasses import dataclass

import pytest

from backend.errors import AnchorscopeError
from backend.registry import Registry
from tests.registering import lists_of, registered


@dataclass(frozen=True)
class Colour:
    name: str
    words: str
    code: str
    help: str = ""


RED = Colour("red", "like blood", "#FF0000")


@pytest.fixture
def colours() -> Registry[Colour]:
    return Registry("colour", RED)


@pytest.mark.parametrize("entry", [Colour("blue", "", "#0000FF"), Colour("blue", "like the sky", None)])
def test_an_entry_with_a_part_left_out_is_refused(colours, entry):
    with pytest.raises(AnchorscopeError, match=r"An entry for a colour needs (words|code); blue has none"):
        colours.register(entry)
    with pytest.raises(TypeError):
        Colour("blue", "like the sky")


def test_a_name_that_no_entry_has_is_refused_with_those_that_there_are(colours):
    with pytest.raises(AnchorscopeError, match="There is no colour 'blue'; expected one of red"):
        colours["blue"]
    assert colours.get("blue") is None and "blue" not in colours


def test_a_name_is_given_once_unless_it_is_said_that_it_replaces(colours):
    with pytest.raises(AnchorscopeError, match="There is a colour 'red' already"):
        colours.register(Colour("red", "like wine", "#800000"))
    assert colours.register(Colour("red", "like wine", "#800000"), replace=True) is colours["red"]


def test_what_is_registered_can_be_taken_back(colours):
    with registered(colours, Colour("blue", "like the sky", "#0000FF")) as blue:
        assert colours["blue"] is blue and list(colours) == ["red", "blue"]
    assert list(colours) == ["red"]


def test_a_list_of_names_elsewhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.registering.ROOT", tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/one.py").write_text('A = {"red": 1, "blue": 2}\nB = x == "red" or x == "blue"\nC = ["red", "?"]')
    assert lists_of({"red", "blue"}) == ["app/one.py:1", "app/one.py:2"]
