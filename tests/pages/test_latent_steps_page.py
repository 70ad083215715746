"""The page Latent steps: on a study of latents, whose other pages say what they lack, and on one without."""

import pytest

from app.shell.navigation import PAGES
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import STAGES
from tests.latent_study import latent_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "latent_steps"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three siblings, every stage done."""
    folder = StudyFolder(tmp_path_factory.mktemp("latent") / "small")
    run_study(latent_study(tmp_path_factory.mktemp("models")), folder, stages=STAGES)
    return folder.path


def test_a_problem_shows_what_each_sibling_answers_after_each_number_of_latents(opened, study):
    test = opened(PAGE, study, study="small")
    assert not test.exception, test.exception
    table = next(frame.value for frame in test.dataframe if "3 latents" in frame.value.columns)
    assert list(table.index) == ["latent", "pause", "none"] and table.loc["none", "1 latents"] == ""


def test_a_study_without_latents_says_how_to_make_them(opened, whole):
    test = opened(PAGE, whole, study="small")
    assert not test.exception and "[latent]" in words(test)


@pytest.mark.parametrize("page", PAGES)
def test_every_other_page_opens_on_a_study_of_latents_alone(opened, study, page):
    test = opened(page, study, study="small")
    assert not test.exception, test.exception
