"""The page Latent steps: on a study of latents, whose other pages say what they lack, and on one without."""

from contextlib import closing

import pytest

from app.latent_steps.views import NEEDED, READINGS, STEERINGS
from app.shell.more import MOST
from app.shell.navigation import PAGES
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import latent_needs, latent_readings, latent_steering, latents
from tests.latent_study import briefly_fitted, latent_study
from tests.pages.conftest import words
from tests.pages.test_four_controls import in_sight

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "latent_steps"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three siblings, every stage of latents done."""
    folder = StudyFolder(tmp_path_factory.mktemp("latent") / "small")
    with briefly_fitted():
        run_study(
            latent_study(tmp_path_factory.mktemp("models")),
            folder,
            stages=[latents, latent_readings, latent_needs, latent_steering],
        )
    return folder.path


def test_a_problem_shows_what_each_sibling_answers_after_each_number_of_latents(opened, study):
    test = opened(PAGE, study, study="small")
    assert not test.exception, test.exception
    table = next(frame.value for frame in test.dataframe if "3 latents" in frame.value.columns)
    assert list(table.index) == ["latent", "pause", "none"] and table.loc["none", "1 latents"] == ""


@pytest.mark.parametrize(
    ("field", "part"),
    [
        *(("latent_reading", part) for part in READINGS),
        *(("latent_steering", part) for part in STEERINGS),
        *(("latent_need", part) for part in NEEDED if part != "runs"),  # which latent, of which runs
    ],
)
def test_a_part_shows_four_controls_before_more(opened, study, field, part):
    test = opened(PAGE, study, study="small", **{field: part})
    assert not test.exception
    labels = [control.label for control in in_sight(test.main)]
    assert len(labels) <= MOST, labels


def test_replaced_latents_are_marks_and_a_table(opened, study):
    test = opened(PAGE, study, study="small")
    said = words(test)
    assert "pause: whether swaps work at all is unknown: no problem has a donor." in said  # of random weights
    assert "Dilgren & Wiegreffe 2026" in said
    table = next(frame.value for frame in test.dataframe if "specific in" in frame.value.columns)
    assert set(table["model"]) == {"latent", "pause"} and set(table["latent"]) == {"1", "2", "3", "all"}


def test_it_is_said_which_share_of_the_problems_needs_latents(opened, study):
    test = opened(PAGE, study, study="small", latent_need="problems")
    table = next(frame.value for frame in test.dataframe if "need latents, %" in frame.value.columns)
    assert list(table["model"]) == ["latent", "pause", "none"] and set(table["n"]) == {12}


def test_a_link_to_a_replaced_latent_shows_its_runs(opened, study):
    with closing(Store(study)) as store:
        mark = f"{store.latent_models()['model_id'].iloc[1]}.all"
    test = opened(PAGE, study, study="small", latent_need="runs", latent_mark=mark)
    assert next(box for box in test.selectbox if box.label == "Latent").value == mark
    runs = next(frame.value for frame in test.dataframe if "another problem's" in frame.value.columns)
    assert len(runs) == 12 and (runs["plain"] != runs["whose answer is"]).all()


def test_a_study_whose_latents_were_not_replaced_says_how(opened, tmp_path, tmp_path_factory):
    folder = StudyFolder(tmp_path / "small")
    run_study(latent_study(tmp_path_factory.mktemp("own"), ("latent",)), folder, stages=[latents])
    test = opened(PAGE, folder.path, study="small")
    assert not test.exception and "No latent has been replaced yet" in words(test)


def test_a_study_without_latents_says_how_to_make_them(opened, whole):
    test = opened(PAGE, whole, study="small")
    assert not test.exception and "[latent]" in words(test)


@pytest.mark.parametrize("page", PAGES)
def test_every_other_page_opens_on_a_study_of_latents_alone(opened, study, page):
    test = opened(page, study, study="small")
    assert not test.exception, test.exception


def test_the_findings_of_a_study_of_latents_begin_with_theirs(opened, study):
    test = opened("findings", study, study="small")
    assert not test.exception and test.header[0].value == "What latents do to accuracy"
    said = words(test)
    assert "With 3 latents" in said and "all latents − none" in said
