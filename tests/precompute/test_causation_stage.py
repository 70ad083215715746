"""Anchors and their matches steered on a tiny study: what is stored, that nothing else changes, and that a run that was
stopped goes on.
"""

import shutil
from contextlib import closing
from functools import partial

import numpy as np
import pandas as pd
import pytest

from backend.ids import seed_for
from backend.importance.steered_effects import effects_of_chunk
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import activations, causation, chunks, problems
from precompute.study import Study
from precompute.units import Context
from tests.precompute.test_geometry_stages import Importance, Written, study_of

STAGES = (problems, Written, chunks, activations, Importance, causation)
TABLES = ("directions", "causation_pairs", "causation_samples", "causation_effects")
SETTINGS = {"pairs": 3, "n": 2, "beta": 8.0, "random": 2}


class ByTheLetter:
    """A judge without processes."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def judge(self, pairs):
        return [None if one is None or other is None else one == other for one, other in pairs]


class Hashed:
    """An encoder without weights."""

    def encode(self, sentences):
        rows = np.array([np.random.default_rng(seed_for(one)).standard_normal(4) for one in sentences])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causation, "Judge", ByTheLetter)
        patch.setattr(causation, "_encoder", lambda name: Hashed())
        patch.setattr(causation, "effects_of_chunk", partial(effects_of_chunk, n_bootstrap=3))
        yield


def with_causation(study: Study, **keys) -> Study:
    data = study.model_dump()
    return Study.model_validate(data | {"causation": SETTINGS | keys})


@pytest.fixture(scope="module")
def study(tiny_folder) -> Study:
    plain = study_of(str(tiny_folder("llama")))
    return with_causation(
        plain.model_copy(update={"sampling": plain.sampling.model_copy(update={"max_new_tokens": 16})})
    )


def run(study: Study, folder: StudyFolder, stages=STAGES) -> None:
    run_study(study, folder, stages=stages)


@pytest.fixture(scope="module")
def unsteered(study, tmp_path_factory) -> StudyFolder:
    """All that the stage rests on."""
    made = StudyFolder(tmp_path_factory.mktemp("stores") / "tiny")
    run(study, made, STAGES[:-1])
    return made


@pytest.fixture
def anew(unsteered, tmp_path) -> StudyFolder:
    return StudyFolder(shutil.copytree(unsteered.path, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def folder(study, unsteered, tmp_path_factory) -> StudyFolder:
    made = StudyFolder(shutil.copytree(unsteered.path, tmp_path_factory.mktemp("stores") / "tiny"))
    run(study, made)
    return made


def rows_of(folder: StudyFolder) -> dict[str, pd.DataFrame]:
    with closing(Store(folder.path)) as store:
        return {table: store.whole_table(table).to_pandas() for table in TABLES}


def units_of(study: Study, folder: StudyFolder) -> list:
    with closing(Store(folder.path)) as store:
        return causation.units(Context(study, "r", store, print))


def test_each_pair_has_its_samples_its_effects_and_its_directions(study, folder):
    rows = rows_of(folder)
    pairs, samples, effects = (rows[table] for table in TABLES[1:])
    assert len(pairs) == 3 and (pairs["rule"] != "").all() and (pairs["layer"] == 1).all()
    assert (pairs["anchor_importance"] >= 0.2).all() and (pairs["match_importance"] < 0.2).all()
    assert len(samples) == 3 * 2 * 2 * 3 * 2 and set(samples["role"]) == set(causation.ROLES)
    assert set(samples["direction_id"].dropna()) == set(rows["directions"]["direction_id"])
    assert set(effects["arm"]) == {"steered", "random"} and len(effects) == 3 * 2 * 2 * 22
    for role in causation.ROLES:
        of_role = samples[samples["role"] == role].drop_duplicates("pair_id").set_index("pair_id")["chunk_id"]
        assert (of_role == pairs.set_index("pair_id")[f"{role}_id"]).all()


def test_a_run_that_was_stopped_goes_on_to_the_same_rows(study, folder, anew, monkeypatch):
    steer = causation.steer

    def once(loaded, task):
        yield next(iter(steer(loaded, task)))
        raise KeyboardInterrupt

    monkeypatch.setattr(causation, "steer", once)
    with pytest.raises(KeyboardInterrupt):
        run(study, anew)
    assert len(rows_of(anew)["causation_pairs"]) in (0, 1) and len(anew.ledger().keys(causation.NAME)) == 1
    monkeypatch.setattr(causation, "steer", steer)
    run(study, anew)
    for table, rows in rows_of(folder).items():
        pd.testing.assert_frame_equal(rows, rows_of(anew)[table])


def test_a_pair_more_leaves_the_units_of_those_before_it(study, folder):
    fewer = [unit.key for unit in units_of(with_causation(study, pairs=2), folder)]
    assert fewer == [unit.key for unit in units_of(study, folder)][:2]


@pytest.mark.parametrize("changed", [{"beta": 4.0}, {"n": 3}, {"place": "anchor"}, {"random": 3}, {"layer": 2}])
def test_what_samples_depend_on_is_in_their_key(study, folder, changed):
    assert {unit.key for unit in units_of(study, folder)}.isdisjoint(
        unit.key for unit in units_of(with_causation(study, **changed), folder)
    )


def test_beta_0_gives_equal_arms_and_no_effect(study, anew):
    run(with_causation(study, beta=0.0, pairs=1), anew)
    rows = rows_of(anew)
    text = rows["causation_samples"].set_index(["role", "start", "sample", "arm"])["text"].unstack()
    assert (text["base"] == text["steered"]).all() and (text["base"] == text["random"]).all()
    assert (rows["causation_effects"]["value"].dropna() == 0).all()


def test_a_study_without_the_table_has_no_unit(study, folder):
    without = study.model_copy(update={"causation": None})
    assert units_of(without, folder) == []


def test_the_plan_counts_pairs_and_tokens(study, folder):
    def line(wanted: Study) -> dict:
        return {line.stage: line for line in plan_study(wanted, folder)[0]}.get(causation.NAME)

    own = line(study)
    assert (own.units, own.done) == (3, 3) and line(with_causation(study, n=20)).tokens == 10 * own.tokens > 0
    assert line(study.model_copy(update={"causation": None})) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "random"}, "random directions are the control"),
        ({"model": "nobody"}, "causation.model is 'nobody'"),
        ({"layer": 0}, "causation.layers has"),
        ({"place": "onward"}, "there is no position 'onward'"),
    ],
)
def test_a_study_file_that_asks_for_what_cannot_be_is_refused(study, keys, words):
    with pytest.raises(ValueError, match=words):
        with_causation(study, **keys)


def test_only_the_chunks_of_the_named_model_are_steered(study, folder):
    assert len(units_of(with_causation(study, model=study.models[0].name), folder)) == 3
