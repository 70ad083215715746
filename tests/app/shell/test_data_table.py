"""Unknown is an empty cell in every table of the app."""

import ast
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [path for folder in ("app", "pages") for path in sorted((ROOT / folder).rglob("*.py"))]


def some_are_unknown() -> None:
    import pandas as pd

    from app.shell.data_table import data_table

    data_table(pd.DataFrame({"chunk": ["a", None], "p": [0.01, None]}), hide_index=True)


def test_a_cell_without_a_value_is_empty_and_not_the_word_none():
    (shown,) = AppTest.from_function(some_are_unknown, default_timeout=60).run().dataframe
    assert shown.proto.HasField("placeholder") and shown.proto.placeholder == ""
    assert shown.value["p"].isna().tolist() == [False, True]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_table_is_made_there(path):
    if path.name == "data_table.py":
        return
    made = [node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
    assert not {"dataframe", "data_editor", "table"} & set(made)
