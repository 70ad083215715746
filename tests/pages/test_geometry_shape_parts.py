"""The parts Shape, Circles and helices, and Paths of the page Geometry: what they say, and what they lack."""

import shutil
from pathlib import Path

import duckdb
import pytest

from app.geometry.views import PARTS
from backend.store.store import Store, generation_of
from tests import shaped_study, small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
OURS = ("shape", "curves", "paths")


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("shaped") / "small")
    shaped_study.add(folder)
    return folder


def said(opened, study, part: str, **selection: str) -> str:
    test = opened("geometry", study, study="small", geometry_part=part, **selection)
    assert not test.exception, test.exception
    return words(test)


def test_the_shape_of_the_whole_is_told_beside_its_nulls(opened, shaped):
    told = said(opened, shaped, "shape", shape_measure="twonn", shape_points="chunks")
    assert "from 5 [4, 6] at layer 5" in told and "isotropic" in told and "would give 90" in told
    assert "below that it lies at 2 of 2 layers, above at 0" in told
    assert "below as many chunks of any category: self\\-checking" in told and "Too few chunks or problems" in told
    assert "by construction" in said(opened, shaped, "shape", shape_measure="participation_ratio")


def test_tokens_are_another_cloud(opened, shaped):
    assert "30 tokens of 6 problems" in said(opened, shaped, "shape", shape_points="tokens")


def test_a_circle_is_told_where_it_is_shown_and_how_words_were_read(opened, shaped):
    told = said(opened, shaped, "curves", curve_set="months")
    assert "is shown at 2 of 2 layers (5, 15)" in told and "80% are found" in told and "Engels" in told
    told = said(opened, shaped, "curves", curve_set="integers", curve_period="100")
    assert "is shown at 0 of 2 layers" in told and "the last has only 10 values" in told and "0 to 9" in told
    assert "radius 1" in told


def test_paths_are_told_at_equal_length_with_what_would_have_been_found(opened, shaped):
    told = said(opened, shaped, "paths", path_measure="curvature")
    assert "random order" in told and "shown at layer 5, 15" in told and "90% of 1 SD" in told
    assert "arXiv:2603.10384" in told and "no null of equal length" in told
    assert "not shown" in said(opened, shaped, "paths", path_measure="progress")


@pytest.mark.parametrize("part", OURS)
def test_a_study_without_them_says_the_command(opened, whole, part):
    told = said(opened, whole, part)
    assert f"Put a table [{part}] into the study file" in told and f"--stage {part}" in told


@pytest.mark.parametrize("part", OURS)
def test_a_study_of_before_these_tables_says_the_same(opened, tmp_path, part):
    folder = small_study.make(tmp_path / "small")
    with duckdb.connect(str(generation_of(folder))) as connection:
        for table in ("shapes", "curve_sets", "curves", "curve_points", "paths", "path_steps", "path_outcomes"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = '10' WHERE name = 'schema_version'")
    assert f"--stage {part}" in said(opened, folder, part)


def test_words_that_were_not_read_are_told_with_the_reason(opened, shaped, tmp_path):
    folder = Path(shutil.copytree(shaped, tmp_path / "small"))
    with duckdb.connect(str(generation_of(folder))) as connection:
        connection.execute("DELETE FROM curves WHERE curve = 'months'")
        connection.execute("UPDATE curve_sets SET n = 0, reason = 'May has <b>two</b>' WHERE curve = 'months'")
    told = said(opened, folder, "curves", curve_set="months")
    assert "not read, because May has" in told and "<b>" not in told


def test_each_view_stands_in_a_part(shaped):
    assert [len(PARTS[part][1]) for part in OURS] == [2, 2, 2]
    store = Store(shaped)
    assert len(store.path_places()) == 2 and store.paths_at("none", 5).empty
    store.close()
