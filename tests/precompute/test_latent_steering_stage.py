"""Models that think in latents are steered, and every map is stored with its answers."""

from contextlib import closing

import pytest

from backend.latent.loading import load_latent
from backend.latent.maps import Setting, difference_map
from backend.latent.outcomes import against_random, cell_table, read_map, seen
from backend.latent.published import PUBLISHED, Arm, taken_apart
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.latent_models import drawn
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import latent_steering, latents
from tests.latent_study import latent_study

STAGES = [latents, latent_steering]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return latent_study(folder, spaces=["h", "kv"], published=[-1.0, 1.0], fitted=[1.0])


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("store") / "l")
    run_study(study, folder, stages=STAGES)
    return folder


@pytest.fixture(scope="module")
def store(folder):
    with closing(Store(folder.path)) as opened:
        yield opened


def stored(store, arm, coefficient, sibling="latent"):
    models, maps = store.latent_models(), store.latent_steerings()
    own = models.loc[models["sibling"] == sibling, "model_id"].item()
    move = arm.move
    maps = maps[
        (maps["model_id"] == own)
        & (maps["space"] == move.space)
        & (maps["vectors"] == move.vectors)
        & (maps["rotated"] == move.rotated)
        & (maps["scored_means"] == move.scored_means)
        & (maps["coefficient"] == coefficient * arm.sign)
    ]
    return maps["steering_id"].tolist()


def test_every_arm_that_takes_the_published_maps_apart_has_its_runs(store):
    for space in PUBLISHED:
        for arm in taken_apart(space):
            assert len(stored(store, arm, 1.0)) == 1
    assert len(stored(store, Arm("kv", PUBLISHED["kv"]), 1.0, "pause")) == 1
    assert len(stored(store, Arm("h", PUBLISHED["h"]), 1.0, "pause")) == 1


def test_no_map_is_made_of_a_sibling_without_latents_or_where_nothing_can_move(store):
    assert stored(store, Arm("h"), 1.0, "pause") == [] and stored(store, Arm("kv"), 1.0, "none") == []


def test_what_is_stored_is_what_a_map_is(study, store):
    (steering_id,) = stored(store, Arm("kv"), 1.0)
    facts = store.latent_steering(steering_id).iloc[0].to_dict()
    own = read_map(facts, store.latent_steering_cells(steering_id))
    problems = drawn(study.its_latent, study.seed)
    setting = Setting(problems.scored, problems.others, 3, 2, 2, study.seed)
    rows = difference_map(load_latent(study.its_latent.models[0].name), setting, Arm("kv").move, 1.0)
    made = {(cell["vector"], cell["target"], cell["exit"]): cell["answers"] for cell in rows["latent_steering_cells"]}
    assert len(made) == len(own.cells)
    for cell in own.cells.to_dict("records"):
        assert list(cell["answers"]) == made[cell["vector"], cell["target"], cell["exit"]]
    assert list(facts["problem_ids"]) == [problem.problem_id for problem in problems.scored]
    assert list(facts["texts"]) == rows["latent_steerings"][0]["texts"]
    table = cell_table(seen(own, Arm("kv"), early=True), seen(own, Arm("kv"), early=True, kind="random"))
    assert len(table) == 9 and table["n"].eq(12).all() and table["n_random"].eq(2).all()
    assert against_random(*(seen(own, Arm("kv"), early=False, kind=k) for k in ("pair", "random"))).n_cells == 9


def test_a_finished_study_does_nothing_and_a_killed_one_only_what_is_left(study, folder):
    lines = folder.manifest.read_text()
    run_study(study, folder, stages=STAGES)
    assert folder.manifest.read_text().count('"unit"') == lines.count('"unit"')
    wanted = study.its_latent
    more = study.model_copy(update={"latent": wanted.model_copy(update={"coefficients": (1.0, 0.5)})})
    before = folder.ledger().keys("latent_steering")
    run_study(more, folder, stages=STAGES)
    added = folder.ledger().keys("latent_steering") - before
    assert len(added) == 3 and all(".0.5@" in key for key in added)  # h and kv of latent, kv of pause


def test_the_plan_counts_the_maps_and_says_what_they_cost(study, folder):
    lines, _ = plan_study(study, folder, stages=STAGES)
    line = next(line for line in lines if line.stage == "latent_steering")
    assert line.units >= line.done > 0 and line.minutes > 0 and line.gigabytes > 0
