"""The page Latent steps on a study whose latents were steered."""

from contextlib import closing

import pytest

from app.shell import selection
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import latent_steering, latents
from tests.latent_study import latent_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "latent_steps"
PUBLISHED = "wrong_space|flipped|one_more|one_token|scored_means"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("steered") / "small")
    asked = latent_study(
        tmp_path_factory.mktemp("models"), ("latent", "pause"), spaces=["h", "kv"], published=[-1.0, 1.0]
    )
    run_study(asked, folder, stages=[latents, latent_steering])
    return folder.path


def open_with(opened, study, **link):
    test = opened(PAGE, study, study="small", **link)
    assert not test.exception, test.exception
    return test


def test_a_map_says_what_differences_did_beside_random_vectors_and_what_was_reported(opened, study):
    said = words(open_with(opened, study, latent_space="kv"))
    assert "differs from the unsteered run of the same length after Holm" in said
    assert "would be found four times in five" in said and "Of both signs of this size" in said
    assert "Latent Reasoning Sprint #3" in said


def test_the_published_map_is_one_link_away_and_says_what_is_switched_on(opened, study):
    said = words(open_with(opened, study, latent_space="h", latent_defects=PUBLISHED))
    assert "Switched on: The difference of hidden states before the projection" in said


def test_a_cell_lists_its_runs(opened, study):
    test = open_with(opened, study, latent_space="kv", latent_cell="1-2.2", latent_changed="all")
    table = next(frame.value for frame in test.dataframe if "steered" in frame.value.columns)
    assert len(table) == 12 and table["question"].str.len().min() > 0
    assert set(table["verdict"]) <= {"right", "wrong", "gained", "lost"}
    assert "1 − 2 at latent 2" in words(test)


def test_the_parts_of_the_page_open(opened, study):
    said = words(open_with(opened, study, latent_steering="apart", latent_space="kv"))
    assert "Rotated keys: Keys are averaged and added as they are stored" in said
    assert "Ours, coefficient 1" in words(open_with(opened, study, latent_steering="siblings"))
    assert "No vector has been fitted" in words(open_with(opened, study, latent_steering="fitted"))


def test_moving_what_a_pause_sibling_does_not_feed_is_said_to_change_nothing(opened, study):
    with closing(Store(study)) as store:
        models = store.latent_models()
    pause = models.loc[models["sibling"] == "pause", "model_id"].item()
    test = open_with(opened, study, latent_model=pause, latent_space="h")
    assert "moving h changes nothing in it" in test.info[0].value


def test_the_selection_of_the_page_fits_in_a_link(opened, study):
    test = open_with(opened, study, latent_space="h", latent_defects=PUBLISHED, latent_exit="early")
    assert len("&".join(f"{name}={value}" for name, value in test.query_params.items())) < selection.LONGEST
