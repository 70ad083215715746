"""Models that think in latents are run on the study's problems, and every answer and latent is stored."""

from contextlib import closing

import numpy as np
import pytest
import torch

from backend.latent.asked import question_ids
from backend.latent.loading import load_latent
from backend.latent.loop import run
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.latent_models import drawn
from precompute.pipeline import run_study
from precompute.plan import plan_study, totals
from precompute.stages import STAGES, latents
from tests.latent_study import latent_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return latent_study(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def store(study, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("store") / "l")
    run_study(study, folder, stages=[latents])
    with closing(Store(folder.path)) as opened:
        yield opened


def test_every_model_answers_every_problem_after_each_number_of_latents(study, store):
    runs = store.latent_runs()
    siblings = store.latent_models().set_index("model_id")["sibling"]
    counts = runs.assign(sibling=runs["model_id"].map(siblings)).groupby("sibling")["n_latents"].value_counts()
    assert counts.to_dict() == {("none", 0): 12} | {(s, n): 12 for s in ("latent", "pause") for n in range(4)}


def test_what_is_stored_is_what_the_loop_gives(study, store):
    model = load_latent(study.its_latent.models[0].name)
    problem = drawn(study.its_latent, study.seed).scored[3]
    state = run(model, torch.tensor([question_ids(model, problem.question)]), 2)
    stored = store.frame(
        "SELECT h, token_ids FROM latents l JOIN latent_runs r USING (model_id, problem_id) WHERE model_id = $m AND"
        " problem_id = $p AND step = 2 AND r.n_latents = 2",
        m=model.model_id,
        p=problem.problem_id,
    ).iloc[0]
    np.testing.assert_allclose(stored["h"], state.h[0], rtol=0, atol=1e-4)
    assert stored["token_ids"].tolist() == list(model.answer(state, study.its_latent.max_tokens)[0])


def test_problems_that_are_scored_are_not_those_that_means_are_made_from(store):
    problems = store.latent_problems()
    assert problems["is_scored"].sum() == 12 and (~problems["is_scored"].astype(bool)).sum() == 10
    assert problems["problem_id"].is_unique


def test_a_study_of_latents_alone_runs_through_all_stages_and_a_finished_one_does_nothing(study, tmp_path, capsys):
    folder = StudyFolder(tmp_path / "l")
    run_study(study, folder, stages=STAGES)
    lines = folder.manifest.read_text()
    run_study(study, folder, stages=STAGES)
    assert folder.manifest.read_text().count('"unit"') == lines.count('"unit"')


def test_the_plan_of_a_study_of_latents_alone_has_their_stages_alone_and_is_known(study, tmp_path):
    lines, _ = plan_study(study, StudyFolder(tmp_path / "l"))
    assert {line.stage for line in lines} == {stage.NAME for stage in STAGES if "latent" in stage.NAME}
    assert totals(lines).minutes is not None
