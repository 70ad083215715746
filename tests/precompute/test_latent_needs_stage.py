"""Latents are replaced, and what is answered then is stored."""

from contextlib import closing

import pandas as pd
import pytest

from backend.latent.needs import Asked, answers, run_others
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import latent_models
from precompute.latent_models import drawn
from precompute.pipeline import run_study
from precompute.stages import latent_needs, latents
from tests.latent_study import latent_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return latent_study(tmp_path_factory.mktemp("models"), needs={"after": ["recomputed", "kept"]})


@pytest.fixture(scope="module")
def store(study, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("store") / "l")
    run_study(study, folder, stages=[latents, latent_needs])
    with closing(Store(folder.path)) as opened:
        yield opened


def known(values):
    return tuple(None if pd.isna(value) else value for value in values)


def test_every_scored_problem_is_answered_under_every_replacement_of_each_model(store):
    rows = store.latent_needs()
    siblings = store.latent_models().set_index("model_id")["sibling"]
    counts = rows.groupby(rows["model_id"].map(siblings)).size().to_dict()
    assert counts == {"none": 12, "latent": 12 * (2 + 2 * 3 * 2 * 4), "pause": 12 * (2 + 2 * 3 * 2 * 4)}
    assert rows["need_id"].is_unique


def test_what_is_stored_is_what_is_measured_in_one_go(study, store):
    named, problems = study.its_latent.models[0], drawn(study.its_latent, study.seed)
    model = latent_models.loaded(named)
    others = run_others(model, problems.others, 3, 2)
    measured = answers(model, problems.scored, others, Asked(3, 2, after=("recomputed", "kept"), seed=study.seed))
    expected = {
        (one.problem_id, one.replacement, one.step, one.place, one.after): (one.answer, one.is_correct, one.is_donors)
        for one in measured
    }
    rows = store.latent_needs()
    rows = rows[rows["model_id"] == model.model_id]
    keys, told = ["problem_id", "replacement", "step", "place", "after"], ["answer", "is_correct", "is_donors"]
    found = {known(key): known(answer) for key, answer in zip(rows[keys].values, rows[told].values, strict=True)}
    assert found == expected


def test_the_plain_answer_is_that_of_the_plain_run(store):
    differs = store.frame(
        "SELECT count(*) AS n FROM latent_needs n JOIN latent_runs r USING (model_id, problem_id) WHERE n.replacement ="
        " 'plain' AND r.n_latents = 3 AND n.answer IS DISTINCT FROM r.answer"
    )
    assert differs["n"].item() == 0


def test_another_place_is_more_to_do_and_nothing_is_done_twice(study, tmp_path):
    folder = StudyFolder(tmp_path / "l")
    narrow = latent_study(tmp_path / "models", ("latent",), needs={"places": ["z"]})
    run_study(narrow, folder, stages=[latent_needs])
    before = folder.manifest.read_text()
    run_study(narrow, folder, stages=[latent_needs])
    assert folder.manifest.read_text().count('"unit"') == before.count('"unit"')
