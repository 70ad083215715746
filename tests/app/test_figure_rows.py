"""A figure says which columns it takes; what it does not name it does not get, and what it misses is named."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TypedDict, Union, get_args, get_origin, get_type_hints

import pandas as pd
import pyarrow as pa
import pytest

from app import figures
from app.figures.rows import Frame, rows_of, takes_rows
from backend.schema.tables import TABLES


def public() -> Iterator[tuple[str, Callable]]:
    for module in pkgutil.iter_modules(figures.__path__):
        found = import_module(f"{figures.__name__}.{module.name}")
        for name, function in vars(found).items():
            if inspect.isfunction(function) and function.__module__ == found.__name__ and not name.startswith("_"):
                yield f"{module.name}.{name}", function


FIGURES = {name: function for name, function in public() if not name.startswith("rows.")}
ROWS = {row.__name__: row for function in FIGURES.values() for row in rows_of(function).values()}
# Which types of the store a type of a row is: a mean of whole numbers is drawn as one, so a float may be an INT there.
STORED = {
    str: (pa.string(),),
    int: (pa.int64(),),
    float: (pa.float64(), pa.int64()),
    bool: (pa.bool_(),),
    Sequence[float]: (pa.list_(pa.float64()), pa.list_(pa.float32())),
}
COMPUTED = {  # no stored column, though one has the name
    ("Cell", "place"),  # a number along the text
    ("Cell", "base"),  # what a feature adds in that model
    ("Cell", "model"),  # and in the only one
    ("ArmShares", "degenerate"),  # a share of samples
    ("Band", "mean"),  # of a group of chunks
    ("ByCategory", "mean"),  # of those of a category
    ("AtDistance", "mean"),  # of pairs of chunks
    ("Agreement", "a"),  # columns that are compared, not latents
    ("Agreement", "b"),
    ("Point", "value"),  # a number or words, of whatever colours the map
}


class Point(TypedDict):
    x: float
    y: float | None


@takes_rows
def total(points: Frame[Point], column: str, *, more: Frame[Point] | None = None) -> float:
    return float(points[column].sum() + (0 if more is None else more[column].sum()))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_takes_a_frame_names_its_columns(name):
    bare = [
        parameter.name
        for parameter in inspect.signature(FIGURES[name]).parameters.values()
        if pd.DataFrame in (parameter.annotation, *get_args(parameter.annotation))
        and parameter.name not in rows_of(FIGURES[name])
    ]
    assert not bare
    assert hasattr(FIGURES[name], "__wrapped__") == bool(rows_of(FIGURES[name]))


def test_a_figure_gets_the_columns_that_its_row_type_names_and_no_others():
    rows = pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0]})
    assert total(rows, "y", more=rows) == 4.0
    with pytest.raises(KeyError, match="z"):
        total(rows, "z")


@pytest.mark.parametrize("more", [False, True])
def test_a_column_that_a_query_does_not_give_is_named(more):
    whole, part = pd.DataFrame({"x": [1.0], "y": [2.0]}), pd.DataFrame({"x": [1.0], "other": [2.0]})
    with pytest.raises(TypeError, match=f"total: {'more' if more else 'points'} has no column y"):
        total(whole if more else part, "y", more=part if more else None)


def test_a_frame_without_rows_needs_no_columns():
    @takes_rows
    def size(points: Frame[Point]) -> int:
        return len(points)

    assert size(pd.DataFrame()) == 0


@pytest.mark.parametrize("name", ROWS)
def test_a_stored_column_has_the_type_it_is_stored_as(name):
    stored: dict[str, set[pa.DataType]] = {}
    for table in TABLES.values():
        for column, (kind, _) in table.columns.items():
            stored.setdefault(column, set()).add(kind)
    for column, said in get_type_hints(ROWS[name]).items():
        if column in stored and (name, column) not in COMPUTED:
            (known,) = [part for part in (get_args(said) if is_union(said) else (said,)) if part is not type(None)]
            assert stored[column].intersection(STORED[known]), column


def is_union(said) -> bool:
    return get_origin(said) is Union or isinstance(said, type(int | None))
