"""Views: what one must have, and that a page draws those of its folder and nothing else."""

import ast
import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import views as every_view
from app.shared import views
from app.shared.views import Here, View
from app.shell.missing import Missing
from app.shell.navigation import PAGES
from backend.root import ROOT

THERE = View("there", "There", (views.study,), lambda here, store: None)


@pytest.mark.parametrize("part", [{"name": ""}, {"title": ""}, {"needs": ()}, {"needs": (None,)}, {"draw": None}])
def test_a_view_without_one_of_its_parts_cannot_be_made(part):
    with pytest.raises(ValueError, match="wants a name, a title, what it needs, and how it is drawn"):
        View(**({"name": "a", "title": "A", "needs": (views.study,), "draw": print} | part))


def test_no_two_views_have_one_name(monkeypatch):
    assert len(every_view.registered()) > 40
    monkeypatch.setattr(every_view.importlib, "import_module", lambda name: SimpleNamespace(VIEWS=(THERE,)))
    with pytest.raises(ValueError, match="two views are called 'there'"):
        every_view.registered()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_draws_every_view_of_its_folder_and_draws_nothing_itself(page):
    tree = ast.parse((ROOT / "pages" / f"{page}.py").read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in froms}
    assert not any(name.startswith(("app.figures", "app.components", "backend")) for name in modules)
    drawn = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)}
    drawn |= {name.attr for name in ast.walk(tree) if isinstance(name, ast.Attribute)}  # through the module's name
    module = importlib.import_module(f"app.{page}.views")
    of_the_page = {id(value) for name in drawn for value in _views(getattr(module, name, None))}
    assert {view.name for view in module.VIEWS if id(view) not in of_the_page} == set()


def streamlit_calls(path: Path) -> set[str]:
    """What a module uses of `st`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "st"
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_script_of_a_page_lays_out_and_a_view_sets_no_title_and_knows_no_place(page):
    assert streamlit_calls(ROOT / "pages" / f"{page}.py") <= {"columns", "container", "header"}
    used = {name for file in (ROOT / "app" / page).glob("*.py") for name in streamlit_calls(file)}
    assert used and not used & {"title", "header", "sidebar", "set_page_config", "navigation", "stop"}


def _views(value: object) -> tuple:
    if isinstance(value, View):
        return (value,)
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return tuple(one for part in values for one in _views(part))


def test_controls_are_shown_once_in_a_place_and_again_in_another():
    shown = []

    def controls(here: Here) -> str:
        shown.append(here)
        return "chosen"

    one, other = Here(None), Here(None)
    assert one.made(controls) is None
    assert [here.once(controls) for here in (one, one, other)] == ["chosen"] * 3
    assert [id(here) for here in shown] == [id(one), id(other)] and one.made(controls) == "chosen"


def test_what_is_missing_is_said_in_the_views_stead(monkeypatch):
    said, drawn = [], []
    monkeypatch.setattr(views, "say", said.append)
    lacks = Missing("No map.", "make it")
    view = View("map", "Map", (views.study, lambda here: lacks), lambda here, store: drawn.append(here))
    views.show(view, Here(None))
    views.show(view, Here(None), quiet=True)
    assert said == [lacks] and not drawn
