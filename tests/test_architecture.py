"""Which part may know which: pages → app → backend ← precompute, and inside each a stack without cycles.

Every import counts, also one inside a function and one for the types alone. Adding a package is adding its name to a
row of STACKS.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from app.shell.navigation import PAGES
from backend.root import ROOT

PARTS = ("app", "backend", "pages", "precompute")
MAY_KNOW = {"pages": {"app", "backend"}, "app": {"backend"}, "precompute": {"backend"}, "backend": set()}
# Who stands in a row knows those of the rows before it, and nobody of its own row or of one after it.
STACKS = {
    "backend": (
        ("errors", "ids", "plain", "root"),
        ("faults", "registry"),
        ("schema",),
        ("models", "statistics", "store"),
        ("cot", "evidence"),
        ("crosscoder", "importance"),
        ("geometry",),
        ("lens", "search"),
        ("feature_geometry",),
        ("influence",),
        ("latent",),
        ("findings",),
        ("live",),
    ),
    "app": (
        ("shell",),
        ("figures",),
        ("shared",),
        ("components",),
        tuple(PAGES),
        ("views",),
        ("entry",),
        ("main",),
    ),
}
MODELS = {"peft", "safetensors", "torch", "transformers", "umap"}
DATABASES = {"duckdb"}
OUTSIDE = {  # packages of others, and modules of ours, that a part does not know
    "backend": {"plotly", "streamlit"},
    "precompute": {"plotly", "streamlit"},
    "pages": MODELS | DATABASES,
    "app": MODELS | DATABASES,
    "app.figures": {"backend.store", "scipy", "sklearn", "streamlit"},
}


def modules() -> dict[str, Path]:
    files = [file for part in PARTS for file in sorted((ROOT / part).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(source: str, name: str, known: Mapping[str, object]) -> Iterator[str]:
    """What the module `name` imports: a module of ours by its name, or the package of others."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute"
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (whole if whole in known else str(node.module) for whole in inside)


def cycle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle among the arrows, its first name once more at the end; empty where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def package(module: str) -> str:
    """backend.store.queries → backend.store; what lies loose in a part, like backend.errors, is one by itself."""
    return ".".join(module.split(".")[:2])


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """Module → what it imports, ours and others'."""
    known = modules()
    return {name: set(imported(file.read_text(), name, known)) - {name} for name, file in known.items()}


@pytest.fixture(scope="module")
def ours(arrows) -> dict[str, set[str]]:
    return {name: {other for other in others if other in arrows} for name, others in arrows.items()}


def test_an_import_counts_wherever_it_stands():
    source = "if TYPE_CHECKING:\n    import a.b\ndef f():\n    from a import c, d\n"
    assert set(imported(source, "m", {"a.c": ...})) == {"a.b", "a.c", "a"}
    assert cycle({"a": ["b"], "b": ["c"], "c": ["a"]}) and not cycle({"a": ["b", "c"], "b": ["c"]})


def test_the_parts_know_each_other_one_way(ours):
    wrong = [
        (name, other)
        for name, others in ours.items()
        for other in others
        if (part := name.split(".")[0]) != (of := other.split(".")[0]) and of not in MAY_KNOW[part]
    ]
    assert not wrong


def test_no_page_knows_a_page(ours):
    assert not [(name, other) for name, others in ours.items() for other in others if other.startswith("pages.")]


def test_modules_have_no_cycle(ours):
    assert not cycle(ours)


def test_packages_have_no_cycle(ours):
    between = defaultdict(set)
    for name, others in ours.items():
        between[package(name)] |= {package(other) for other in others} - {package(name)}
    assert not cycle(between)


def test_a_page_knows_its_own_folder_and_what_pages_share(ours):
    shared = {"app.shared", "app.shell", "app.views"}
    for page in PAGES:
        assert {package(other) for other in ours[f"pages.{page}"] if within(other, "app")} <= {f"app.{page}", *shared}
    assert {name for name in ours if within(name, "pages")} == {f"pages.{page}" for page in PAGES}


@pytest.mark.parametrize("part", STACKS)
def test_a_package_knows_only_those_below_it(part, ours):
    level = {f"{part}.{name}": n for n, row in enumerate(STACKS[part]) for name in row}
    inside = {name: others for name, others in ours.items() if name.startswith(f"{part}.")}
    assert {package(name) for name in inside} == set(level)  # every package has its row in STACKS
    assert not [
        (name, other)
        for name, others in inside.items()
        for other in others
        if (to := package(other)) in level and to != (here := package(name)) and level[to] >= level[here]
    ]


@pytest.mark.parametrize("part", OUTSIDE)
def test_a_part_does_not_know_what_is_not_its_business(part, arrows):
    assert not [
        (name, other)
        for name, others in arrows.items()
        for other in others
        if within(name, part) and any(within(other, unknown) for unknown in OUTSIDE[part])
    ]


def timed(source: str) -> list[int]:
    """Lines of the asserts that hold a measured time below a limit."""
    return [
        statement.lineno
        for statement in ast.walk(ast.parse(source))
        if isinstance(statement, ast.Assert)
        for node in ast.walk(statement.test)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE)
        if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Sub) and "time" in ast.unparse(node.left)
    ]


def test_no_test_fails_because_a_machine_is_slow():
    assert timed("assert ok and time.process_time() - began < 1") == [1]
    assert timed("assert time.monotonic() < deadline") == []  # a guard against waiting for ever
    assert {
        str(file.relative_to(ROOT)): lines
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if (lines := timed(file.read_text()))
    } == {}
