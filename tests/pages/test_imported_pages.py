"""Pages on what others published: a problem without an answer, and values that are none."""

import io

import pytest

from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.importing import import_folder
from precompute.terminal import Console
from tests.pages.conftest import PAGES
from tests.precompute.importers.test_thought_anchors import folder, scenario_folder, with_zeros  # noqa: F401


@pytest.fixture
def scenario(folder, tmp_path):  # noqa: F811
    target = StudyFolder(tmp_path / "scenario")
    import_folder(
        "thought-anchors",
        scenario_folder(folder),
        target,
        wait=False,
        console=Console(file=io.StringIO()),
        rollouts=False,
    )
    return target.path


@pytest.mark.parametrize("which", PAGES)
def test_a_page_survives_a_problem_without_an_answer(opened, scenario, which):
    test = opened(which, scenario)
    assert not test.exception and not test.error


def test_a_chunk_says_why_what_was_written_is_no_value(opened, folder, tmp_path):  # noqa: F811
    with_zeros(folder, of_0={"different_trajectories_fraction": 0.0})
    target = StudyFolder(tmp_path / "zeros")
    import_folder("thought-anchors", folder, target, wait=False, console=Console(file=io.StringIO()), rollouts=False)
    chunk = Store(target.path).frame("SELECT chunk_id FROM chunks ORDER BY chunk_index")["chunk_id"].iloc[0]
    test = opened("chains_of_thought", target.path, chunk=chunk)
    assert not test.exception
    (table,) = [found.value for found in test.dataframe if "note" in found.value]
    notes = table[table["value"] == "unknown"]["note"].tolist()
    assert notes == ["no rollout of it is dissimilar; written as 0"] * 2
