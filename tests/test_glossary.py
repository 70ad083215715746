"""Every word of the glossary stands once, in its order, and its home in the code or the store is there."""

import ast
import re
from pathlib import Path

import pytest

from backend.schema.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
WORDS, _, STORED = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").partition("\n## ")


def rows(text: str) -> list[list[str]]:
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in found[2:] if len(row) > 1]


HOMES = sorted({home for *_, homes in rows(WORDS) for home in re.findall(r"`([^`]+)`", homes)})


def test_each_word_stands_once_in_order():
    words = [row[0].lower() for row in rows(WORDS)]
    assert len(words) > 40 and words == sorted(set(words))


@pytest.mark.parametrize("home", HOMES)
def test_a_word_has_its_home(home):
    file, _, name = home.partition("::")
    if not file.endswith(".py"):
        assert is_column(home)
        return
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)}
    assert not name or name in names


def test_the_stored_names_that_are_told_are_stored():
    told = [name for row in rows(STORED) for name in re.findall(r"`([^`]+)`", row[0])]
    assert told and all(map(is_column, told))


def test_every_column_that_is_a_kind_says_of_what():
    kinds = {f"{table}.kind" for table, found in TABLES.items() if "kind" in found.columns}
    told = {name for row in rows(STORED) for name in re.findall(r"`([^`]+)`", row[0])}
    assert kinds <= told


def is_column(name: str) -> bool:
    table, _, column = name.partition(".")
    return table in TABLES and column in TABLES[table].columns
