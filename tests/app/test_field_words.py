"""What stands on screen is in the field's words: one name for one thing."""

import ast
import functools
import re
from collections.abc import Iterator

import pytest

from app.shared.feature_filters import COLUMNS
from app.shell.numbers import count, interval, number, small
from backend.root import ROOT

# Words of our own making that a reader of the field would have to guess, and what is said instead.
INSTEAD = {
    r"\b[Ll]aws?\b": "association, or distribution",
    r"^Bright$": "Highlight",
    r"^Take\b": "Use",
    r"\b(its|their) lift\b": "lift, and of what",
    r"^Ways?$": "Method",
    r"^Do what$": "Operation",
    r"^Longest, tokens$": "Max new tokens",
    r"embedded:": "the short name of a model",
    r"\bdistilled (model|end|only|−)": "reasoner",
    r"− distilled\b": "reasoner",
}
# Published things are called as their authors call them, and a study file as it is written.
AS_PUBLISHED = ("Baek & Tegmark", "Baek and Tegmark", "Name a base and a distilled model", "distilled only")


@functools.cache
def said() -> tuple[tuple[str, str], ...]:
    return tuple(_said())


def _said() -> Iterator[tuple[str, str]]:
    """Every text in app/ that is not a docstring, a key of a column or a comparison with a stored value."""
    for file in sorted((ROOT / "app").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and node.body
            if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield str(file.relative_to(ROOT)), node.value


@pytest.mark.parametrize("pattern", INSTEAD)
def test_no_page_says_a_word_of_our_own_making(pattern):
    found = [
        (file, text)
        for file, text in said()
        if re.search(pattern, text) and not any(words in text for words in AS_PUBLISHED) and text != "law"
    ]
    assert not found, f"say {INSTEAD[pattern]}"


def test_columns_of_lifts_say_of_what():
    for name, column in COLUMNS.items():
        if name.endswith("_lift"):
            assert column.label.startswith("lift, ") and "Lift:" in column.meaning


def test_whatever_is_unknown_is_said_to_be_unknown():
    assert {number(None), interval(None, 1), small(None), count(None)} == {"unknown"}
