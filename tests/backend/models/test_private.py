"""Names that torch and transformers keep for themselves are touched in one file, and read again with every version."""

import ast
import sys
from importlib.metadata import version
from pathlib import Path

from backend.models.private import READ_IN

ROOT = Path(__file__).parents[3]
HERE = ROOT / "backend" / "models" / "private.py"
FILES = [file for part in ("app", "backend", "pages", "precompute") for file in sorted((ROOT / part).rglob("*.py"))]
THEIRS = ("torch", "transformers")


def is_private(name: str) -> bool:
    """A NamedTuple's `_asdict` is public, by Python's own word."""
    return name.startswith("_") and not name.startswith("__") and name not in ("_", "_asdict")


def own_names(tree: ast.AST) -> set[str]:
    """Private names that the code has: functions, classes, variables, fields, and what it asks of itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            found.add(node.attr)
    return found


def touched(tree: ast.AST) -> set[str]:
    """Private names that are asked of anything: as an attribute, by getattr and its like, or by an import."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if getattr(node.value, "id", "") not in sys.stdlib_module_names:
                found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            found |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in THEIRS:
            found |= {part for alias in node.names for part in [*(node.module or "").split("."), alias.name]}
    return {name for name in found if is_private(name)}


def test_a_private_name_is_seen_however_it_is_asked_for():
    tree = ast.parse("from torch._x import y\nmodel._modules = {}\ngetattr(config, '_z')\nself._own = 1\n")
    assert touched(tree) - own_names(tree) == {"_x", "_modules", "_z"}


def test_no_other_module_touches_what_torch_and_transformers_keep_for_themselves():
    trees = {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in FILES if file != HERE}
    ours = set().union(*map(own_names, trees.values()))
    assert not {f"{file}: {name}" for file, tree in trees.items() for name in touched(tree) - ours}


def test_each_says_whose_it_is_and_why():
    for node in ast.parse(HERE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            whose, _, reason = (ast.get_docstring(node) or "").partition(": ")
            assert whose in READ_IN and len(reason) > 40, node.name


def test_they_were_read_in_the_versions_that_are_installed_and_pinned():
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    for library, read in READ_IN.items():
        assert version(library).split("+")[0] == read, f"{library} changed: read backend/models/private.py again"
        assert f"{library}=={read}" in pinned
