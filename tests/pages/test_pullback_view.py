"""Pull-back cosines on the page Geometry."""

import duckdb
import pytest

from backend.store.store import generation_of
from backend.store.unit_files import StudyFolder
from tests.pages.conftest import words
from tests.precompute.test_pullback_stage import run, study_of

PAGE = "geometry"


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "tiny")
    run(study_of(str(tiny_folder("llama"))), folder)
    with duckdb.connect(str(generation_of(folder.path))) as connection:  # of random weights no pair goes so far
        connection.execute("DELETE FROM pullback_pairs")
        connection.execute(
            "INSERT INTO pullback_pairs SELECT set_id, 'hidden', 1, 4, 9, 0.01, 0.7, 0.5, [0.6, 0.8] FROM pullback_sets"
        )
    return folder.path


def test_the_shares_stand_beside_those_of_drawn_pairs_and_the_error_of_the_metric_is_said(opened, study):
    test = opened(PAGE, study, study="tiny", geometry_part="pullback")
    assert not test.exception, test.exception
    said = words(test)
    assert (
        "of the pairs that look orthogonal interfere (" in said
        and "isotropic). Of all isotropic pairs one in 1,000" in said
    )
    assert "averaged over 8 chunks, at the output of block 1" in said
    assert "pull-back cosines under the one and the other correlate with r = " in said


def test_pairs_have_their_interference_at_beta_and_a_relation_without_pairs_says_so(opened, study):
    test = opened(PAGE, study, study="tiny", geometry_part="pullback", pullback_beta="3")
    table = next(frame.value for frame in test.dataframe if "cosine" in frame.value.columns)
    assert table.iloc[0].tolist() == ["4", "9", 0.01, 0.7, "0.60, 0.80", 4.5]
    test = opened(PAGE, study, study="tiny", geometry_part="pullback", pullback_relation="apart")
    assert "No pair of this set does: none of 2,016 pairs look alike and do not interfere." in words(test)


def test_a_study_without_them_says_which_command_makes_them(opened, whole):
    test = opened(PAGE, whole, study="small", geometry_part="pullback")
    assert not test.exception and "No pull-back cosines have been computed" in words(test)
