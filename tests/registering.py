"""What tests of registries share: an entry that is there for a while, and a look for lists of names elsewhere."""

import ast
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from backend.registry import Entry, Registry

ROOT = Path(__file__).parents[1]
_FOLDERS = ("app", "backend", "pages", "precompute")


@contextmanager
def registered(registry: Registry[Entry], entry: Entry) -> Iterator[Entry]:
    registry.register(entry)
    try:
        yield entry
    finally:
        registry.remove(entry.name)


def lists_of(names: Collection[str], *, allowed: Collection[str] = ()) -> list[str]:
    """Lists, sets, dicts and comparisons outside `allowed` (files or folders) that name two or more of `names`: each
    is a place that a new entry would have to be added to.
    """
    files = [file for folder in _FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    found = []
    for file in files:
        where = file.relative_to(ROOT).as_posix()
        if any(where.startswith(own) for own in allowed):
            continue
        lists = _lists_in(file.read_text(encoding="utf-8"))
        found += [f"{where}:{line}" for line, named in lists if len(named & set(names)) >= 2]
    return found


@cache  # the same sources are asked for every registry
def _lists_in(source: str) -> list[tuple[int, set[str]]]:
    """Line and names of each list that names two or more."""
    return [(node.lineno, named) for node in ast.walk(ast.parse(source)) if len(named := _named(node)) >= 2]


def _named(node: ast.AST) -> set[str]:
    parts = {
        ast.Dict: lambda: [key for key in node.keys if key is not None],
        ast.List: lambda: node.elts,
        ast.Tuple: lambda: node.elts,
        ast.Set: lambda: node.elts,
        ast.BoolOp: lambda: [part for value in node.values for part in ast.walk(value)],
    }.get(type(node), lambda: [])()
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
