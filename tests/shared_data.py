"""Real data beside the repository, for tests that want it: they skip with a reason where it is missing."""

import json
import os
from pathlib import Path

import pytest


def shared_folder(*parts: str) -> Path:
    """The folder `data/parts` of ANCHORSCOPE_SHARED, or of `shared` beside the repository; the test skips where there
    is none.
    """
    root = Path(os.environ.get("ANCHORSCOPE_SHARED", Path(__file__).parents[1].parent / "shared"))
    folder = root.joinpath("data", *parts)
    if not folder.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared data; set ANCHORSCOPE_SHARED to its folder")
    return folder


def published_cots() -> list[tuple[str, str, list[str]]]:
    """(folder, CoT's text, published chunks) of every CoT in the Thought Anchors data."""
    found = []
    for path in sorted(shared_folder("thought_anchors").glob("*/*/*/chunks_labeled.json")):
        solution = json.loads((path.parent / "base_solution.json").read_text())["solution"]
        chunks = [entry["chunk"] for entry in json.loads(path.read_text())]
        found.append((str(path.parent), solution.partition("</think>")[0], chunks))
    return found
