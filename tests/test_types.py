"""What the checker of types does not look at says why."""

import re
import tomllib

import pytest

from backend.root import ROOT

PARTS = ("app", "backend", "pages", "precompute")
IGNORED = re.compile(r"# type: ignore(\[[a-z-]+\]  # \w.+)?")


def unexplained(line: str) -> bool:
    return any(found[1] is None for found in IGNORED.finditer(line))


@pytest.mark.parametrize("part", PARTS)
def test_what_is_ignored_bears_its_code_and_a_reason(part):
    lines = [line for file in (ROOT / part).rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines and not list(filter(unexplained, lines))


def test_an_ignore_without_a_code_or_a_reason_is_noticed():
    assert unexplained("x = y  # type: ignore") and unexplained("x = y  # type: ignore[misc]")
    assert not unexplained("x = y  # type: ignore[misc]  # torch states no types")


def test_every_part_is_checked_strictly_and_whole():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"] and set(settings["files"]) == set(PARTS)
    assert not any(one.get("ignore_errors") for one in settings["overrides"])
