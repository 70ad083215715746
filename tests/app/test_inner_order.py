"""The order within the dashboard: each layer knows those before it, a page's folder knows no other page's."""

import ast
from pathlib import Path

from app.shell.navigation import PAGES
from backend.root import ROOT

LAYERS = ("shell", "figures", "shared", "components", *PAGES)
TOP = {"main", "entry", "views"}  # the entry, and the register of all views


def imported(file: Path) -> set[str]:
    """The parts of `app` that a file imports, wherever it does; a page's own `from app.x import y` is x."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [
        f"app.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "app"
        for alias in node.names
    ]
    return {name.split(".")[1] for name in names if name.startswith("app.")}


def may_import(layer: str) -> set[str]:
    """What stands before a layer, and itself."""
    before = LAYERS[: LAYERS.index("components") + 1] if layer in PAGES else LAYERS[: LAYERS.index(layer)]
    return {*before, layer}


def test_every_file_of_the_app_is_in_a_layer_and_knows_only_what_stands_before_it():
    against = {}
    for file in sorted((ROOT / "app").rglob("*.py")):
        layer = file.relative_to(ROOT / "app").parts[0].removesuffix(".py")
        if layer in {"__init__", *TOP}:
            continue
        assert layer in LAYERS, f"{file} is in no layer: a page's folder is called as the page is"
        if wrong := imported(file) - may_import(layer):
            against[file.relative_to(ROOT).as_posix()] = wrong
    assert against == {}


def test_a_page_imports_its_folder_and_what_pages_share():
    against = {
        page: wrong for page in PAGES if (wrong := imported(ROOT / "pages" / f"{page}.py") - {page, "shared", "shell"})
    }
    assert against == {}
    assert {file.stem for file in (ROOT / "pages").glob("*.py")} == set(PAGES)


def test_a_figure_knows_neither_streamlit_nor_the_store():
    for file in sorted((ROOT / "app" / "figures").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not [name for name in names if name and name.startswith(("streamlit", "backend.store", "duckdb"))], file
