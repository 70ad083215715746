"""Readings of latents on the page Latent steps: on a study that has them, and on one whose latents were not read."""

import pytest

from app.latent_steps.views import READINGS
from backend.latent.lenses import LATENT_LENSES, SUBSETS
from backend.latent.summaries import MEASURES
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import latent_readings, latents
from tests.latent_study import briefly_fitted, latent_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PAGE = "latent_steps"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def study(models, tmp_path_factory):
    """Three siblings that were run and read."""
    folder = StudyFolder(tmp_path_factory.mktemp("read") / "small")
    with briefly_fitted():
        run_study(latent_study(models, latents=4, named=["hops"]), folder, stages=[latents, latent_readings])
    return folder.path


@pytest.fixture(scope="module")
def unread(models, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("unread") / "small")
    run_study(latent_study(models, latents=4), folder, stages=[latents])
    return folder.path


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_says_what_is_reported_and_what_is_here(opened, study, reading):
    test = opened(PAGE, study, study="small", latent_reading=reading)
    assert not test.exception, test.exception
    assert "Reported." in words(test) and "Here." in words(test)


@pytest.mark.parametrize("reading", [name for name in READINGS if name != "early"])
def test_a_study_whose_latents_were_not_read_says_how_to_read_them(opened, unread, reading):
    test = opened(PAGE, unread, study="small", latent_reading=reading)
    assert not test.exception and "Latents have not been read yet" in words(test)


@pytest.mark.parametrize("lens", LATENT_LENSES)
@pytest.mark.parametrize("reading", ["layers", "results", "parity", "near"])
def test_every_lens_is_shown_or_said_to_be_unknown(opened, study, reading, lens):
    test = opened(PAGE, study, study="small", latent_reading=reading, latent_lens=lens)
    assert not test.exception, test.exception
    assert LATENT_LENSES[lens].label in words(test)


@pytest.mark.parametrize("colour", MEASURES)
def test_the_map_takes_every_colour_that_its_lens_has(opened, study, colour):
    lens = "embedding" if colour == "cosine" else "logit"
    test = opened(PAGE, study, study="small", latent_reading="layers", latent_lens=lens, latent_colour=colour)
    assert not test.exception and MEASURES[colour].words in words(test)


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("reading", ["layers", "results", "parity", "attention"])
def test_every_subset_is_shown_or_said_to_be_empty(opened, study, reading, subset):
    test = opened(PAGE, study, study="small", latent_reading=reading, latent_subset=subset)
    assert not test.exception, test.exception


def test_a_cell_of_a_link_lists_its_tokens_and_problems(opened, study):
    test = opened(PAGE, study, study="small", latent_reading="layers")
    model = test.session_state["selection"].get("latent_model") or _first_model(study)
    test = opened(PAGE, study, study="small", latent_reading="layers", latent_lens_cell=f"{model}.1.2")
    tables = [list(frame.value.columns) for frame in test.dataframe]
    assert ["token", "problems", "mean probability"] in tables
    examples = next(frame.value for frame in test.dataframe if "top token" in frame.value.columns)
    assert len(examples) == 8 and examples["rank of the answer"].notna().all()


def _first_model(study):
    from contextlib import closing

    from backend.store.store import Store

    with closing(Store(study)) as store:
        return store.latent_models()["model_id"].iloc[0]


def test_one_problem_alone_is_the_open_one(opened, study):
    test = opened(PAGE, study, study="small", latent_reading="layers", latent_alone="yes")
    assert not test.exception and "over 1 problem;" in words(test)
